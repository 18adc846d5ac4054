"""Reads of logs: their chunks, and how far producers have come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import Id, Micros
from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.records import LEVELS, LogChunk

CHUNKS_AT_ONCE = 8
"""How many chunks a read should ask for: at most 8 MiB of messages, mostly some hundred KiB."""

_CHUNK = tables.log_chunk
_COUNTS = (
    _CHUNK.c.trace_count,
    _CHUNK.c.debug_count,
    _CHUNK.c.info_count,
    _CHUNK.c.warning_count,
    _CHUNK.c.error_count,
    _CHUNK.c.critical_count,
)


@dataclass(frozen=True, slots=True)
class RecordConditions:
    """Which records are wanted. Chunks that can not hold any are not read."""

    min_level: int = 0
    task_run_ids: Sequence[Id] = ()
    since: Micros | None = None
    until: Micros | None = None

    def on_chunks(self) -> list[ColumnElement[bool]]:
        """Answer what chunks with such records meet; `task_run_ids` are for the side table."""
        met: list[ColumnElement[bool]] = []
        if self.min_level > 0:
            class_ = sum(self.min_level >= level for level in LEVELS)
            met.append(or_(*(count > 0 for count in _COUNTS[class_:])))
        if self.since is not None:
            met.append(_CHUNK.c.last_time >= self.since)
        if self.until is not None:
            met.append(_CHUNK.c.first_time < self.until)
        return met


ANY_RECORD = RecordConditions()


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which records of a log."""

    run_id: Id
    wanted: RecordConditions = ANY_RECORD


async def list_chunks(
    database: Database, query: LogQuery, from_ordinal: int, descending: bool, limit: int
) -> list[LogChunk]:
    """Read chunks that may hold records at or after an ordinal; descending: at or before it."""
    chunk = _CHUNK.c
    statement: Select[Any] = select(_CHUNK).where(chunk.run_id == query.run_id)
    for run in (tables.flow_run, tables.task_run):
        pruned = select(run.c.id).where(run.c.id == query.run_id, run.c.version < 0)
        statement = statement.where(~pruned.exists())
    if descending:
        statement = statement.where(chunk.first_ordinal <= from_ordinal)
        statement = statement.order_by(chunk.first_ordinal.desc())
    else:
        # The chunk that holds the ordinal begins at or before it.
        holding = (
            select(func.max(chunk.first_ordinal))
            .where(chunk.run_id == query.run_id, chunk.first_ordinal <= from_ordinal)
            .scalar_subquery()
        )
        statement = statement.where(chunk.first_ordinal >= func.coalesce(holding, from_ordinal))
        statement = statement.order_by(chunk.first_ordinal)
    statement = statement.where(*query.wanted.on_chunks())
    if query.wanted.task_run_ids:
        side = tables.log_chunk_task_run.c
        statement = statement.where(
            chunk.first_ordinal.in_(
                select(side.first_ordinal).where(
                    side.task_run_id.in_(query.wanted.task_run_ids),
                    side.run_id == query.run_id,
                )
            )
        )

    async def read(connection: AsyncConnection) -> list[LogChunk]:
        rows = (await connection.execute(statement.limit(limit))).all()
        return [chunk_of(row) for row in rows]

    return await database.read(read)


def chunk_of(row: Row[Any]) -> LogChunk:
    """Read a chunk from a row with named columns; the task runs it names are elsewhere."""
    counts = tuple(getattr(row, count.name) for count in _COUNTS)
    return LogChunk(
        row.run_id,
        row.first_ordinal,
        row.last_ordinal,
        row.first_time,
        row.last_time,
        counts,
        row.raw_bytes,
        row.data,
        task_run_ids=(),
        level=row.level,
        stored=row.stored,
    )


async def last_acknowledged(database: Database, producer_id: Id) -> int:
    """Read the highest number of a producer's batches that is durable; 0: none.

    A single call with its id does not count: what the producer sends is refused, not ignored.
    """
    producer = tables.log_producer.c
    highest: ColumnElement[int] = func.coalesce(func.max(producer.last_number), 0)
    statement = select(highest).where(
        producer.producer_id == producer_id, producer.digest.is_(None)
    )

    async def read(connection: AsyncConnection) -> int:
        return (await connection.execute(statement)).scalar_one()

    return await database.read(read)
