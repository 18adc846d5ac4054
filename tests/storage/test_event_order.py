"""The order of events: what may break it, who waits for whom, what is kept in memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from interlock.ids import uuid7
from interlock_server.core import pruning, watching
from interlock_server.core.engine import Engine
from interlock_server.core.errors import OutOfRangeError
from interlock_server.core.event_filters import EventFilter
from interlock_server.core.pruning import Ages, DoomRun
from interlock_server.core.transitions import Proposal, ProposeStates
from interlock_server.core.watching import Part, Start, Token
from interlock_server.rules.states import StateDraft, StateType
from interlock_server.storage import migrations
from interlock_server.storage.database import Database
from interlock_server.storage.dialects import open_database
from interlock_server.storage.event_order import Place
from interlock_server.storage.event_queries import RunEvent
from interlock_server.storage.facts import Needs
from interlock_server.storage.plan import writes
from interlock_server.storage.records import RunKind
from interlock_server.storage.sqlite.hints import NoHints
from interlock_server.storage.tables import metadata
from sqlalchemy import Connection, make_url, select, text
from structlog.testing import capture_logs

from tests.support.postgresql import Postgresql
from tests.support.postgresql.server import PostgresqlServer
from tests.support.servers import sqlite_url
from tests.support.stored import Rows, ago

PATIENCE = 20.0
"""Seconds that something may take which must come about."""

postgresql = pytest.mark.parametrize("url", ["postgresql_13", "postgresql_18"], indirect=True)
newest = pytest.mark.parametrize("url", ["postgresql_18"], indirect=True)


@pytest.fixture(params=["sqlite_file", "postgresql_13", "postgresql_18"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each dialect."""
    if request.param == "sqlite_file":
        yield sqlite_url(tmp_path / "interlock.db")
        return
    with request.getfixturevalue(request.param).database() as made:
        yield made


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[Engine]:
    """What a server consists of, on a database that has its tables, or gets them."""
    database = open_database(url)
    await database.check()
    await migrations.upgrade(database)
    engine = Engine(database)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    async with serving(url) as engine:
        yield engine


async def make_runs(engine: Engine, count: int = 1) -> list[str]:
    """Flow runs without events of their own: they were put there."""
    rows = Rows()
    flow = rows.flow()
    ids = [rows.run("flow_run", ago(0), flow_id=flow, state="PENDING") for _ in range(count)]
    await rows.put(engine.database)
    return ids


def run_again(*run_ids: str) -> ProposeStates:
    """A command that writes RUNNING for each run."""
    draft = StateDraft(StateType.RUNNING, "Running")
    return ProposeStates(
        RunKind.FLOW_RUN, [Proposal(uuid7(), run_id, draft, b"digest") for run_id in run_ids]
    )


class Watcher:
    """A watch within this process."""

    def __init__(self, parts: AsyncGenerator[Part]) -> None:
        self._parts = parts
        self.token: Token

    async def part(self) -> Part:
        async with asyncio.timeout(PATIENCE):
            part = await anext(self._parts)
        self.token = part.token
        return part

    async def take(self, count: int) -> list[RunEvent]:
        events: list[RunEvent] = []
        while len(events) < count:
            events += (await self.part()).events
        assert len(events) == count
        return events


@asynccontextmanager
async def watch(
    engine: Engine, token: Token | None = None, interval: float = 3600.0
) -> AsyncIterator[Watcher]:
    async with aclosing(engine.watches.watch(Start(token), EventFilter(), 100, interval)) as parts:
        watcher = Watcher(parts)
        await watcher.part()
        yield watcher


def runs_of(events: Sequence[RunEvent]) -> list[str]:
    return [event.run_id for event in events]


# --- a slow commit --------------------------------------------------------------------------------


@asynccontextmanager
async def written(database: Database, command: Any) -> AsyncIterator[Any]:
    """The connection of another server that has written a batch, and not committed it yet."""
    writer: Any = await database.open_writer()
    try:
        needs = Needs()
        command.add_needs(needs)
        facts = await writer.begin(needs)
        command.decide(facts)
        for step in writes(facts):
            await writer._write(step)
        yield writer._connection
    finally:
        # Left open it would hold up all who watch in the cluster.
        await writer.close()


