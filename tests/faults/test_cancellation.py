"""Clients that go away in the middle, and clients that do not read: others do not notice."""

import asyncio
import random
import re
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from interlock import AsyncClient
from interlock.ids import uuid7
from interlock.v1.flow_run_pb2 import FlowRun, FlowRunServiceSetStateRequest
from interlock.v1.flow_run_pb2_grpc import FlowRunServiceStub
from interlock.v1.log_pb2 import TailLogsRequest
from interlock.v1.log_pb2_grpc import LogServiceStub
from interlock.v1.state_pb2 import STATE_TYPE_RUNNING, Proposal, StateDraft

from tests.faults import readback
from tests.faults.history import History
from tests.faults.load import PATIENCE, answer_of
from tests.faults.producer import Producer
from tests.support.servers import ServerProcess

SEED = 20_261_124
"""Of the random moments, so that a failure can be repeated, about."""

_MIB = 1024 * 1024


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.target) as client:
        yield client


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.target) as channel:
        yield channel


@pytest.fixture
async def run(client: AsyncClient) -> FlowRun:
    return await client.create_flow_run(await client.create_flow("flow"), state="running")


def _memory(server: ServerProcess) -> int:
    """The bytes that the server's process has in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


async def test_a_cancelled_transition_happens_once_or_not_at_all(
    server: ServerProcess, channel: grpc.aio.Channel, run: FlowRun
) -> None:
    history, moments = History(), random.Random(SEED)
    stub: Any = FlowRunServiceStub(channel)

    async def propose() -> None:
        proposal = Proposal(id=uuid7(), run_id=run.id, state=StateDraft(type=STATE_TYPE_RUNNING))
        request = FlowRunServiceSetStateRequest(proposal=proposal)
        history.proposed("canceller", proposal.id, run.id)
        call = stub.SetState(request)
        await asyncio.sleep(moments.uniform(0, 0.02))
        call.cancel()
        if moments.random() < 0.5:  # the others are never heard of again
            history.answered(proposal.id, answer_of((await stub.SetState(request)).decision))

    for _ in range(10):
        await asyncio.gather(*(propose() for _ in range(30)))
    await readback.check(server.target, history)


async def test_cancelled_log_streams_lose_and_repeat_nothing(
    server: ServerProcess, run: FlowRun
) -> None:
    history, moments = History(), random.Random(SEED)
    producers = [Producer(history, run.id, pause=0) for _ in range(4)]

    async def disturb() -> None:
        for _ in range(100):
            await asyncio.sleep(moments.uniform(0, 0.01))
            moments.choice(producers).break_off()

    await asyncio.gather(
        disturb(), *(producer.run(server.target, 150, 5, PATIENCE) for producer in producers)
    )
    assert sum(producer.streams for producer in producers) > 2 * len(producers)
    await readback.check(server.target, history)


async def _cancel_tails(channel: grpc.aio.Channel, run_id: str, count: int) -> None:
    moments = random.Random(SEED)
    stub: Any = LogServiceStub(channel)

    async def tail() -> None:
        call = stub.TailLogs(TailLogsRequest(run_id=run_id))
        reading = asyncio.ensure_future(call.read())
        await asyncio.sleep(moments.uniform(0, 0.01))
        call.cancel()
        with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await reading

    for _ in range(count // 50):
        await asyncio.gather(*(tail() for _ in range(50)))


@pytest.mark.parametrize(
    "count", [2_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
async def test_cancelled_tails_leave_nothing_behind(
    count: int, server: ServerProcess, channel: grpc.aio.Channel, run: FlowRun
) -> None:
    await Producer(History(), run.id).run(server.target, 5, 20, PATIENCE)
    # What the process needs once, it has after these.
    await _cancel_tails(channel, run.id, 500)
    before = _memory(server)
    await _cancel_tails(channel, run.id, count)
    grown = _memory(server) - before
    assert grown < 16 * _MIB, f"{grown} bytes more after {count} tails"


async def test_readers_that_never_read_stop_nobody_and_fill_no_memory(
    server: ServerProcess, channel: grpc.aio.Channel, client: AsyncClient, run: FlowRun
) -> None:
    history = History()
    # Some 40 MiB of log, of which each reader could be sent all.
    text = "words " * 400
    writer = Producer(history, run.id, text=text)
    await writer.run(server.target, 80, 200, PATIENCE)
    before = _memory(server)
    stub: Any = LogServiceStub(channel)
    readers = [stub.TailLogs(TailLogsRequest(run_id=run.id)) for _ in range(20)]
    for reader in readers:
        await reader.read()

    await client.set_flow_run_state(run, "running")
    await Producer(history, run.id).run(server.target, 20, 20, PATIENCE)
    grown = _memory(server) - before
    for reader in readers:
        reader.cancel()
    assert grown < 20 * 4 * _MIB, f"{grown} bytes more for {len(readers)} readers"
    await readback.check(server.target, history)


async def test_a_flood_of_logs_holds_up_no_transition(
    server: ServerProcess, client: AsyncClient, run: FlowRun
) -> None:
    history, begun = History(), asyncio.Event()

    def note() -> None:
        if history.progress >= 50:
            begun.set()

    flood = [Producer(history, run.id, note, text="words " * 30) for _ in range(4)]
    flooding = [
        asyncio.create_task(producer.run(server.target, 100_000, 500, PATIENCE))
        for producer in flood
    ]
    try:
        await begun.wait()
        times = []
        for _ in range(50):
            began = time.perf_counter()
            await client.set_flow_run_state(run, "running")
            times.append(time.perf_counter() - began)
    finally:
        for task in flooding:
            task.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)
    # It takes some ten milliseconds. Behind the flood's queue it would take seconds.
    assert statistics.median(times) < 1.0
