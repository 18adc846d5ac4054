"""Small chunks of logs are merged, and nobody who reads or writes notices."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import pytest_asyncio
from interlock.admin.v1 import maintenance_pb2
from interlock.admin.v1.maintenance_pb2_grpc import MaintenanceServiceStub
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb
from interlock_server.core.engine import Engine
from interlock_server.core.logs.appends import AppendLog
from interlock_server.core.logs.chunks import compress
from interlock_server.core.logs.deletion import CutLog
from interlock_server.core.logs.merging import Joined, merge_logs
from interlock_server.core.runs import DeleteRun
from interlock_server.rpc import log_records
from interlock_server.rpc.log_service import LogService
from interlock_server.rules.log_merging import FAN_OUT, LARGE_RECORDS, REST
from interlock_server.storage import log_merge_queries, migrations, tables
from interlock_server.storage.dialects import open_database
from interlock_server.storage.records import RunKind
from sqlalchemy import Connection, delete, select, update

from tests.support.logs import append, messages_of, read_log, record_batch
from tests.support.operators import maintenance_of
from tests.support.runs import COMPLETED, RUNNING, FlowRuns, make_flow_run, make_task_run, proposal
from tests.support.runs import until as wait_until
from tests.support.servers import IN_MEMORY, ServerProcess, server_on, sqlite_url
from tests.support.stored import Rows, ago, counts
from tests.support.stubs import Stubs, connected

FAR = 2**60
"""A time at which every log has rested."""


# --- under the eyes of readers -------------------------------------------------------------------


@pytest_asyncio.fixture(params=["sqlite_file", "sqlite_memory", "postgresql_13", "postgresql_18"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """A server without loops, on an empty database."""
    if request.param.startswith("postgresql"):
        with request.getfixturevalue(request.param).database() as url:
            async with running(url) as engine:
                yield engine
        return
    url = IN_MEMORY if request.param == "sqlite_memory" else sqlite_url(tmp_path / "interlock.db")
    async with running(url) as engine:
        yield engine


class running:  # noqa: N801
    """An engine while it runs."""

    def __init__(self, url: str) -> None:
        self._engine = Engine(open_database(url))

    async def __aenter__(self) -> Engine:
        self._engine.database.create()
        await migrations.upgrade(self._engine.database)
        self._engine.start()
        return self._engine

    async def __aexit__(self, *_: object) -> None:
        await self._engine.stop()


class Log:
    """The log of a run, and a producer that writes to it."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self.engine = engine
        self.run_id = run_id
        self.producer = uuid7()
        self.count = 0
        self._service = LogService(engine)

    @classmethod
    async def of_a_run(cls, engine: Engine) -> "Log":
        rows = Rows()
        run_id = rows.run("flow_run", ago(0), flow_id=rows.flow(), digest=b"digest")
        await rows.put(engine.database)
        return cls(engine, run_id)

    async def write(self, *sizes: int, **columns: Any) -> None:
        """Batches of so many records, one after the other."""
        for size in sizes:
            self.count += 1
            messages = [f"{self.count}.{place}" for place in range(size)]
            request = record_batch(self.run_id, *messages, number=self.count, **columns)
            batch = log_records.batch(self.producer, request)
            await self.engine.pipeline.submit(AppendLog(batch, await compress(batch.packed)))

    async def merge(self, now: int = FAR, engine: Engine | None = None) -> int:
        engine = engine or self.engine
        return await merge_logs(
            engine.database, engine.pipeline, log_records.join, [self.run_id], now
        )

    async def page(self, token: str = "", **request: Any) -> pb.ListLogsResponse:
        asked = pb.ListLogsRequest(run_id=self.run_id, page_token=token, **request)
        return await self._service.ListLogs(asked, ANY)

    def tail(self, **request: Any) -> AsyncIterator[pb.TailLogsResponse]:
        asked = pb.TailLogsRequest(run_id=self.run_id, **request)
        return self._service.TailLogs(asked, ANY)

    async def chunks(self) -> list[tuple[int, int, int]]:
        """The first and last ordinal and the level of each chunk."""
        chunk = tables.log_chunk.c
        statement = (
            select(chunk.first_ordinal, chunk.last_ordinal, chunk.level)
            .where(chunk.run_id == self.run_id)
            .order_by(chunk.first_ordinal)
        )
        return [tuple(row) for row in await self.rows(statement)]

    async def rows(self, statement: Any) -> Sequence[Any]:
        def read(connection: Connection) -> Sequence[Any]:
            found = connection.execute(statement)
            answer: Sequence[Any] = found.all() if found.returns_rows else ()
            connection.commit()
            return answer

        return await self.engine.database.migrate(read)

    async def due(self) -> list[int]:
        return [row[0] for row in await self.rows(select(tables.log_merge.c.due))]