@asynccontextmanager
async def foreign_transaction(url: str) -> AsyncIterator[int]:
    """A transaction of nobody here, in another database; answers its process."""
    foreign = make_url(url).set(drivername="postgresql", database="postgres")
    connection = await asyncpg.connect(foreign.render_as_string(hide_password=False))
    try:
        await connection.execute("BEGIN")
        await connection.execute("SELECT pg_current_xact_id()")
        yield connection.get_server_pid()
    finally:
        await connection.close()


@postgresql
async def test_a_slow_commit_is_waited_for_and_not_skipped(engine: Engine) -> None:
    slow, quick = await make_runs(engine, 2)
    async with watch(engine, interval=0.05) as watcher:
        async with written(engine.database, run_again(slow)) as other:
            await engine.pipeline.submit(run_again(quick))
            # It is committed, and the watch looks time and again.
            for _ in range(10):
                assert not (await watcher.part()).events
            token = watcher.token
            await other.execute("COMMIT")
        first, second = await watcher.take(2)
        assert runs_of([first, second]) == [slow, quick]
        assert first.place < second.place
    async with watch(engine, token) as watcher:
        assert runs_of(await watcher.take(2)) == [slow, quick]


@newest
async def test_a_slow_batch_that_is_rolled_back_holds_nobody_up(engine: Engine) -> None:
    slow, quick = await make_runs(engine, 2)
    async with watch(engine) as watcher:
        async with written(engine.database, run_again(slow)) as other:
            await engine.pipeline.submit(run_again(quick))
            await other.execute("ROLLBACK")
        assert runs_of(await watcher.take(1)) == [quick]


