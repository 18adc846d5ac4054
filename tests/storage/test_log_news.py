"""Tails hear of what other servers commit, and cost next to nothing while nothing is new."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from interlock.ids import uuid7
from interlock_server.core.engine import Engine
from interlock_server.core.errors import NotFoundError
from interlock_server.core.logs import news, tails
from interlock_server.core.logs.appends import AppendLog, LogBatch
from interlock_server.core.logs.chunks import compress
from interlock_server.core.logs.ends import TailEnd
from interlock_server.core.logs.tails import TailPart
from interlock_server.core.runs import DeleteRun
from interlock_server.core.transitions import Proposal, ProposeStates
from interlock_server.rules.states import StateDraft, StateType
from interlock_server.storage import migrations
from interlock_server.storage.dialects import open_database
from interlock_server.storage.log_queries import LogQuery
from interlock_server.storage.log_status_queries import list_log_statuses
from interlock_server.storage.records import LogChunk, RunKind
from interlock_server.storage.sqlite.hints import NoHints

from tests.support.postgresql import Postgresql
from tests.support.servers import sqlite_url
from tests.support.stored import Rows, ago

NEVER = 3600.0
PATIENCE = 20.0


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[Engine]:
    """What a server consists of."""
    engine = Engine(open_database(url))
    await migrations.upgrade(engine.database)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@pytest_asyncio.fixture
async def servers(postgresql_18: Postgresql) -> AsyncIterator[tuple[Engine, Engine]]:
    """Two servers of one database: the one that is told, and the one that follows."""
    with postgresql_18.database() as url:
        async with serving(url) as one, serving(url) as other:
            yield one, other


async def make_runs(engine: Engine, count: int) -> list[str]:
    rows = Rows()
    flow = rows.flow()
    given: Any = {"flow_id": flow, "state": "RUNNING", "digest": b"digest"}
    ids = [rows.run("flow_run", ago(0), **given) for _ in range(count)]
    await rows.put(engine.database)
    return ids


async def append(engine: Engine, producer: str, number: int, run_id: str, count: int = 1) -> None:
    """Append lines; without any it ends the producer's part."""
    levels = (0, 0, count, 0, 0, 0) if count else ()
    packed = b"packed" if count else b""
    batch = LogBatch(producer, number, run_id, not count, count, 1, 1, levels, (), packed)
    await engine.pipeline.submit(AppendLog(batch, await compress(packed)))


async def finish(engine: Engine, run_id: str) -> None:
    draft = StateDraft(StateType.COMPLETED, "Completed")
    proposals = [Proposal(uuid7(), run_id, draft, b"digest")]
    await engine.pipeline.submit(ProposeStates(RunKind.FLOW_RUN, proposals))


def whole(chunk: LogChunk, data: bytes, from_ordinal: int) -> list[tuple[int, bytes]]:
    return [(chunk.first_ordinal, data)]


class Tail:
    """A tail in a task of its own."""

    def __init__(self, engine: Engine, run_id: str, start: int = 0) -> None:
        self._parts: asyncio.Queue[TailPart[bytes] | Exception] = asyncio.Queue()
        self.task = asyncio.create_task(self._follow(engine, run_id, start))

    async def _follow(self, engine: Engine, run_id: str, start: int) -> None:
        query, draining = LogQuery(run_id), engine.draining
        following = tails.follow(engine.database, engine.log_news, query, start, draining, whole)
        try:
            async with aclosing(following):
                async for part in following:
                    self._parts.put_nowait(part)
        except NotFoundError as error:
            self._parts.put_nowait(error)

    async def take(self) -> TailPart[bytes] | Exception:
        """The next chunk, or the end; not just how far it is."""
        async with asyncio.timeout(PATIENCE):
            while True:
                part = await self._parts.get()
                if isinstance(part, Exception) or part.found is not None or part.end is not None:
                    return part

    async def ordinal(self) -> int:
        part = await self.take()
        assert isinstance(part, TailPart)
        assert part.found is not None
        return part.found[0][0]


async def ask_for_hints(one: Engine) -> None:
    """Wait until a server has heard that another one follows logs."""
    async with asyncio.timeout(PATIENCE):
        while not one.hints.asked(news.TOPIC):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


