"""A SQLite database that is locked, full, failing, read-only or missing: said at once, no hang.

How the disk is made full: by the kernel's limit on the size of the server's files, which is lifted
again from outside; and by a file system of a few MiB of the server's own, where the tests may make
one. The first gives SQLite an error of writing, the second says that the disk is full.
"""

import asyncio
import os
import resource
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from interlock import AsyncClient
from interlock.ids import uuid7
from interlock.log_columns import pack
from interlock.v1.flow_pb2 import CreateFlowRequest, Flow
from interlock.v1.flow_pb2_grpc import FlowServiceStub
from interlock.v1.log_pb2 import AppendLogsRequest
from interlock.v1.log_pb2_grpc import LogServiceStub

from tests.faults import health
from tests.support.refusals import refusal_of
from tests.support.servers import ServerFailed, ServerProcess, sqlite_url

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "database" / "interlock.db"


@pytest.fixture
async def server(file: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(sqlite_url(file))
    file.parent.mkdir()
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.close)


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.target) as channel:
        yield channel


async def _create_flow(channel: grpc.aio.Channel, name: str = "") -> Flow:
    request = CreateFlowRequest(name=name or uuid7(), tags=["x" * 200] * 10)
    return (await FlowServiceStub(channel).CreateFlow(request, timeout=30)).flow


async def _fails(channel: grpc.aio.Channel, *reasons: str) -> None:
    """A write is answered UNAVAILABLE with one of these reasons, and when to try again."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await _create_flow(channel)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refusal_of(failed.value).reason in reasons
    assert refusal_of(failed.value).retry_after


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Another program holds the write lock."""
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


async def test_a_locked_database_is_told_and_reads_go_on(
    file: Path, channel: grpc.aio.Channel, server: ServerProcess
) -> None:
    kept = await _create_flow(channel)
    with _locked(file):
        writing = asyncio.ensure_future(_fails(channel, "DATABASE_LOCKED"))
        async with AsyncClient(server.target) as client:
            assert await client.get_flow(kept.id) == kept
        await writing
    await _create_flow(channel)


async def test_a_log_batch_that_can_not_be_written_takes_those_behind_it_along(
    file: Path, channel: grpc.aio.Channel, server: ServerProcess
) -> None:
    """Or the number of one that was written would tell the producer that all before it were."""
    async with AsyncClient(server.target) as client:
        run = await client.create_flow_run(await client.create_flow("flow"))

        def batch(number: int) -> AppendLogsRequest:
            line = pack([(0, 20, "", f"line {number}", "", False)])
            return AppendLogsRequest(
                producer_id=producer, number=number, run_id=run.id, records=line
            )

        producer = uuid7()
        stub = LogServiceStub(channel)
        with _locked(file):
            call: Any = stub.AppendLogs()
            await call.write(batch(1))
            for number in (2, 3, 4):
                await call.write(batch(number))
            assert (await call.read()).acknowledged == 0
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call.read()
            assert refusal_of(failed.value).reason == "DATABASE_LOCKED"
        # Some of the other batches wait in the server's queue yet. They have to be gone.
        await client.create_flow("a write that comes behind them")

        again: Any = stub.AppendLogs()
        await again.write(AppendLogsRequest(producer_id=producer))
        assert (await again.read()).acknowledged == 0
        for number in (1, 2, 3, 4):
            await again.write(batch(number))
        while (await again.read()).acknowledged < 4:
            pass
        again.cancel()
        lines = [record.message async for record in client.list_logs(run)]
        assert lines == [f"line {number}" for number in (1, 2, 3, 4)]


async def test_a_disk_that_can_not_be_written_harms_nothing_and_recovers(
    server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    kept = await _create_flow(channel)
    # Everything beyond the first page of each file fails to be written: also the server's log.
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    for _ in range(3):
        await _fails(channel, "DATABASE_IO_ERROR")
    async with AsyncClient(server.target) as client:
        assert await client.get_flow(kept.id) == kept
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, UNLIMITED)
        made = await _create_flow(channel)
        assert {flow.id async for flow in client.list_flows()} == {kept.id, made.id}
    await asyncio.to_thread(server.restart)
    async with AsyncClient(server.target) as client:
        assert {flow.id async for flow in client.list_flows()} == {kept.id, made.id}
    _is_sound(server)


