"""Reads of a search in many logs: which logs, which of their chunks, and the chunks themselves.

Logs come in the order of their runs' ids. What chunks there are is read without their data, so that
a long list of them is cheap, and their data then piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import Id
from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.filter_sql import RUNS
from interlock_server.storage.filters import AllOf, Condition, OneOf, Order, Query
from interlock_server.storage.listing import read_page
from interlock_server.storage.log_queries import RecordConditions, chunk_of
from interlock_server.storage.queries import presence
from interlock_server.storage.records import LogChunk, RunKind

RUNS_AT_ONCE = 200
"""How many runs a page of them has."""

PLACES_AT_ONCE = 512
"""How many chunks of one log are listed at once."""

_RECENT_CHUNKS = 20_000
"""Up to so many chunks since a time are looked through for their runs: some 10 ms."""

_CHUNK, _SIDE, _HEAD = tables.log_chunk.c, tables.log_chunk_task_run.c, tables.log_head.c


@dataclass(frozen=True, slots=True)
class LogSize:
    """How long a log is."""

    run_id: Id
    first_ordinal: int
    next_ordinal: int

    @property
    def records(self) -> int:
        """How many records it has."""
        return self.next_ordinal - self.first_ordinal


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where a chunk is, without its data."""

    run_id: Id
    first_ordinal: int
    last_ordinal: int
    raw_bytes: int


# --- runs -----------------------------------------------------------------------------------------


async def find_runs(database: Database, wanted: RecordConditions) -> list[Id] | None:
    """Find the runs whose logs can have such records; None: too many may, look at each.

    What finds them has an index: task runs, or a time not long ago.
    """
    chunk_count = func.count()
    if wanted.task_run_ids:
        some = select(_SIDE.run_id).where(_SIDE.task_run_id.in_(wanted.task_run_ids))
        statement = some.distinct()
    elif wanted.since is not None:
        recent = select(_CHUNK.run_id).where(_CHUNK.last_time >= wanted.since)
        if wanted.until is not None:
            recent = recent.where(_CHUNK.first_time < wanted.until)
        # Sorted as the index is, so that no other one will do.
        found = recent.order_by(_CHUNK.last_time).limit(_RECENT_CHUNKS).subquery("recent")
        statement = select(found.c.run_id, chunk_count).group_by(found.c.run_id)
    else:
        return None

    async def read(connection: AsyncConnection) -> Sequence[Any]:
        return (await connection.execute(statement)).all()

    rows = await database.read(read)
    if not wanted.task_run_ids and sum(row[1] for row in rows) >= _RECENT_CHUNKS:
        return None
    return [row[0] for row in rows]


async def list_flow_runs(
    database: Database,
    condition: Condition,
    among: Sequence[Id] | None,
    after: Id | None,
    descending: bool,
) -> list[Id]:
    """Read a page of the flow runs that meet a condition, of some runs or of all, sorted by id."""
    if among is not None:
        condition = AllOf((OneOf("id", tuple(among)), condition))
    position = None if after is None else (after,)
    query = Query(condition, Order("id", descending), position, RUNS_AT_ONCE)
    kind = RunKind.FLOW_RUN
    page = await read_page(database, RUNS[kind], query, [presence(kind, condition)])
    return [row.id for row in page.rows]


async def list_log_sizes(
    database: Database, after: Id | None, descending: bool
) -> tuple[list[LogSize], Id | None]:
    """Read a page of all logs, sorted by run id, and where the next one begins.

    None: this was the last one. Logs of runs that are being pruned are left out.
    """
    statement = select(_HEAD.run_id, _HEAD.first_ordinal, _HEAD.next_ordinal)
    if after is not None:
        statement = statement.where(_HEAD.run_id < after if descending else _HEAD.run_id > after)
    statement = statement.order_by(_HEAD.run_id.desc() if descending else _HEAD.run_id)
    found, present = await _sizes(database, statement.limit(RUNS_AT_ONCE), None)
    beyond = found[-1].run_id if len(found) == RUNS_AT_ONCE else None
    return [size for size in found if size.run_id in present], beyond


async def get_log_sizes(database: Database, run_ids: Sequence[Id]) -> dict[Id, LogSize]:
    """Read how long some logs are. Those of runs that are being pruned, or gone, are left out."""
    statement = select(_HEAD.run_id, _HEAD.first_ordinal, _HEAD.next_ordinal)
    statement = statement.where(_HEAD.run_id.in_(run_ids))
    found, present = await _sizes(database, statement, run_ids)
    return {size.run_id: size for size in found if size.run_id in present}


async def _sizes(
    database: Database, statement: Select[Any], run_ids: Sequence[Id] | None
) -> tuple[list[LogSize], set[Id]]:
    async def read(connection: AsyncConnection) -> tuple[list[LogSize], set[Id]]:
        found = [LogSize(*row) for row in await connection.execute(statement)]
        ids = run_ids if run_ids is not None else [size.run_id for size in found]
        return found, await _present(connection, ids)

    return await database.read(read)


