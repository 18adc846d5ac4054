"""All services of the contract in one object: one method an RPC."""

from __future__ import annotations

from interlock._async.deployments import Deployments
from interlock._async.flow_runs import FlowRuns
from interlock._async.flows import Flows
from interlock._async.heartbeats import Heartbeats
from interlock._async.logs import Logs
from interlock._async.run_events import RunEvents
from interlock._async.steering import Steering
from interlock._async.task_runs import TaskRuns
from interlock.v1.server_pb2 import GetServerInfoResponse


class Services(Flows, Deployments, FlowRuns, TaskRuns, Steering, Heartbeats, Logs, RunEvents):
    """The services' parts, and what the server says about itself."""

    async def get_server_info(self) -> GetServerInfoResponse:
        """Answer the server's version, features and limits."""
        return await self._calls.server_info()