@pytest_asyncio.fixture
async def log(engine: Engine) -> Log:
    """A log that has nothing yet."""
    return await Log.of_a_run(engine)


def ordinals(records: Sequence[pb.LogRecord]) -> list[int]:
    return [record.ordinal for record in records]


async def test_a_tail_sees_each_record_once_when_its_log_is_merged(log: Log) -> None:
    await log.write(*[1] * 20)
    tail = log.tail()
    seen = [record for _ in range(3) for record in (await anext(tail)).records]
    assert await log.merge() == 1
    assert len(await log.chunks()) == 1
    while len(seen) < 20:
        seen += (await anext(tail)).records
    await log.write(2, 3)
    await log.merge()
    while len(seen) < 25:
        seen += (await anext(tail)).records
    assert ordinals(seen) == list(range(25))
    await tail.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("descending", [False, True])
async def test_pages_go_on_where_they_were_when_their_log_is_merged(
    log: Log, descending: bool
) -> None:
    await log.write(*[3] * 7)
    first = await log.page(page_size=4, descending=descending)
    assert await log.merge() == 1
    second = await log.page(first.next_page_token, page_size=4, descending=descending)
    await log.write(5)
    await log.merge()
    rest = await log.page(second.next_page_token, page_size=100, descending=descending)
    expected = list(range(20, -1, -1)) if descending else list(range(26))
    seen = [*first.records, *second.records, *rest.records]
    assert ordinals(seen) == expected
    by_ordinal = {record.ordinal: record.message for record in seen}
    assert [by_ordinal[place] for place in range(21)] == [
        f"{n}.{i}" for n in range(1, 8) for i in range(3)
    ]


async def test_a_merged_log_says_of_each_record_what_it_said(log: Log) -> None:
    tasks = [uuid7(), uuid7()]
    moment = {"seconds": 50}
    await log.write(2, loggers=["a"], levels=[10, 50], base_time=moment, continued=[1])
    await log.write(2, loggers=["b", "a"], logger_indexes=[1, 0], task_run_ids=tasks[:1])
    await log.write(1)
    await log.write(2, task_run_ids=tasks, task_run_indexes=[2, 0], time_offsets_us=[-5, 7])
    filters = [
        {},
        {"min_level": 40},
        {"task_run_ids": tasks[:1]},
        {"task_run_ids": tasks[1:]},
        {"until": {"seconds": 51}},
    ]
    before = [(await log.page(filter=given)).records for given in filters]
    assert [len(records) for records in before] == [7, 1, 2, 1, 2]
    assert await log.merge() == 1
    assert await log.chunks() == [(0, 6, 1)]
    assert [(await log.page(filter=given)).records for given in filters] == before
    side = tables.log_chunk_task_run
    assert sorted(row[0] for row in await log.rows(select(side.c.task_run_id))) == sorted(tasks)


# --- when -----------------------------------------------------------------------------------------


async def test_a_log_is_heard_of_from_its_second_chunk_on(log: Log) -> None:
    await log.write(1)
    assert await log.due() == []
    await log.write(1)
    (resting,) = await log.due()
    assert resting >= ago(0) + REST - 60_000_000
    await log.write(*[1] * (FAN_OUT - 2))
    assert await log.due() == [resting]
    await log.write(1)
    (now,) = await log.due()
    assert now <= ago(0)


async def test_a_log_whose_producers_are_done_is_merged_at_once(log: Log) -> None:
    await log.write(1, 1)
    await log.write(0, end_of_run=True)
    (due,) = await log.due()
    assert due <= ago(0)
    assert await log.merge(due) == 1
    assert await log.chunks() == [(0, 1, 1)]
    assert await log.due() == []


async def test_a_log_that_grows_is_merged_in_levels_and_looked_at_again_when_it_rests(
    log: Log,
) -> None:
    now = ago(0)
    await log.write(*[1] * (FAN_OUT + 1))
    await log.merge(now)
    assert await log.chunks() == [(0, FAN_OUT, 1)]
    assert await log.due() == []
    await log.write(1, 1)
    await log.merge(now)
    assert len(await log.chunks()) == 3, "it grows, and has few chunks"
    (due,) = await log.due()
    assert due > now
    await log.merge(due)
    assert await log.chunks() == [(0, FAN_OUT + 2, 1)]
    assert await log.due() == []


async def test_large_chunks_stay_and_what_is_before_them_is_sealed(log: Log) -> None:
    await log.write(LARGE_RECORDS, 1, 2, LARGE_RECORDS)
    await log.merge()
    last = 2 * LARGE_RECORDS + 2
    assert await log.chunks() == [
        (0, LARGE_RECORDS - 1, 0),
        (LARGE_RECORDS, LARGE_RECORDS + 2, 1),
        (LARGE_RECORDS + 3, last, 0),
    ]
    sealed = await log.rows(
        select(tables.log_head.c.sealed_ordinal, tables.log_head.c.small_chunks)
    )
    assert [tuple(row) for row in sealed] == [(last + 1, 0)]


