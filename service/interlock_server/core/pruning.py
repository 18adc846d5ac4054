"""Pruning: deleting what is old, in transactions that are all short.

A run is deleted whole, in one transaction with others, where few rows hang on it. One with many is
first doomed: from that transaction on everyone takes it for deleted, and what hangs on it is
deleted slice by slice, the run itself last. Broken off half-way, it is finished by the next
pruning. `docs/decisions/0008-large-runs-are-doomed-first.md` tells why.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from interlock_server.core.logs.retention import count_old_chunks, delete_old_logs
from interlock_server.core.turns import take_turn
from interlock_server.rules.states import TERMINAL, Id, Micros
from interlock_server.storage import pruning_queries, tables
from interlock_server.storage.commands import Command, CommandClass
from interlock_server.storage.database import Database
from interlock_server.storage.facts import Expiry, Facts, Needs, Trim
from interlock_server.storage.pipeline import Pipeline
from interlock_server.storage.records import RunFacts, RunKind
from interlock_server.storage.retention import (
    AsLongAsAsked,
    ForDays,
    WithItsRun,
    aging,
    owner_of,
    parts_of_runs,
    retention_of,
)

R = TypeVar("R")

_SCAN = 500
"""How many ended runs are looked at in one read."""

_DAY: Micros = 24 * 60 * 60 * 1_000_000
_COMMAND_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning has deleted, or would delete."""

    flow_runs: int = 0
    task_runs: int = 0
    """Those in flow runs, too."""
    log_chunks: int = 0
    tombstones: int = 0
    """What is remembered of runs that were deleted long ago."""

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(
            self.flow_runs + other.flow_runs,
            self.task_runs + other.task_runs,
            self.log_chunks + other.log_chunks,
            self.tombstones + other.tombstones,
        )


# --- commands -------------------------------------------------------------------------------------


class _PruningCommand:
    """What commands of pruning have in common: each is alone in its batch, which it fills."""

    command_class = CommandClass.REST
    replayable = True
    exclusive = True
    weight = 1
    size = _COMMAND_BYTES


class PruneRuns(_PruningCommand):
    """Deletes those of some runs that are doomed or have ended long enough ago, with their parts.

    Answers how many.
    """

    def __init__(self, kind: RunKind, run_ids: Sequence[Id], older_than: Micros) -> None:
        self._kind = kind
        self._run_ids = run_ids
        self._older_than = older_than

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.runs_to_write[self._kind].update(self._run_ids)

    def decide(self, facts: Facts) -> int:
        """Delete them."""
        known = facts.runs[self._kind]
        gone = [
            run_id
            for run_id in self._run_ids
            if run_id in facts.doomed_runs
            or (run_id in known and _is_old(known[run_id], facts.now - self._older_than))
        ]
        for run_id in gone:
            facts.delete_run(self._kind, run_id)
        return len(gone)


class DoomRun(_PruningCommand):
    """Hides a run that has ended long enough ago, to delete it; answers whether it is hidden."""

    def __init__(self, kind: RunKind, run_id: Id, older_than: Micros) -> None:
        self._kind = kind
        self._run_id = run_id
        self._older_than = older_than

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.runs_to_write[self._kind].add(self._run_id)

    def decide(self, facts: Facts) -> bool:
        """Hide it, unless it is."""
        if self._run_id in facts.doomed_runs:
            return True
        run = facts.runs[self._kind].get(self._run_id)
        if run is None or not _is_old(run, facts.now - self._older_than):
            return False
        # Its key is free at once: another run may have it.
        if self._kind is RunKind.FLOW_RUN:
            facts.doom_run(self._kind, run, {"idempotency_key": None})
        else:
            facts.doom_run(self._kind, run, {"dynamic_key": run.id})
        return True


class TrimRuns(_PruningCommand):
    """Deletes some parts of runs that are doomed."""

    def __init__(self, kind: RunKind, trim: Trim) -> None:
        self._kind = kind
        self._trim = trim

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.runs_to_write[self._kind].update(self._trim.run_ids)

    def decide(self, facts: Facts) -> None:
        """Delete them, unless the runs are gone."""
        if facts.doomed_runs.issuperset(self._trim.run_ids):
            facts.trim(self._trim)


