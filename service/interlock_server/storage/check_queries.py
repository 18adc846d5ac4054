"""Reads for checking what is stored: page by page, so that no read is long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import Id, Micros
from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.log_queries import chunk_of
from interlock_server.storage.records import LogChunk, RunKind
from interlock_server.storage.rows import RUN_TABLES, TRANSITION_TABLES


@dataclass(frozen=True, slots=True)
class RunAndHistory:
    """A run's state as its row has it, and as its history has it."""

    run_id: Id
    state_id: Id | None
    state: tuple[str | None, str | None, Micros | None, int]
    """Type, name, time, and the run's run count."""
    transition_run_id: Id | None
    """The run of the transition that has the state's id; None: there is no such transition."""
    transition: tuple[str | None, str | None, Micros | None, int | None]
    """The same four as that transition has them."""
    newest: Micros | None
    """When the newest state in the run's history was written."""


async def list_runs_with_history(
    database: Database, kind: RunKind, after: Id | None, limit: int
) -> list[RunAndHistory]:
    """Read a page of runs by id, but for those that are being pruned."""
    run, transition = RUN_TABLES[kind].c, TRANSITION_TABLES[kind]
    other = transition.alias("other").c
    newest = (
        select(func.max(other.decided))
        .where(other.run_id == run.id, other.state_type.is_not(None))
        .scalar_subquery()
    )
    statement = (
        select(
            run.id,
            run.state_id,
            run.state_type,
            run.state_name,
            run.state_timestamp,
            run.run_count,
            transition.c.run_id,
            transition.c.state_type,
            transition.c.state_name,
            transition.c.decided,
            transition.c.run_count,
            newest,
        )
        .select_from(RUN_TABLES[kind].outerjoin(transition, transition.c.id == run.state_id))
        .where(run.version >= 0)
        .order_by(run.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(run.id > after)
    return [
        RunAndHistory(row[0], row[1], tuple(row[2:6]), row[6], tuple(row[7:11]), row[11])
        for row in await _rows(database, statement)
    ]


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Where a log begins and ends."""

    run_id: Id
    first_ordinal: int
    next_ordinal: int


_HEAD = tables.log_head.c
_BOUNDS = select(_HEAD.run_id, _HEAD.first_ordinal, _HEAD.next_ordinal)


async def list_log_bounds(database: Database, after: Id | None, limit: int) -> list[LogBounds]:
    """Read a page of logs by run id."""
    statement = _BOUNDS.order_by(_HEAD.run_id).limit(limit)
    if after is not None:
        statement = statement.where(_HEAD.run_id > after)
    return [LogBounds(*row) for row in await _rows(database, statement)]


async def log_bounds(database: Database, run_id: Id) -> LogBounds | None:
    """Read where a log begins and ends; None: there is no such log, or no longer."""
    found = await _rows(database, _BOUNDS.where(_HEAD.run_id == run_id))
    return LogBounds(*found[0]) if found else None


async def list_chunks_between(
    database: Database, first: Id, last: Id, after: tuple[Id, int] | None, limit: int
) -> list[LogChunk]:
    """Read chunks of the logs from one run id to another, in the order of run ids and ordinals.

    Each with the task runs that lead to it.
    """
    chunk, side = tables.log_chunk.c, tables.log_chunk_task_run.c
    statement = select(tables.log_chunk).where(chunk.run_id >= first, chunk.run_id <= last)
    if after is not None:
        run_id, ordinal = after
        statement = statement.where(
            chunk.run_id >= run_id,
            or_(chunk.run_id > run_id, and_(chunk.run_id == run_id, chunk.first_ordinal > ordinal)),
        )
    statement = statement.order_by(chunk.run_id, chunk.first_ordinal).limit(limit)
    chunks = [chunk_of(row) for row in await _rows(database, statement)]
    if not chunks:
        return []
    leading: dict[tuple[Id, int], list[Id]] = {}
    found = await _rows(
        database,
        select(side.run_id, side.first_ordinal, side.task_run_id).where(
            or_(
                *(
                    and_(side.run_id == each.run_id, side.first_ordinal == each.first_ordinal)
                    for each in chunks
                )
            )
        ),
    )
    for run_id, ordinal, task_run_id in found:
        leading.setdefault((run_id, ordinal), []).append(task_run_id)
    return [
        replace(each, task_run_ids=tuple(leading.get((each.run_id, each.first_ordinal), ())))
        for each in chunks
    ]


async def list_misled(database: Database, limit: int) -> list[tuple[Id, int, Id]]:
    """Read what leads from task runs to chunks that are not there: run, ordinal, task run."""
    chunk, side = tables.log_chunk.c, tables.log_chunk_task_run.c
    there = select(chunk.run_id).where(
        chunk.run_id == side.run_id, chunk.first_ordinal == side.first_ordinal
    )
    # A run that is being pruned loses both little by little.
    head = select(tables.log_head.c.run_id).where(tables.log_head.c.run_id == side.run_id)
    statement = select(side.run_id, side.first_ordinal, side.task_run_id).where(
        ~there.exists(), head.exists()
    )

    def read(connection: Connection) -> list[tuple[Id, int, Id]]:
        return [(row[0], row[1], row[2]) for row in connection.execute(statement.limit(limit))]

    # As `list_lost_logs`. One statement sees both tables at one moment.
    return await database.migrate(read)


async def list_lost_logs(database: Database, limit: int) -> list[Id]:
    """Read run ids of chunks whose log is not there, or whose run is not."""
    chunk, head = tables.log_chunk.c, tables.log_head.c
    known = [
        select(column).where(column == chunk.run_id).exists()
        for column in (tables.flow_run.c.id, tables.task_run.c.id)
    ]
    doomed = or_(
        *(
            select(run.c.id).where(run.c.id == chunk.run_id, run.c.version < 0).exists()
            for run in RUN_TABLES.values()
        )
    )
    headless = ~select(head.run_id).where(head.run_id == chunk.run_id).exists()
    lost = or_(and_(headless, ~doomed), ~or_(*known))
    statement = select(chunk.run_id).distinct().where(lost).limit(limit)

    def read(connection: Connection) -> list[Id]:
        return [row[0] for row in connection.execute(statement)]

    # One statement that looks at every chunk's key: longer than a read may take.
    return await database.migrate(read)


async def _rows(database: Database, statement: Select[Any]) -> Sequence[Any]:
    async def read(connection: AsyncConnection) -> Sequence[Any]:
        rows: Sequence[Any] = (await connection.execute(statement)).all()
        return rows

    return await database.read(read)
