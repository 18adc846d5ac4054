"""Reads for the retention of logs: which of them have parts that came long ago."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import TERMINAL, Id, Micros
from interlock_server.storage import tables
from interlock_server.storage.database import Database

_CHUNKS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some logs, in the order of their runs' ids."""

    old: list[Id]
    """Those of them whose oldest chunk came before the time asked for."""
    last: Id | None
    """Behind which to go on; None: these were the last ones."""


async def list_old_logs(
    database: Database, after: Id | None, before: Micros, limit: int
) -> LogPage:
    """Look at the next `limit` logs, old or not, behind that of a run."""
    head, chunk = tables.log_head.c, tables.log_chunk.c
    oldest = (
        select(func.coalesce(chunk.stored, 0))
        .where(chunk.run_id == head.run_id)
        .order_by(chunk.first_ordinal)
        .limit(1)
        .scalar_subquery()
    )
    # Where nothing has come for so long the chunk need not be read, which is cheaper by far.
    came = case((head.appended < before, 0), else_=oldest)
    statement = select(head.run_id, head.first_ordinal, head.next_ordinal, came)
    if after is not None:
        statement = statement.where(head.run_id > after)
    statement = statement.order_by(head.run_id).limit(limit)

    async def read(connection: AsyncConnection) -> LogPage:
        rows = (await connection.execute(statement)).all()
        old = [
            run_id
            for run_id, first, next_, came in rows
            if first < next_ and came is not None and came < before
        ]
        return LogPage(old, rows[-1][0] if len(rows) == limit else None)

    return await database.read(read)


async def count_old_chunks(database: Database, run_id: Id, before: Micros) -> int:
    """Count the chunks at the front of a log that came before a time, some at a time."""
    chunk = tables.log_chunk.c
    came = func.coalesce(chunk.stored, 0)
    count, start = 0, -1
    while True:
        statement = (
            select(chunk.first_ordinal, came)
            .where(chunk.run_id == run_id, chunk.first_ordinal > start)
            .order_by(chunk.first_ordinal)
            .limit(_CHUNKS_AT_ONCE)
        )

        async def read(connection: AsyncConnection) -> list[tuple[int, Micros]]:
            return [(row[0], row[1]) for row in await connection.execute(statement)]  # noqa: B023

        rows = await database.read(read)
        for first_ordinal, stored in rows:
            if stored >= before:
                return count
            count, start = count + 1, first_ordinal
        if len(rows) < _CHUNKS_AT_ONCE:
            return count


async def ended_before(database: Database, run_ids: Collection[Id], time: Micros) -> set[Id]:
    """Name those of some runs that ended before a time."""

    async def read(connection: AsyncConnection) -> set[Id]:
        found: set[Id] = set()
        for run in (tables.flow_run.c, tables.task_run.c):
            statement = select(run.id).where(
                run.id.in_(run_ids),
                run.state_type.in_([type_.value for type_ in TERMINAL]),
                func.coalesce(run.end_time, run.state_timestamp) < time,
            )
            found.update(row[0] for row in await connection.execute(statement))
        return found

    return await database.read(read)
