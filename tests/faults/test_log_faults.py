"""Streams of logs that break, hang, come twice or say nonsense: each line is stored once."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import pytest
from interlock import AsyncClient, NotFound
from interlock.channel import OPTIONS
from interlock.ids import uuid7
from interlock.log_columns import pack
from interlock.v1.log_pb2 import AppendLogsRequest, AppendLogsResponse
from interlock.v1.log_pb2_grpc import LogServiceStub
from interlock.v1.server_pb2 import GetServerInfoRequest
from interlock.v1.server_pb2_grpc import ServerServiceStub

from tests.faults.blocking import no_logs_written
from tests.faults.log_digests import LogDigests
from tests.faults.log_fleet import check_logs, small_fleet
from tests.support.proxy import Proxy
from tests.support.refusals import refusal_of
from tests.support.servers import ServerProcess

_MIB = 1024 * 1024

_STILL = 0.5
"""Seconds without a step after which a sender that could go on counts as held up."""

_TRANSPORT = 8 * _MIB
"""What may be on its way in gRPC's and the kernel's buffers of both sides, at most."""


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.target, options=OPTIONS) as channel:
        yield channel


@pytest.fixture
async def run_id(server: ServerProcess) -> str:
    async with AsyncClient(server.target) as client:
        return (await client.create_flow_run(await client.create_flow("flow"))).id


class Batches:
    """Numbered batches of a producer for one log, with the digest of all that were made."""

    def __init__(self, run_id: str) -> None:
        self.producer_id = uuid7()
        self.sent = LogDigests()
        self._run_id = run_id
        self._number = 0

    def make(self, count: int, padding: str = "") -> list[AppendLogsRequest]:
        """Make the next batches, of three lines each."""
        made = []
        for _ in range(count):
            self._number += 1
            texts = [f"batch {self._number} line {i}{padding}" for i in range(3)]
            lines = [(self._number, 20, "worker-0.app", text, "", False) for text in texts]
            self.sent.add(self._run_id, lines)
            made.append(
                AppendLogsRequest(number=self._number, run_id=self._run_id, records=pack(lines))
            )
        return made


async def _open(channel: grpc.aio.Channel, producer_id: str) -> tuple[Any, int]:
    """Open a stream; answer it, and what the server says is durable."""
    call: Any = LogServiceStub(channel).AppendLogs()
    await call.write(AppendLogsRequest(producer_id=producer_id))
    return call, (await call.read()).acknowledged


async def _write(call: Any, batches: Iterable[AppendLogsRequest]) -> None:
    for batch in batches:
        await call.write(batch)


async def _read_to(call: Any, number: int) -> None:
    """Read answers up to a batch's, none of which is a refusal."""
    answer = AppendLogsResponse()
    while answer.acknowledged < number:
        answer = await call.read()
        assert not answer.refused


async def test_connections_that_vanish_break_and_stall_lose_and_double_nothing(
    server: ServerProcess,
) -> None:
    fleet = small_fleet()
    async with Proxy("127.0.0.1", server.port) as proxy, asyncio.TaskGroup() as group:
        group.create_task(fleet.work(f"127.0.0.1:{proxy.port}"))
        for share, break_ in (
            (0.2, proxy.abandon_all),
            (0.4, proxy.cut_all),
            (0.5, proxy.abandon_all),
        ):
            await fleet.reaches(share)
            break_()
        await fleet.reaches(0.7)
        # What was on its way arrives when its senders have long been cut off.
        proxy.stall()
        await asyncio.sleep(0.1)
        proxy.abandon_all()
        proxy.go_on()
    assert fleet.resent
    await fleet.check(server)


