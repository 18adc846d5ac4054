"""Checking what is stored: the database's own structure, and what the rows say of each other.

Nothing is changed, and everything goes on meanwhile. What is looked at may be pruned or merged
between two looks, so a log that seems wrong is looked at again before it counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass

import zstandard

from interlock_server.core.logs.chunks import decompress_now
from interlock_server.rules.states import Id, Micros
from interlock_server.storage import check_queries
from interlock_server.storage.check_queries import LogBounds, RunAndHistory
from interlock_server.storage.database import Database
from interlock_server.storage.records import LogChunk, RunKind

MAX_EXAMPLES = 20
"""How many finds of one check are told; the others are counted."""

_RUNS_AT_ONCE = 500
_LOGS_AT_ONCE = 200
_LOOKS_AGAIN = 2
_CHUNKS_AT_ONCE = 32
"""How many are read at a time: some milliseconds, and at most some 30 MiB."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a chunk's records say of themselves."""

    count: int
    first_time: Micros
    last_time: Micros
    level_counts: tuple[int, ...]
    task_run_ids: frozenset[Id] = frozenset()
    """Whose records there are."""


Inspect = Callable[[bytes], Contents]
"""Reads the decompressed records of a chunk. Raises ValueError where they are none."""


@dataclass(frozen=True, slots=True)
class Find:
    """Something that is not as it must be."""

    subject: str
    """What it is about, such as `flow run ID`."""
    words: str


@dataclass(frozen=True, slots=True)
class Checked:
    """How far a check has come, and what it has found since it last said so."""

    check: str
    examined: int
    finds: tuple[Find, ...] = ()
    done: bool = False


async def check(database: Database, inspect: Inspect) -> AsyncIterator[Checked]:
    """Make all checks, one after the other; the last word on each is `done`."""
    upkeep = database.upkeep()
    for name in upkeep.structural_checks():
        yield Checked(name, 0)
        damage = await upkeep.damage(name, MAX_EXAMPLES)
        finds = tuple(Find("database", each.words) for each in damage)
        yield Checked(name, 1, finds, done=True)
    for kind in RunKind:
        async for checked in _check_runs(database, kind):
            yield checked
    async for checked in _check_logs(database, inspect):
        yield checked


# --- runs -----------------------------------------------------------------------------------------


async def _check_runs(database: Database, kind: RunKind) -> AsyncIterator[Checked]:
    name = f"{kind.value.replace('_', ' ')}s"
    after: Id | None = None
    examined = 0
    while page := await check_queries.list_runs_with_history(database, kind, after, _RUNS_AT_ONCE):
        examined += len(page)
        subject = kind.value.replace("_", " ")
        finds = [Find(f"{subject} {run.run_id}", words) for run in page if (words := _wrong(run))]
        yield Checked(name, examined, tuple(finds))
        after = page[-1].run_id
    yield Checked(name, examined, done=True)


def _wrong(run: RunAndHistory) -> str:
    """Say what is wrong with a run; empty: nothing."""
    if run.state_id is None:
        return "it has no state"
    if run.transition_run_id != run.run_id:
        return f"its state {run.state_id} is not in its history"
    if run.newest is not None and run.newest != run.transition[2]:
        return f"its history has a newer state than {run.state_id}"
    names = ("type", "name", "time", "run count")
    for name, has, should in zip(names, run.state, run.transition, strict=True):
        if has != should:
            return f"the {name} of its state is {has}, in its history {should}"
    return ""


# --- logs -----------------------------------------------------------------------------------------


async def _check_logs(database: Database, inspect: Inspect) -> AsyncIterator[Checked]:
    name = "logs"
    examined = 0
    lost = await check_queries.list_lost_logs(database, MAX_EXAMPLES)
    yield Checked(name, 0, tuple(Find(f"log {id_}", "it has chunks and no run") for id_ in lost))
    misled = tuple(
        Find(
            f"log {run_id}", f"task run {task_run_id} leads to a chunk {ordinal} that is not there"
        )
        for run_id, ordinal, task_run_id in await check_queries.list_misled(database, MAX_EXAMPLES)
    )
    yield Checked(name, 0, misled)
    after: Id | None = None
    while page := await check_queries.list_log_bounds(database, after, _LOGS_AT_ONCE):
        suspects: set[Id] = set()
        before = examined
        async for walked, finds in _walk(database, page, inspect):
            examined = before + walked
            suspects.update(run_id for run_id, _ in finds)
            yield Checked(name, examined)
        yield Checked(name, examined, await _confirmed(database, suspects, inspect))
        after = page[-1].run_id
    yield Checked(name, examined, done=True)