async def test_what_an_earlier_release_has_left_is_merged_when_more_comes(log: Log) -> None:
    await log.write(1, 1, 1)
    # As the migration leaves a log: its chunks are not counted, and it is not to be looked at.
    await log.rows(update(tables.log_head).values(small_chunks=0))
    await log.rows(delete(tables.log_merge))
    await log.write(LARGE_RECORDS, 1)
    assert len(await log.due()) == 1
    await log.merge()
    last = LARGE_RECORDS + 3
    assert await log.chunks() == [(0, 2, 1), (3, last - 1, 0), (last, last, 0)]


# --- what comes between ---------------------------------------------------------------------------


def in_between(monkeypatch: pytest.MonkeyPatch, work: Any) -> None:
    """Have something done once between the reading of chunks and the command that replaces them."""
    read = log_merge_queries.list_chunks_in

    async def then(database: Any, ranges: Any) -> Any:
        found = await read(database, ranges)
        monkeypatch.undo()
        await work()
        return found

    monkeypatch.setattr(log_merge_queries, "list_chunks_in", then)


async def test_a_run_that_is_deleted_meanwhile_stays_deleted(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.write(1, 1)
    delete = DeleteRun(RunKind.FLOW_RUN, log.run_id)
    in_between(monkeypatch, lambda: log.engine.pipeline.submit(delete))
    assert await log.merge() == 0
    assert set(await counts(log.engine.database)) - {"watch_epoch"} == {"flow", "deleted_run"}


async def test_a_deletion_leaves_what_came_later_also_in_a_merged_chunk(log: Log) -> None:
    await log.write(1, 1, 1)
    await log.merge()
    deleted = await log.engine.pipeline.submit(CutLog(log.run_id, None, 2))
    assert deleted.records == 0
    assert ordinals((await log.page()).records) == [0, 1, 2]


async def test_what_another_has_merged_meanwhile_is_not_merged_twice(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.write(1, 1, 1)
    in_between(monkeypatch, log.merge)
    assert await log.merge() == 0
    assert await log.chunks() == [(0, 2, 1)]


async def test_what_is_appended_meanwhile_is_kept_and_merged_next(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.write(1, 1, 1)
    in_between(monkeypatch, lambda: log.write(1, LARGE_RECORDS, 2))
    assert await log.merge() == 1
    assert len(await log.due()) == 1
    await log.merge()
    large = 4 + LARGE_RECORDS
    assert await log.chunks() == [(0, 3, 1), (4, large - 1, 0), (large, large + 1, 0)]
    assert ordinals((await log.page(page_size=1000)).records) == list(range(1000))


async def test_what_is_deleted_meanwhile_stays_deleted(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.write(1, 1)
    await asyncio.sleep(0.002)
    middle = ago(0)
    await asyncio.sleep(0.002)
    await log.write(1, 1)
    cut = CutLog(log.run_id, middle)
    in_between(monkeypatch, lambda: log.engine.pipeline.submit(cut))
    assert await log.merge() == 0
    assert await log.chunks() == [(2, 2, 0), (3, 3, 0)]
    assert await log.merge() == 1
    assert await log.chunks() == [(2, 3, 1)]


async def test_a_log_that_is_deleted_whole_meanwhile_goes_on_and_is_merged_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.write(1, 1, 1)
    in_between(monkeypatch, lambda: log.engine.pipeline.submit(CutLog(log.run_id, None)))
    assert await log.merge() == 0
    assert await log.chunks() == []
    await log.merge()
    assert await log.due() == []
    await log.write(1, 1)
    assert len(await log.due()) == 1
    assert await log.merge() == 1
    assert await log.chunks() == [(3, 4, 1)]


async def test_a_damaged_chunk_stops_neither_its_log_nor_others(log: Log) -> None:
    other = await Log.of_a_run(log.engine)
    await other.write(1, 1)
    await log.write(*[2] * 6)
    chunk = tables.log_chunk
    damage = update(chunk).where(chunk.c.run_id == log.run_id, chunk.c.first_ordinal == 4)
    await log.rows(damage.values(data=b"damaged"))
    short = update(chunk).where(chunk.c.run_id == log.run_id, chunk.c.first_ordinal == 8)
    await log.rows(short.values(last_ordinal=8))
    engine = log.engine
    ids = [log.run_id, other.run_id]
    assert await merge_logs(engine.database, engine.pipeline, log_records.join, ids, FAR) == 2
    assert await other.chunks() == [(0, 1, 1)]
    assert await log.chunks() == [(0, 3, 1), (4, 5, 0), (6, 7, 0), (8, 8, 0), (10, 11, 0)]
    assert await log.due() == [], "what is damaged is not tried again"


async def test_a_log_that_can_not_be_merged_is_put_off(log: Log) -> None:
    other = await Log.of_a_run(log.engine)
    for each in (log, other):
        await each.write(1, 1)

    def fails_for_one(parts: Sequence[bytes]) -> Joined:
        if not failed:
            failed.append(True)
            raise RuntimeError("A test's own")
        return log_records.join(parts)

    failed: list[bool] = []
    engine = log.engine
    ids = [log.run_id, other.run_id]
    assert await merge_logs(engine.database, engine.pipeline, fails_for_one, ids, FAR) == 1
    (due,) = await log.due()
    assert due > ago(0) + REST - 60_000_000


async def test_a_backlog_is_merged_part_by_part(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_merge_queries, "_PIECES_AT_ONCE", 10)
    other = await Log.of_a_run(log.engine)
    await asyncio.gather(log.write(*[1] * 45), other.write(*[1] * 35))
    looks = 0
    while due := await log.due():
        engine, ids = log.engine, [log.run_id, other.run_id]
        await merge_logs(engine.database, engine.pipeline, log_records.join, ids, max(due) + FAR)
        looks += 1
        assert looks < 20
    assert await log.chunks() == [(0, 44, 1)]
    assert await other.chunks() == [(0, 34, 1)]


# --- two servers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["postgresql_13", "postgresql_18"])
async def test_one_server_merges_while_another_appends(
    request: pytest.FixtureRequest, version: str
) -> None:
    with request.getfixturevalue(version).database() as url:
        async with running(url) as one, running(url) as two:
            log = await Log.of_a_run(one)
            writing = asyncio.create_task(log.write(*[1] * 150))
            merged = 0
            async with asyncio.timeout(60):
                while not writing.done():
                    merged += await log.merge(engine=two)
                await writing
            assert merged > 1
            await log.merge(engine=two)
            records = (await log.page(page_size=1000)).records
            assert ordinals(records) == list(range(150))
            assert messages_of(records) == [f"{n}.0" for n in range(1, 151)]
            assert len(await log.chunks()) < 20


# --- by itself ------------------------------------------------------------------------------------


@pytest.fixture(
    scope="module",
    params=["sqlite_file", "sqlite_memory", "sqlite_324", "postgresql_13", "postgresql_18"],
)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server of each dialect whose loops run."""
    with server_on(request, request.param, {"INTERLOCK_LOOPS_PERIOD": "0.5"}) as server:
        yield server


@pytest.fixture
def stubs(server: ServerProcess) -> Iterator[Stubs]:
    """Stubs of that server."""
    with connected(server.target) as stubs:
        yield stubs


def test_a_server_merges_the_logs_of_live_runs_by_itself(
    server: ServerProcess, stubs: Stubs
) -> None:
    run = make_flow_run(stubs, state={"type": RUNNING})
    task = make_task_run(stubs, flow_run_id=run.id)
    producer = uuid7()
    following = stubs.logs.TailLogs(pb.TailLogsRequest(run_id=run.id), timeout=60)
    batches = [
        record_batch(run.id, f"line {n}", number=n, task_run_ids=[task.id] if n % 2 else [])
        for n in range(1, 41)
    ]
    append(stubs, producer, batches[:30])
    first = stubs.logs.ListLogs(pb.ListLogsRequest(run_id=run.id, page_size=5))
    with maintenance_of(server) as maintenance:
        wait_until(lambda: merged_logs(maintenance.stub) >= 1)
        append(stubs, producer, [*batches[30:], record_batch(run.id, number=41, end_of_run=True)])
        wait_until(lambda: chunks_of(maintenance.stub) == 1)
        assert maintenance.check()["logs"] == []
    FlowRuns(stubs).propose(proposal(run.id, COMPLETED))

    expected = [f"line {n}" for n in range(1, 41)]
    assert messages_of(record for part in following for record in part.records) == expected
    again = pb.ListLogsRequest(run_id=run.id, page_size=5, page_token=first.next_page_token)
    assert messages_of(stubs.logs.ListLogs(again).records) == expected[5:10]
    of_task = read_log(stubs, run.id, filter=pb.LogFilter(task_run_ids=[task.id]))
    assert messages_of(of_task) == expected[::2]


def merged_logs(stub: MaintenanceServiceStub) -> int:
    """How often logs were merged so far."""
    loops = stub.ListLoops(maintenance_pb2.ListLoopsRequest()).loops
    return next(loop.done for loop in loops if loop.name == "small log chunks")


def chunks_of(stub: MaintenanceServiceStub) -> int:
    """How many chunks the server has."""
    checks = stub.Check(maintenance_pb2.CheckRequest())
    return max(event.examined for event in checks if event.check == "logs")