class Expire(_PruningCommand):
    """Deletes some rows that are too old."""

    def __init__(self, expiry: Expiry) -> None:
        self._expiry = expiry

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`: nothing."""

    def decide(self, facts: Facts) -> None:
        """Delete them."""
        facts.expire(self._expiry)


def _is_old(run: RunFacts, before: Micros) -> bool:
    if run.state is None or run.state.type not in TERMINAL:
        return False
    return (run.progress.end_time or run.state.timestamp) < before


# --- the work -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ages:
    """How old, in microseconds, that must be which is pruned; None: none of it is."""

    runs: Micros | None = None
    """Counted from their end."""
    logs: Micros | None = None
    """Parts of logs, counted from when they came."""


async def measure(database: Database, ages: Ages) -> Pruned:
    """Count what pruning would delete now."""
    total = Pruned()
    if ages.runs is not None:
        total += await _measure_runs(database, ages.runs)
    if ages.logs is not None:
        chunks = await count_old_chunks(database, ages.logs, ages.runs)
        total += Pruned(log_chunks=chunks)
    for expiry in _expiries():
        total += Pruned(tombstones=await pruning_queries.count_older(database, expiry))
    return total


async def _measure_runs(database: Database, older_than: Micros) -> Pruned:
    total = Pruned()
    for kind in RunKind:
        async for ids in _old_runs(database, kind, older_than):
            for parts in (await pruning_queries.count_parts(database, kind, ids)).values():
                total += _as_pruned(kind, 1, parts)
    return total


async def prune(database: Database, pipeline: Pipeline, ages: Ages) -> AsyncIterator[Pruned]:
    """Delete runs and parts of logs that are old enough, and what is too old by itself.

    Answers what each transaction has deleted. Between two of them others have their turn.
    """
    if ages.runs is not None:
        runs = _Pruning(database, pipeline, ages.runs)
        for kind in RunKind:
            async for ids in _old_runs(database, kind, ages.runs):
                async for pruned in runs.delete(kind, ids):
                    yield pruned
    if ages.logs is not None:
        async with aclosing(delete_old_logs(database, pipeline, ages.logs)) as cuts:
            async for chunks in cuts:
                yield Pruned(log_chunks=chunks)
    for expiry in _expiries():
        left = await pruning_queries.count_older(database, expiry)
        while left > 0:
            await take_turn(pipeline, Expire(expiry))
            yield Pruned(tombstones=min(left, expiry.limit))
            left -= expiry.limit


async def _old_runs(
    database: Database, kind: RunKind, older_than: Micros
) -> AsyncIterator[list[Id]]:
    """Find runs that may be pruned, page by page. Only the commands decide it, under lock."""
    after: Id | None = None
    while page := await pruning_queries.list_ended(database, kind, after, _SCAN):
        before = time.time_ns() // 1000 - older_than
        if ids := [run.id for run in page if run.doomed or run.ended < before]:
            yield ids
        after = page[-1].id


def _expiries() -> list[Expiry]:
    now = time.time_ns() // 1000
    return [
        Expiry(table.name, retention.column, now - retention.days * _DAY, retention.at_once)
        for table, retention in aging(tables.metadata)
    ]


class _Pruning:
    def __init__(self, database: Database, pipeline: Pipeline, older_than: Micros) -> None:
        self._database = database
        self._pipeline = pipeline
        self._older_than = older_than

    async def do(self, command: Command[R]) -> R:
        """Run a command, then leave the database to others for as long as it took."""
        return await take_turn(self._pipeline, command)

    async def delete(self, kind: RunKind, run_ids: Sequence[Id]) -> AsyncIterator[Pruned]:
        """Delete runs: small ones together, large ones in slices."""
        counts = await pruning_queries.count_parts(self._database, kind, run_ids)
        group: list[Id] = []
        filled = 0.0
        for run_id, parts in counts.items():
            size = _size(kind, parts)
            if size > 1:
                async for pruned in self._delete_large(kind, run_id, parts):
                    yield pruned
                continue
            if group and filled + size > 1:
                yield await self._delete_small(kind, group, counts)
                group, filled = [], 0.0
            group.append(run_id)
            filled += size
        if group:
            yield await self._delete_small(kind, group, counts)

    async def _delete_small(
        self, kind: RunKind, run_ids: list[Id], counts: Mapping[Id, Counter[str]]
    ) -> Pruned:
        deleted = await self.do(PruneRuns(kind, run_ids, self._older_than))
        if deleted == 0:
            return Pruned()
        parts: Counter[str] = Counter()
        for run_id in run_ids:
            parts += counts[run_id]
        return _as_pruned(kind, deleted, parts)

    async def _delete_large(
        self, kind: RunKind, run_id: Id, parts: Counter[str]
    ) -> AsyncIterator[Pruned]:
        if not await self.do(DoomRun(kind, run_id, self._older_than)):
            return
        # Those of the task runs go with each of them.
        task_runs = tables.task_run.name
        for table, retention in parts_of_runs(tables.metadata):
            if owner_of(table) not in (None, kind.value):
                continue
            trim = Trim(table.name, (run_id,), retention.at_once)
            for _ in range(ceil(parts[table.name] / retention.at_once)):
                await self.do(TrimRuns(kind, trim))
                yield Pruned()
        yield Pruned(log_chunks=parts[tables.log_chunk.name])
        if kind is RunKind.FLOW_RUN and parts[task_runs]:
            while ids := await pruning_queries.list_task_run_ids(self._database, run_id, _SCAN):
                async for pruned in self.delete(RunKind.TASK_RUN, ids):
                    yield pruned
        yield await self._delete_small(kind, [run_id], {run_id: Counter()})


def _size(kind: RunKind, parts: Mapping[str, int]) -> float:
    """Answer which part of a transaction a run and its parts fill; above 1 they are too many."""
    runs = tables.flow_run if kind is RunKind.FLOW_RUN else tables.task_run
    return sum(count / _at_once(name) for name, count in (*parts.items(), (runs.name, 1)) if count)


def _at_once(table_name: str) -> int:
    retention = retention_of(tables.metadata.tables[table_name])
    assert isinstance(retention, AsLongAsAsked | WithItsRun | ForDays)
    return retention.at_once


def _as_pruned(kind: RunKind, runs: int, parts: Counter[str]) -> Pruned:
    task_runs, chunks = parts[tables.task_run.name], parts[tables.log_chunk.name]
    if kind is RunKind.FLOW_RUN:
        return Pruned(flow_runs=runs, task_runs=task_runs, log_chunks=chunks)
    return Pruned(task_runs=runs, log_chunks=chunks)