@postgresql
async def test_a_transaction_of_someone_else_stalls_watches_which_say_so(
    engine: Engine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STALLED", 100_000)
    monkeypatch.setattr(watching, "_REPORTED", 100_000)
    (run,) = await make_runs(engine)
    async with watch(engine, interval=0.05) as watcher:
        with capture_logs() as said:
            async with foreign_transaction(url) as process:
                # The horizon is there before anything is committed above it.
                order = engine.database.event_order()
                reader = engine.watches._reader
                assert reader is not None
                reader.wake()
                while reader.horizon.position < (await order.horizon()).position:
                    await watcher.part()
                await engine.pipeline.submit(run_again(run))
                while not (part := await watcher.part()).stalled:
                    assert not part.events
                # Other tests use the cluster, too, but none of them holds it up for long.
                while f"process {process} " not in (holder := await order.holder()):
                    assert not (await watcher.part()).events
                assert "database postgres" in holder
        assert "watch_horizon_held" in {line["event"] for line in said}
        assert runs_of(await watcher.take(1)) == [run]
        while (await watcher.part()).stalled:
            pass


@newest
async def test_an_epoch_is_bound_to_what_of_the_cluster_may_be_read(
    engine: Engine, url: str, postgresql_18: Postgresql
) -> None:
    order = engine.database.event_order()
    assert (await order.horizon()).epoch.number == 1
    name = str(make_url(url).database)
    execute = postgresql_18._execute
    await asyncio.to_thread(execute, "CREATE ROLE guest LOGIN PASSWORD 'guest'")
    try:
        await asyncio.to_thread(execute, f'GRANT ALL ON DATABASE "{name}" TO guest')

        def share(connection: Connection) -> None:
            connection.execute(text("GRANT ALL ON ALL TABLES IN SCHEMA public TO guest"))
            connection.execute(text("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"))
            connection.commit()

        await engine.database.migrate(share)
        guest = make_url(url).set(username="guest", password="guest")
        database = open_database(guest.render_as_string(hide_password=False))
        # For who can not tell the cluster it is another epoch, once.
        for _ in range(2):
            assert (await database.event_order().horizon()).epoch.number == 2
        await database.close()
    finally:
        await asyncio.to_thread(postgresql_18.drop_database, name)
        await asyncio.to_thread(execute, "DROP ROLE guest")


# --- two servers ----------------------------------------------------------------------------------


@newest
async def test_another_servers_commit_is_told_by_a_hint(
    engine: Engine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "POLL", 3600.0)
    (run,) = await make_runs(engine)
    async with serving(url) as other, watch(engine) as watcher:
        # The other one tells as soon as it has heard that somebody listens.
        told = asyncio.create_task(watcher.take(1))
        while not told.done():
            await other.pipeline.submit(run_again(run))
            await asyncio.wait({told}, timeout=0.2)
        assert runs_of(await told) == [run]
        await other.pipeline.submit(run_again(run))
        assert set(runs_of((await watcher.part()).events)) == {run}


@newest
async def test_without_hints_the_clock_tells(
    engine: Engine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "POLL", 0.05)
    monkeypatch.setattr(engine.watches, "_hints", NoHints())
    (run,) = await make_runs(engine)
    async with serving(url) as other, watch(engine) as watcher:
        await other.pipeline.submit(run_again(run))
        assert runs_of(await watcher.take(1)) == [run]


@newest
async def test_servers_tell_each_other_nothing_while_nobody_watches(
    engine: Engine, url: str
) -> None:
    heard: list[str] = []
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    listening = await asyncpg.connect(plain)
    await listening.add_listener("interlock", lambda *words: heard.append(words[3]))
    (run,) = await make_runs(engine)
    for _ in range(3):
        await engine.pipeline.submit(run_again(run))
    await listening.execute("SELECT pg_notify('interlock', 'the end')")
    while "the end" not in heard:
        await listening.execute("SELECT 1")
    assert heard == ["the end"]
    await listening.close()


async def test_a_token_of_one_server_holds_on_another(engine: Engine, url: str) -> None:
    (run,) = await make_runs(engine)
    async with watch(engine) as watcher:
        await engine.pipeline.submit(run_again(run))
        await watcher.take(1)
    await engine.pipeline.submit(run_again(run))
    await engine.stop()
    async with serving(url) as other, watch(other, watcher.token) as again:
        await other.pipeline.submit(run_again(run))
        first, second = await again.take(2)
        assert watcher.token.place < first.place < second.place


# --- slow and vanishing readers -------------------------------------------------------------------


async def test_a_reader_that_is_slow_is_not_kept_for_in_memory_and_misses_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_RING_EVENTS", 20)
    monkeypatch.setattr(watching, "_PAGE", 15)
    runs = await make_runs(engine, 10)
    async with watch(engine) as slow, watch(engine) as quick:
        for _ in range(20):
            await engine.pipeline.submit(run_again(*runs))
        told = await quick.take(200)
        reader = engine.watches._reader
        assert reader is not None
        assert len(reader._ring._events) <= 20
        assert not reader.reaches_back_to(slow.token.place)
        assert await slow.take(200) == told
        assert runs_of(told) == runs * 20
        # Both are current again, and read from memory.
        await engine.pipeline.submit(run_again(*runs))
        assert await slow.take(10) == await quick.take(10)


async def test_a_watch_tells_how_far_it_has_come_through_what_it_does_not_want(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_PAGE", 10)
    runs = await make_runs(engine, 10)
    async with watch(engine) as watcher:
        begin = watcher.token
        for _ in range(5):
            await engine.pipeline.submit(run_again(*runs))
        await watcher.take(50)
        head = watcher.token
        nothing = EventFilter(run_ids=frozenset({uuid7()}))
        parts = engine.watches.watch(Start(begin), nothing, 100, interval=0.0)
        async with aclosing(parts), asyncio.timeout(PATIENCE):
            places = [(await anext(parts)).token.place for _ in range(4)]
    # Each message can be gone on from, long before the head is reached.
    assert begin.place == places[0] < places[1] < places[2] < places[3] < head.place


async def test_large_events_are_kept_by_their_size(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_RING_BYTES", 100_000)
    (run,) = await make_runs(engine)
    draft = StateDraft(StateType.RUNNING, "Running", "x" * 10_000)
    async with watch(engine) as watcher:
        for _ in range(20):
            proposals = [Proposal(uuid7(), run, draft, b"digest")]
            await engine.pipeline.submit(ProposeStates(RunKind.FLOW_RUN, proposals))
        await watcher.take(20)
        assert engine.watches._reader is not None
        assert len(engine.watches._reader._ring._events) < 10


async def test_watches_that_are_left_leave_nothing_behind(engine: Engine) -> None:
    (run,) = await make_runs(engine)
    for _ in range(3):
        async with watch(engine), watch(engine) as watcher:
            await engine.pipeline.submit(run_again(run))
            await watcher.take(1)
            reader = engine.watches._reader
        assert reader is not None
        assert not reader._listeners
        assert reader._task is not None
        await asyncio.wait({reader._task})
        assert not getattr(engine.hints, "_listeners", None)


async def test_a_database_that_is_closed_has_let_go_of_reads_that_nobody_waits_for(
    url: str,
) -> None:
    database = open_database(url)
    before = asyncio.all_tasks()
    reading = asyncio.create_task(database.event_order().horizon())
    await asyncio.sleep(0.001)
    reading.cancel()
    await database.close()
    # On PostgreSQL one that was opening a connection would have it half open.
    assert asyncio.all_tasks() - {reading} <= before


async def test_a_watch_ends_with_its_server(engine: Engine) -> None:
    async with watch(engine) as watcher:
        engine.drain()
        with pytest.raises(Exception, match="going away"):
            await watcher.part()


# --- deletions ------------------------------------------------------------------------------------


async def test_a_run_that_is_pruned_is_told_once_small_or_large(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Rows()
    flow = rows.flow()
    small, large = (rows.run("flow_run", ago(40), flow_id=flow) for _ in range(2))
    tasks = [rows.run("task_run", ago(40), flow_run_id=large) for _ in range(3)]
    alone = rows.run("task_run", ago(40))
    await rows.put(engine.database)
    async with watch(engine) as watcher:
        # As for one with many parts: it is hidden first, and then deleted part by part.
        assert await engine.pipeline.submit(DoomRun(RunKind.FLOW_RUN, large, 0))
        (first,) = await watcher.take(1)
        assert (first.run_id, first.state, first.flow_id) == (large, None, flow)
        async for _ in pruning.prune(engine.database, engine.pipeline, Ages(0)):
            pass
        events = await watcher.take(5)
        assert sorted(runs_of(events)) == sorted([small, alone, *tasks])
        assert all(event.state is None for event in events)
        assert {e.flow_run_id for e in events if e.run_id in tasks} == {large}
        # Nothing comes behind: the next that is told is the next that happens.
        (run,) = await make_runs(engine)
        await engine.pipeline.submit(run_again(run))
        assert runs_of(await watcher.take(1)) == [run]


# --- epochs ---------------------------------------------------------------------------------------


async def epochs(database: Database) -> list[int]:
    def read(connection: Connection) -> list[int]:
        table = metadata.tables["watch_epoch"]
        return list(connection.execute(select(table.c.number).order_by(table.c.number)).scalars())

    return await database.migrate(read)


async def test_an_epoch_outlasts_its_servers(engine: Engine, url: str) -> None:
    (run,) = await make_runs(engine)
    await engine.pipeline.submit(run_again(run))
    await engine.stop()
    for _ in range(2):
        async with serving(url) as next_one:
            await next_one.database.event_order().horizon()
            await next_one.pipeline.submit(run_again(run))
            assert await epochs(next_one.database) == [1]


@newest
async def test_servers_that_begin_at_once_begin_one_epoch(engine: Engine) -> None:
    order = engine.database.event_order()
    asking = [asyncio.create_task(order.horizon()) for _ in range(3)]
    for writer in await asyncio.gather(*(engine.database.open_writer() for _ in range(5))):
        await writer.close()
    await asyncio.gather(*asking)
    assert await epochs(engine.database) == [1]


def dumped(connection: Connection) -> dict[str, list[Any]]:
    """All rows of a database, as `pg_dump` would take them."""
    return {
        table.name: [row._asdict() for row in connection.execute(select(table))]
        for table in metadata.sorted_tables
    }


def restorer(dump: dict[str, list[Any]]) -> Callable[[Connection], None]:
    """What puts the rows of a dump in place of all that is there."""

    def restore(connection: Connection) -> None:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
        for table in metadata.sorted_tables:
            if rows := dump[table.name]:
                connection.execute(table.insert(), rows)
        connection.commit()

    return restore


async def _watched_then_dumped(engine: Engine) -> tuple[str, Token, dict[str, list[Any]]]:
    (run,) = await make_runs(engine)
    async with watch(engine) as watcher:
        await engine.pipeline.submit(run_again(run))
        await watcher.take(1)
    return run, watcher.token, await engine.database.migrate(dumped)


async def _is_out_of_range(engine: Engine, token: Token) -> None:
    with pytest.raises(OutOfRangeError) as caught:
        async with watch(engine, token):
            pass
    assert caught.value.reason == "WATCH_EPOCH_ENDED"


@postgresql
async def test_a_dump_restored_into_its_own_database_begins_an_epoch(engine: Engine) -> None:
    run, token, dump = await _watched_then_dumped(engine)
    await engine.database.migrate(restorer(dump))
    await _is_out_of_range(engine, token)
    assert await epochs(engine.database) == [1, 2]
    # What is watched from then on is whole.
    async with watch(engine) as watcher:
        await engine.pipeline.submit(run_again(run))
        assert runs_of(await watcher.take(1)) == [run]
    assert await epochs(engine.database) == [1, 2]


@newest
async def test_a_dump_restored_into_another_cluster_begins_an_epoch(engine: Engine) -> None:
    run, token, dump = await _watched_then_dumped(engine)
    server = await asyncio.to_thread(PostgresqlServer, 18)
    try:
        await asyncio.to_thread(server.start)
        async with serving(server.create_database("restored")) as other:
            await other.database.migrate(restorer(dump))
            # There transaction ids may be lower than those that the rows have.
            await other.pipeline.submit(run_again(run))
            await _is_out_of_range(other, token)
            async with watch(other) as watcher:
                await other.pipeline.submit(run_again(run))
                (event,) = await watcher.take(1)
                assert event.place > token.place
    finally:
        await asyncio.to_thread(server.close)


@newest
async def test_a_copy_of_a_database_begins_an_epoch(
    engine: Engine, url: str, postgresql_18: Postgresql
) -> None:
    _, token, _ = await _watched_then_dumped(engine)
    await engine.stop()
    name = make_url(url).database
    copy = f"{name}_copy"
    await asyncio.to_thread(postgresql_18._execute, f'CREATE DATABASE "{copy}" TEMPLATE "{name}"')
    try:
        async with serving(postgresql_18.database_url(copy)) as other:
            await _is_out_of_range(other, token)
    finally:
        await asyncio.to_thread(postgresql_18.drop_database, copy)


@newest
async def test_transaction_ids_that_went_back_begin_an_epoch(engine: Engine) -> None:
    _, token, _ = await _watched_then_dumped(engine)
    ahead = text("UPDATE flow_run_transition SET position = position + 1000000000")

    def move(connection: Connection) -> None:
        connection.execute(ahead)
        connection.commit()

    await engine.database.migrate(move)
    writer = await engine.database.open_writer()
    await writer.close()
    await _is_out_of_range(engine, token)


@newest
async def test_watches_end_as_an_epoch_does(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "POLL", 0.05)
    _, _, dump = await _watched_then_dumped(engine)
    async with watch(engine) as watcher:
        await engine.database.migrate(restorer(dump))
        with pytest.raises(OutOfRangeError) as caught:
            await watcher.part()
    assert caught.value.reason == "WATCH_EPOCH_ENDED"


@pytest.mark.parametrize("url", ["sqlite_file"], indirect=True)
async def test_a_backup_that_is_put_in_place_begins_an_epoch(
    engine: Engine, tmp_path: Path
) -> None:
    (run,) = await make_runs(engine)
    async with watch(engine) as watcher:
        await engine.pipeline.submit(run_again(run))
        await watcher.take(1)
        backup = tmp_path / "backup.db"
        await engine.database.upkeep().backup(backup, False, lambda _: None)
        await engine.pipeline.submit(run_again(run))
        await watcher.take(1)
    async with serving(sqlite_url(backup)) as restored:
        await _is_out_of_range(restored, watcher.token)
        async with watch(restored) as again:
            await restored.pipeline.submit(run_again(run))
            assert runs_of(await again.take(1)) == [run]
    # The original goes on as if nothing had been.
    async with watch(engine, watcher.token):
        pass


# --- positions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite_file"], indirect=True)
async def test_positions_grow_also_where_the_clock_went_back(engine: Engine, url: str) -> None:
    (run,) = await make_runs(engine)
    rows = Rows()
    future = ago(-1)
    rows.add("deleted_run", deleted=ago(0), kind="flow_run", position=future, ordinal=0)
    await rows.put(engine.database)
    async with watch(engine) as watcher:
        assert watcher.token.place > Place(future, 0)
        for _ in range(3):
            await engine.pipeline.submit(run_again(run))
        places = [event.place.position for event in await watcher.take(3)]
    assert places == [future + 1, future + 2, future + 3]
