"""A server in this process, so that its tasks can be counted: cancelled calls leave none."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from interlock import AsyncClient
from interlock.ids import uuid7
from interlock.v1.flow_run_pb2 import FlowRun, FlowRunServiceSetStateRequest
from interlock.v1.flow_run_pb2_grpc import FlowRunServiceStub
from interlock.v1.log_pb2 import AppendLogsRequest, TailLogsRequest
from interlock.v1.log_pb2_grpc import LogServiceStub
from interlock.v1.run_event_pb2 import WatchRunsRequest
from interlock.v1.run_event_pb2_grpc import RunEventServiceStub
from interlock.v1.state_pb2 import STATE_TYPE_RUNNING, Proposal, StateDraft

from tests.support.servers import in_this_process

_POLL = 0.02
"""Seconds between two looks at the tasks."""


@pytest.fixture
async def target(database_url: str) -> AsyncIterator[str]:
    async with in_this_process(database_url) as target:
        yield target


async def test_cancelled_calls_leave_no_task_behind(target: str) -> None:
    moments = random.Random(7)
    async with AsyncClient(target) as client, grpc.aio.insecure_channel(target) as channel:
        run = await client.create_flow_run(await client.create_flow("flow"))
        runs: Any = FlowRunServiceStub(channel)
        logs: Any = LogServiceStub(channel)
        events: Any = RunEventServiceStub(channel)

        def start(i: int) -> Any:
            if i % 4 == 0:
                return runs.SetState(_request(run))
            if i % 4 == 1:
                return events.WatchRuns(WatchRunsRequest())
            if i % 4 == 2:
                return logs.TailLogs(TailLogsRequest(run_id=run.id))
            return logs.AppendLogs(iter([AppendLogsRequest(producer_id=uuid7())] * 3))

        async def call_and_cancel(i: int) -> None:
            call = start(i)
            await asyncio.sleep(moments.uniform(0, 0.01))
            call.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await call.code()

        await asyncio.gather(*map(call_and_cancel, range(4)))
        before = await _settled()
        for _ in range(10):
            await asyncio.gather(*map(call_and_cancel, range(60)))
        after = await _settled()
        assert after <= before, [task.get_coro() for task in asyncio.all_tasks()]


async def _settled() -> int:
    """Answer how many tasks there are once no more of them end: half a second without one."""
    fewest, still = len(asyncio.all_tasks()), 0
    while still < 25:
        await asyncio.sleep(_POLL)
        still = still + 1 if len(asyncio.all_tasks()) >= fewest else 0
        fewest = min(fewest, len(asyncio.all_tasks()))
    return fewest


def _request(run: FlowRun) -> FlowRunServiceSetStateRequest:
    proposal = Proposal(id=uuid7(), run_id=run.id, state=StateDraft(type=STATE_TYPE_RUNNING))
    return FlowRunServiceSetStateRequest(proposal=proposal)