async def _present(connection: AsyncConnection, run_ids: Iterable[Id]) -> set[Id]:
    """Leave out the runs that are being pruned."""
    present = set(run_ids)
    for run in (tables.flow_run.c, tables.task_run.c):
        pruned = select(run.id).where(run.id.in_(present), run.version < 0)
        present -= {row[0] for row in await connection.execute(pruned)}
    return present


# --- chunks ---------------------------------------------------------------------------------------


async def list_places(
    database: Database, run_ids: Sequence[Id], wanted: RecordConditions
) -> list[ChunkPlace]:
    """List all chunks of some short logs that may hold wanted records; each log's are in order."""
    return await _list_places(database, run_ids, _places(_CHUNK.run_id.in_(run_ids), wanted))


async def list_places_from(
    database: Database, run_id: Id, from_ordinal: int, wanted: RecordConditions
) -> list[ChunkPlace]:
    """List chunks of one log that may hold wanted records from an ordinal on: one page, in order.

    It was the last page where it has less than PLACES_AT_ONCE.
    """
    statement = _places(_CHUNK.run_id == run_id, wanted)
    statement = statement.where(_CHUNK.first_ordinal >= _holding(run_id, from_ordinal))
    return await _list_places(database, [run_id], statement.limit(PLACES_AT_ONCE))


def _holding(run_id: Id, ordinal: int) -> ColumnElement[int]:
    """Tell where the chunk begins that holds an ordinal; a merge may have moved it."""
    holding = select(func.max(_CHUNK.first_ordinal)).where(
        _CHUNK.run_id == run_id, _CHUNK.first_ordinal <= ordinal
    )
    return func.coalesce(holding.scalar_subquery(), ordinal)


def _places(of_runs: ColumnElement[bool], wanted: RecordConditions) -> Select[Any]:
    statement = select(
        _CHUNK.run_id, _CHUNK.first_ordinal, _CHUNK.last_ordinal, _CHUNK.raw_bytes
    ).where(of_runs, *wanted.on_chunks())
    if wanted.task_run_ids:
        named = select(_SIDE.run_id, _SIDE.first_ordinal).where(
            _SIDE.task_run_id.in_(wanted.task_run_ids)
        )
        statement = statement.where(tuple_(_CHUNK.run_id, _CHUNK.first_ordinal).in_(named))
    return statement.order_by(_CHUNK.run_id, _CHUNK.first_ordinal)


async def _list_places(
    database: Database, run_ids: Sequence[Id], statement: Select[Any]
) -> list[ChunkPlace]:
    async def read(connection: AsyncConnection) -> list[ChunkPlace]:
        present = await _present(connection, run_ids)
        rows = (await connection.execute(statement)).all()
        return [ChunkPlace(*row) for row in rows if row.run_id in present]

    return await database.read(read)


async def read_chunks(database: Database, places: Sequence[ChunkPlace]) -> list[LogChunk]:
    """Read chunks, in the order of their places, up to the first one that is gone."""
    keys = [(place.run_id, place.first_ordinal) for place in places]
    if len({place.run_id for place in places}) == 1:
        ordinals = _padded([place.first_ordinal for place in places])
        condition: Any = (_CHUNK.run_id == keys[0][0]) & _CHUNK.first_ordinal.in_(ordinals)
    else:
        # SQLite has no index for pairs: among the chunks of the runs it compares them.
        of_runs = _CHUNK.run_id.in_(_padded(list(dict.fromkeys(key[0] for key in keys))))
        condition = of_runs & tuple_(_CHUNK.run_id, _CHUNK.first_ordinal).in_(_padded(keys))
    statement = select(tables.log_chunk).where(condition)

    async def read(connection: AsyncConnection) -> dict[tuple[Id, int], LogChunk]:
        rows = (await connection.execute(statement)).all()
        return {(row.run_id, row.first_ordinal): chunk_of(row) for row in rows}

    found = await database.read(read)
    chunks = []
    for place, key in zip(places, keys, strict=True):
        chunk = found.get(key)
        if chunk is None or chunk.last_ordinal != place.last_ordinal:
            break
        chunks.append(chunk)
    return chunks


async def read_range(database: Database, run_id: Id, first: int, last: int) -> list[LogChunk]:
    """Read the chunks that hold the records of a short range of ordinals."""
    statement = (
        select(tables.log_chunk)
        .where(
            _CHUNK.run_id == run_id,
            _CHUNK.first_ordinal >= _holding(run_id, first),
            _CHUNK.first_ordinal <= last,
        )
        .order_by(_CHUNK.first_ordinal)
    )

    async def read(connection: AsyncConnection) -> list[LogChunk]:
        if not await _present(connection, [run_id]):
            return []
        return [chunk_of(row) for row in (await connection.execute(statement)).all()]

    return await database.read(read)


def _padded(values: list[Any]) -> list[Any]:
    """Repeat the last one up to the next power of two, so that there are few statements."""
    size = 1 << (len(values) - 1).bit_length()
    return values + values[-1:] * (size - len(values))