async def test_a_run_that_is_deleted_while_its_lines_come_costs_them_alone(
    server: ServerProcess,
) -> None:
    fleet = small_fleet()
    async with AsyncClient(server.target) as client, asyncio.TaskGroup() as group:
        group.create_task(fleet.work(server.target))
        await fleet.reaches(0.3)
        deleted = fleet.shared_run_ids[0]
        await client.delete_flow_run(deleted)
        await fleet.reaches(0.6)
        # A stream that breaks now learns of all that was refused and not told.
        for producer in fleet.producers:
            producer.break_off()
    assert fleet.refusals() == {deleted: {"DELETED"}}
    fleet.sent.forget(deleted)
    await fleet.check(server)
    async with AsyncClient(server.target) as client:
        with pytest.raises(NotFound):
            _ = [record async for record in client.list_logs(deleted)]


async def test_two_streams_of_one_producer_store_each_batch_once(
    server: ServerProcess, channel: grpc.aio.Channel, run_id: str
) -> None:
    batches = Batches(run_id)
    old, _ = await _open(channel, batches.producer_id)
    await _write(old, batches.make(5))
    await _read_to(old, 5)
    async with no_logs_written(server.database_url):
        # The old one hangs: what it has sent is on its way to the database, unanswered.
        hanging = batches.make(10)
        await _write(old, hanging)
        new, durable = await _open(channel, batches.producer_id)
        assert durable == 5
        fresh = batches.make(10)
        await _write(new, [*hanging, *fresh])
    await _read_to(new, 25)
    # Nor can it do harm later.
    await _write(old, fresh)
    await _read_to(old, 25)
    old.cancel()
    new.cancel()
    await check_logs(server, batches.sent)


async def test_a_stream_that_is_half_closed_is_answered_to_its_end(
    server: ServerProcess, channel: grpc.aio.Channel, run_id: str
) -> None:
    batches = Batches(run_id)
    async with no_logs_written(server.database_url):
        call, _ = await _open(channel, batches.producer_id)
        await _write(call, batches.make(20))
        await call.done_writing()
    await _read_to(call, 20)
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    await check_logs(server, batches.sent)


async def test_what_was_sent_before_a_message_that_is_none_is_durable(
    server: ServerProcess, channel: grpc.aio.Channel, run_id: str
) -> None:
    batches = Batches(run_id)
    append: Any = channel.stream_stream("/interlock.v1.LogService/AppendLogs")
    call = append()
    await call.write(AppendLogsRequest(producer_id=batches.producer_id).SerializeToString())
    for batch in batches.make(3):
        await call.write(batch.SerializeToString())
    (broken,) = Batches(run_id).make(1)
    # A message that is no UTF-8, which the client's own protobuf would not let pass.
    await call.write(broken.SerializeToString().replace(b"batch 1 line 1", b"batch \xff line 1"))
    answered = 0

    async def read() -> None:
        nonlocal answered
        while (data := await call.read()) is not grpc.aio.EOF:
            answered = AppendLogsResponse.FromString(data).acknowledged

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await read()
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal_of(failed.value).reason == "UNDECODABLE"
    assert answered == 3
    again, durable = await _open(channel, batches.producer_id)
    assert durable == 3
    again.cancel()
    await check_logs(server, batches.sent)


async def test_no_more_than_the_window_is_taken_in_while_nothing_is_durable(
    server: ServerProcess, channel: grpc.aio.Channel, run_id: str
) -> None:
    info = await ServerServiceStub(channel).GetServerInfo(GetServerInfoRequest())
    window = info.limits.log_window_bytes
    batches = Batches(run_id)
    requests = batches.make(3 * (window + _TRANSPORT) // _MIB, "x" * (_MIB // 3))
    taken = 0
    call, _ = await _open(channel, batches.producer_id)

    async def send() -> None:
        nonlocal taken
        for request in requests:
            await call.write(request)
            taken += request.ByteSize()

    async with no_logs_written(server.database_url):
        sending = asyncio.create_task(send())
        before = -1
        while before < taken:
            before = taken
            await asyncio.wait({sending}, timeout=_STILL)
        assert not sending.done()
        assert window <= taken < window + _TRANSPORT
    await sending
    await _read_to(call, len(requests))
    call.cancel()
    await check_logs(server, batches.sent)