async def test_lines_and_ends_are_heard_of_across_servers_without_the_clock(
    servers: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "POLL", NEVER)
    one, other = servers
    followed, deleted = await make_runs(one, 2)
    producer = uuid7()
    tail, end = Tail(other, followed), Tail(other, deleted)
    await ask_for_hints(one)
    for number in range(1, 6):
        await append(one, producer, number, followed)
        assert await tail.ordinal() == number - 1
    await finish(one, followed)
    await append(one, producer, 6, followed, count=0)
    part = await tail.take()
    assert isinstance(part, TailPart)
    assert (part.end, part.next_ordinal) == (TailEnd.DRAINED, 5)

    await one.pipeline.submit(DeleteRun(RunKind.FLOW_RUN, deleted))
    assert isinstance(await end.take(), NotFoundError)


async def test_a_run_that_ends_elsewhere_after_its_producers_ends_its_tails(
    servers: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "POLL", NEVER)
    one, other = servers
    (run_id,) = await make_runs(one, 1)
    producer = uuid7()
    await append(one, producer, 1, run_id)
    await append(one, producer, 2, run_id, count=0)
    tails = [Tail(other, run_id, start) for start in (0, 1)]
    assert await tails[0].ordinal() == 0
    await ask_for_hints(one)
    await finish(one, run_id)
    for tail in tails:
        part = await tail.take()
        assert isinstance(part, TailPart)
        assert part.end is TailEnd.DRAINED


async def test_without_hints_the_clock_tells(
    servers: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "POLL", 0.05)
    one, other = servers
    monkeypatch.setattr(other.log_news, "_hints", NoHints())
    (run_id,) = await make_runs(one, 1)
    tail = Tail(other, run_id)
    await append(one, uuid7(), 1, run_id)
    assert await tail.ordinal() == 0
    await finish(one, run_id)


class Looks:
    """Which logs a server has looked at, each look by itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[list[str]] = []
        read = list_log_statuses

        async def noting(database: Any, run_ids: Sequence[str]) -> Any:
            self.made.append(list(run_ids))
            return await read(database, run_ids)

        monkeypatch.setattr(news, "list_log_statuses", noting)


async def test_a_hint_costs_a_look_only_at_what_it_names_and_is_followed(
    servers: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "POLL", NEVER)
    one, other = servers
    quiet, busy, strange = await make_runs(one, 3)
    tails = [Tail(other, quiet), Tail(other, busy)]
    await append(one, uuid7(), 1, busy)
    await ask_for_hints(one)
    await append(one, uuid7(), 1, busy)
    assert await tails[1].ordinal() == 0
    looks, producer = Looks(monkeypatch), uuid7()
    for number in range(1, 50):
        await append(one, producer, number, strange)
    await append(one, uuid7(), 1, busy)
    while await tails[1].ordinal() < 2:
        pass
    assert {tuple(look) for look in looks.made} == {(busy,)}


@pytest.mark.parametrize("count", [1, 300])
async def test_hundreds_of_tails_share_their_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    async with serving(sqlite_url(tmp_path / "interlock.db")) as engine:
        run_ids = await make_runs(engine, count)
        looks = Looks(monkeypatch)
        # On one log each, and as many more on the first one.
        tails = [Tail(engine, run_id) for run_id in [*run_ids, *run_ids[:1] * 300]]
        producer = uuid7()
        for number, run_id in enumerate(run_ids, 1):
            await append(engine, producer, number, run_id)
        assert [await tail.ordinal() for tail in tails] == [0] * len(tails)
        # To begin with, and by the clock; a line that is appended here costs none.
        assert len(looks.made) < 20
        looks.made.clear()
        await append(engine, producer, count + 1, run_ids[0])
        heard = [await tail.ordinal() for tail in (tails[0], *tails[count:])]
        assert heard == [1] * 301
        for run_id in run_ids:
            await finish(engine, run_id)
        await append(engine, producer, count + 2, run_ids[0], count=0)
        ends = [await tail.take() for tail in (tails[0], *tails[count:])]
        assert {end.end for end in ends if isinstance(end, TailPart)} == {TailEnd.DRAINED}


async def test_tails_that_are_left_leave_nothing_behind(tmp_path: Path) -> None:
    async with serving(sqlite_url(tmp_path / "interlock.db")) as engine:
        (run_id,) = await make_runs(engine, 1)
        for _ in range(3):
            tails = [Tail(engine, run_id) for _ in range(5)]
            await append(engine, uuid7(), 1, run_id)
            assert [await tail.ordinal() for tail in tails] == [0] * 5
            for tail in tails:
                tail.task.cancel()
            await asyncio.wait([tail.task for tail in tails])
            assert not engine.log_news._logs
            assert engine.log_news._task is None
