"""Reads of the loops: what is due, the longest due first. Hints, decided again under lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import TERMINAL, Id, Micros, StateType
from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.records import RunKind
from interlock_server.storage.rows import HEARTBEAT_TABLES

_TERMINAL = [type_.value for type_ in TERMINAL]


@dataclass(frozen=True, slots=True)
class Due:
    """A run, and when it is to be looked at."""

    run_id: Id
    deadline: Micros


async def next_heartbeats(database: Database, kind: RunKind, limit: int) -> list[Due]:
    """Read which runs that are watched by heartbeats are, or will be, silent for too long first."""
    table = HEARTBEAT_TABLES[kind]
    statement = select(table.c.run_id, table.c.deadline).order_by(table.c.deadline)
    return [Due(*row) for row in await _rows(database, statement.limit(limit))]


async def next_deadlines(database: Database, type_: StateType, limit: int) -> list[Due]:
    """Read which flow runs in states of a type have, or will have, their deadline first."""
    run = tables.flow_run.c
    statement = select(run.id, run.deadline).where(
        run.state_type == type_.value, run.deadline.is_not(None), run.version >= 0
    )
    statement = statement.order_by(run.deadline).limit(limit)
    return [Due(*row) for row in await _rows(database, statement)]


async def live_subflows(database: Database, flow_run_ids: Sequence[Id], limit: int) -> list[Id]:
    """Read ids of subflows of some flow runs that go on, and were not told to stop either."""
    subflow, tracker = tables.flow_run.c, tables.task_run.c
    statement = (
        select(subflow.id)
        .join(tables.task_run, tracker.id == subflow.parent_task_run_id)
        .where(
            tracker.flow_run_id.in_(flow_run_ids),
            subflow.state_type.not_in([*_TERMINAL, StateType.CANCELLING.value]),
            subflow.version >= 0,
        )
    )
    return [row[0] for row in await _rows(database, statement.limit(limit))]


async def live_task_runs(database: Database, flow_run_ids: Sequence[Id], limit: int) -> list[Id]:
    """Read ids of task runs of some flow runs that go on, but for those that track a live subflow.

    Those follow their subflow.
    """
    task_run, subflow = tables.task_run.c, tables.flow_run.c
    tracked = select(subflow.id).where(
        subflow.parent_task_run_id == task_run.id, subflow.state_type.not_in(_TERMINAL)
    )
    statement = select(task_run.id).where(
        task_run.flow_run_id.in_(flow_run_ids),
        task_run.state_type.not_in(_TERMINAL),
        ~tracked.exists(),
    )
    return [row[0] for row in await _rows(database, statement.limit(limit))]


async def _rows(database: Database, statement: Select[Any]) -> Sequence[Any]:
    async def read(connection: AsyncConnection) -> Sequence[Any]:
        rows: Sequence[Any] = (await connection.execute(statement)).all()
        return rows

    return await database.read(read)
