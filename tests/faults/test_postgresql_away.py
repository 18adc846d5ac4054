"""PostgreSQL goes away under load, or just falls silent: callers hear of it, and all goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from interlock.ids import uuid7
from interlock.v1.flow_pb2 import CreateFlowRequest, GetFlowRequest
from interlock.v1.flow_pb2_grpc import FlowServiceStub

from tests.faults import health, load, readback
from tests.faults.history import History
from tests.faults.load import Load
from tests.faults.log_fleet import small_fleet
from tests.support.needs import Unavailable, go_without
from tests.support.postgresql import NEWEST, PostgresqlServer
from tests.support.proxy import PostgresqlProxy
from tests.support.refusals import refusal_of
from tests.support.servers import ServerProcess

BOUND = 30.0
"""Seconds within which a call is answered, whatever the database does. Only a safety net: a call
that is not answered by then hangs."""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresqlServer]:
    """A server that may be stopped."""
    try:
        server = PostgresqlServer(NEWEST)
    except Unavailable as reason:
        go_without("POSTGRESQL", reason)
    with server:
        yield server


@pytest.fixture(scope="module")
async def proxy(postgresql: PostgresqlServer) -> AsyncIterator[PostgresqlProxy]:
    async with PostgresqlProxy(postgresql.create_database("away")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
async def server(proxy: PostgresqlProxy) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(proxy.url)
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.close)


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.target) as channel:
        yield channel


async def _answers_unavailable(channel: grpc.aio.Channel) -> None:
    """A write and a read are answered within bounds: UNAVAILABLE, and when to try again."""
    flows = FlowServiceStub(channel)
    calls = (
        flows.CreateFlow(CreateFlowRequest(name=uuid7()), timeout=BOUND),
        flows.GetFlow(GetFlowRequest(name="load"), timeout=BOUND),
    )
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(answer, grpc.aio.AioRpcError), answer
        assert answer.code() is grpc.StatusCode.UNAVAILABLE, answer
        assert refusal_of(answer).reason
        assert refusal_of(answer).retry_after


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_stopped_and_started_again_under_load(
    end: str, postgresql: PostgresqlServer, server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    history, fleet = History(), small_fleet()
    working = Load(server.target, history)
    async with asyncio.TaskGroup() as group:
        group.create_task(working.run())
        group.create_task(fleet.work(server.target))
        await asyncio.gather(working.reaches(0.3), fleet.reaches(0.3))
        await asyncio.to_thread(getattr(postgresql, end))
        await _answers_unavailable(channel)
        await health.becomes(channel, health.NOT_SERVING)
        await asyncio.to_thread(postgresql.start)
        await health.becomes(channel, health.SERVING)
    assert not history.unanswered
    await readback.check(server.target, history)
    assert fleet.resent
    await fleet.check(server)


async def test_a_silent_database_hangs_no_call(
    proxy: PostgresqlProxy, server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    history, fleet = History(), small_fleet()
    working = Load(server.target, history)
    async with asyncio.TaskGroup() as group:
        group.create_task(working.run())
        group.create_task(fleet.work(server.target))
        await asyncio.gather(working.reaches(0.3), fleet.reaches(0.3))
        proxy.stall()
        await _answers_unavailable(channel)
        await health.becomes(channel, health.NOT_SERVING)
        await _answers_unavailable(channel)
        proxy.go_on()
        await health.becomes(channel, health.SERVING)
    assert not history.unanswered
    await readback.check(server.target, history)
    assert fleet.resent
    await fleet.check(server)


async def test_a_server_starts_without_its_database_and_serves_when_it_comes(
    postgresql: PostgresqlServer, proxy: PostgresqlProxy, server: ServerProcess
) -> None:
    # `server` has made the schema; this one finds nobody there.
    await asyncio.to_thread(postgresql.stop)
    other = ServerProcess(proxy.url)
    try:
        await asyncio.to_thread(other.start)
        async with grpc.aio.insecure_channel(other.target) as channel:
            await health.becomes(channel, health.NOT_SERVING)
            await _answers_unavailable(channel)
            await asyncio.to_thread(postgresql.start)
            await health.becomes(channel, health.SERVING)
            flows = FlowServiceStub(channel)
            assert (await flows.CreateFlow(CreateFlowRequest(name=uuid7()))).created
    finally:
        await asyncio.to_thread(other.close)
        await asyncio.to_thread(postgresql.start)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_many_outages(
    postgresql: PostgresqlServer, server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    history = History()
    working = Load(server.target, history, load.LONG)
    async with asyncio.TaskGroup() as group:
        group.create_task(working.run())
        for i in range(20):
            await working.reaches((i + 1) / 22)
            await asyncio.to_thread((postgresql.stop, postgresql.kill)[i % 2])
            await health.becomes(channel, health.NOT_SERVING)
            await asyncio.to_thread(postgresql.start)
            await health.becomes(channel, health.SERVING)
    await readback.check(server.target, history)