async def test_a_full_disk_is_told_and_recovers_when_there_is_room(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    own_file_system = (
        *("unshare", "--mount", "--map-root-user", "sh", "-c"),
        f'mount -t tmpfs -o size=3m tmpfs "{folder}" && exec "$@"',
        "sh",
    )
    if not shutil.which("unshare"):
        pytest.skip("There is no `unshare` to make a file system of one's own.")
    server = ServerProcess(sqlite_url(folder / "interlock.db"), wrapper=own_file_system)
    try:
        try:
            await asyncio.to_thread(server.start)
        except ServerFailed as error:
            if "unshare" in str(error) or "mount" in str(error):
                pytest.skip("This system allows no file system of one's own.")
            raise
        inside = Path(f"/proc/{server.pid}/root{folder}")
        async with grpc.aio.insecure_channel(server.target) as channel:
            kept = await _create_flow(channel)
            _fill(inside / "filler")
            async with AsyncClient(server.target) as client:
                # What SQLite has room for already it can still write.
                made = await _writes_until_full(channel)
                assert (await client.get_flow(kept.id)).name == kept.name
                await _fails(channel, "DATABASE_FULL", "DATABASE_IO_ERROR")
                (inside / "filler").unlink()
                made |= {kept.id, (await _create_flow(channel)).id}
                assert {flow.id async for flow in client.list_flows()} == made
    finally:
        await asyncio.to_thread(server.close)


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * 4096)
        except OSError:
            return


async def _writes_until_full(channel: grpc.aio.Channel) -> set[str]:
    made = set()
    for _ in range(10_000):
        try:
            made.add((await _create_flow(channel)).id)
        except grpc.aio.AioRpcError:
            return made
    raise AssertionError("It is never full.")


async def test_a_file_that_is_deleted_or_replaced_is_not_written(
    file: Path, channel: grpc.aio.Channel
) -> None:
    kept = await _create_flow(channel)
    aside = file.with_name("aside.db")
    os.rename(file, aside)
    await _fails(channel, "DATABASE_MISSING")
    shutil.copy(aside, file)
    await _fails(channel, "DATABASE_MISSING")
    await health.becomes(channel, health.NOT_SERVING)
    os.rename(aside, file)
    await health.becomes(channel, health.SERVING)
    assert (await _create_flow(channel, kept.name)).id == kept.id


async def test_a_missing_database_is_made_anew_at_the_start(
    file: Path, server: ServerProcess
) -> None:
    await asyncio.to_thread(server.stop)
    shutil.rmtree(file.parent)
    await asyncio.to_thread(server.start)
    async with AsyncClient(server.target) as client:
        assert [flow async for flow in client.list_flows()] == []


async def test_a_file_that_is_no_database_is_a_clear_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "letter.db").write_text("Dear reader, this is no database. " * 100)
    server = ServerProcess(sqlite_url(tmp_path / "letter.db"))
    with pytest.raises(ServerFailed, match=r"letter\.db can not be opened"):
        await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.close)


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_read_only_database_is_a_clear_error_at_the_start(
    what: str, file: Path, server: ServerProcess
) -> None:
    await asyncio.to_thread(server.stop)
    path = file if what == "file" else file.parent
    path.chmod(0o444 if what == "file" else 0o555)
    reader = ServerProcess(server.database_url, wrapper=_BOUND_BY_MODES)
    try:
        with pytest.raises(ServerFailed, match=r"Error: .* can not be written"):
            await asyncio.to_thread(reader.start)
    finally:
        path.chmod(0o755)
        await asyncio.to_thread(reader.close)


# Root may write what is read-only, unless these two capabilities are taken from it.
_BOUND_BY_MODES = (
    sys.executable,
    "-c",
    "import ctypes, os, sys\n"
    "prctl, drop_from_bounding_set = ctypes.CDLL(None).prctl, 24\n"
    "for capability in (1, 2):\n"
    "    prctl(drop_from_bounding_set, capability, 0, 0, 0)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n",
)


def _is_sound(server: ServerProcess) -> None:
    path = server.database_url.partition("///")[2]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
