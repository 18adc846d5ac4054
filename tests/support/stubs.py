"""All stubs of a server on one channel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1.health_pb2_grpc import HealthStub
from interlock.v1.deployment_pb2_grpc import DeploymentServiceStub
from interlock.v1.flow_pb2_grpc import FlowServiceStub
from interlock.v1.flow_run_pb2_grpc import FlowRunServiceStub
from interlock.v1.log_pb2_grpc import LogServiceStub
from interlock.v1.run_event_pb2_grpc import RunEventServiceStub
from interlock.v1.run_heartbeat_pb2_grpc import RunHeartbeatServiceStub
from interlock.v1.server_pb2_grpc import ServerServiceStub
from interlock.v1.task_run_pb2_grpc import TaskRunServiceStub

_ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Stubs:
    """Blocking stubs of the data services. Any number of threads may call at once."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.server = ServerServiceStub(channel)
        self.flows = FlowServiceStub(channel)
        self.deployments = DeploymentServiceStub(channel)
        self.flow_runs = FlowRunServiceStub(channel)
        self.task_runs = TaskRunServiceStub(channel)
        self.heartbeats = RunHeartbeatServiceStub(channel)
        self.logs = LogServiceStub(channel)
        self.run_events = RunEventServiceStub(channel)
        # Its type stubs name no methods.
        self.health: Any = HealthStub(channel)


@contextmanager
def connected(target: str) -> Iterator[Stubs]:
    """Stubs on a channel of their own, which takes and sends messages of any size."""
    with grpc.insecure_channel(target, options=_ANY_SIZE) as channel:
        yield Stubs(channel)