async def _walk(
    database: Database, logs: Sequence[LogBounds], inspect: Inspect
) -> AsyncIterator[tuple[int, list[tuple[Id, str]]]]:
    """Go through some logs, given by run id; answer how far that has come, and what is wrong."""
    walk = _Walk(logs)
    examined = 0
    place: tuple[Id, int] | None = None
    while chunks := await check_queries.list_chunks_between(
        database, logs[0].run_id, logs[-1].run_id, place, _CHUNKS_AT_ONCE
    ):
        examined += len(chunks)
        contents = await asyncio.to_thread(_inspect_all, chunks, inspect)
        for chunk, words in zip(chunks, contents, strict=True):
            walk.step(chunk, words)
        place = (chunks[-1].run_id, chunks[-1].first_ordinal)
        yield examined, walk.take()
    yield examined, walk.end()


class _Walk:
    """Goes through the chunks of some logs in their order, and sees that none is missing."""

    def __init__(self, logs: Sequence[LogBounds]) -> None:
        self._ends = {log.run_id: log.next_ordinal for log in logs}
        self._reached = {log.run_id: log.first_ordinal for log in logs}
        self._finds: list[tuple[Id, str]] = []

    def step(self, chunk: LogChunk, words: str) -> None:
        end = self._ends.get(chunk.run_id)
        if end is None or chunk.first_ordinal >= end:
            return  # it came after the ends were read
        reached = self._reached[chunk.run_id]
        if chunk.first_ordinal != reached:
            self._say(chunk, f"it follows a gap, or laps over: {reached} was to come")
        if words:
            self._say(chunk, words)
        self._reached[chunk.run_id] = chunk.last_ordinal + 1

    def _say(self, chunk: LogChunk, words: str) -> None:
        self._finds.append((chunk.run_id, f"chunk {chunk.first_ordinal}: {words}"))

    def take(self) -> list[tuple[Id, str]]:
        finds, self._finds = self._finds, []
        return finds

    def end(self) -> list[tuple[Id, str]]:
        return self.take() + [
            (run_id, f"it ends at {self._reached[run_id]}, its head says {end}")
            for run_id, end in self._ends.items()
            if self._reached[run_id] != end
        ]


async def _confirmed(
    database: Database, suspects: Iterable[Id], inspect: Inspect
) -> tuple[Find, ...]:
    """Look again at logs that seem wrong: what was merged or deleted meanwhile does not count."""
    finds: list[Find] = []
    for run_id in sorted(suspects):
        words: list[str] | None = None
        for _ in range(_LOOKS_AGAIN):
            bounds = await check_queries.log_bounds(database, run_id)
            again: list[str] = []
            if bounds is not None:
                async for _, found in _walk(database, [bounds], inspect):
                    again += [each for _, each in found]
            # What is wrong is so each time; what others do meanwhile is elsewhere each time.
            words = again if words is None else [each for each in words if each in again]
            if not words:
                break
        finds += [Find(f"log {run_id}", each) for each in words or ()]
    return tuple(finds)


def _inspect_all(chunks: Sequence[LogChunk], inspect: Inspect) -> list[str]:
    return [_wrong_in(chunk, inspect) for chunk in chunks]


def _wrong_in(chunk: LogChunk, inspect: Inspect) -> str:
    """Say what is wrong in a chunk; empty: nothing."""
    count = chunk.last_ordinal - chunk.first_ordinal + 1
    if count < 1 or sum(chunk.level_counts) != count:
        return f"its levels count {sum(chunk.level_counts)} records, its ordinals {count}"
    try:
        data = decompress_now(chunk)
    except zstandard.ZstdError as error:
        return f"it can not be decompressed: {error}"
    if len(data) != chunk.raw_bytes:
        return f"it has {len(data)} bytes, not {chunk.raw_bytes}"
    try:
        contents = inspect(data)
    except ValueError as error:
        return f"its records can not be read: {error}"
    has = Contents(
        count,
        chunk.first_time,
        chunk.last_time,
        chunk.level_counts,
        frozenset(chunk.task_run_ids),
    )
    return "" if contents == has else f"its row says {has}, its records {contents}"
