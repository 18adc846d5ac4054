"""Reads for pruning: which runs have ended, and how much hangs on each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import TERMINAL, Id, Micros
from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.facts import Expiry
from interlock_server.storage.records import RunKind
from interlock_server.storage.retention import owner_of, parts_of_runs
from interlock_server.storage.rows import RUN_TABLES


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run in a final state."""

    id: Id
    ended: Micros
    doomed: bool
    """Its pruning has begun."""


async def list_ended(
    database: Database, kind: RunKind, after: Id | None, limit: int
) -> list[EndedRun]:
    """Read a page of ended runs by id; of the task runs those that are part of no flow run."""
    run = RUN_TABLES[kind].c
    statement = select(run.id, func.coalesce(run.end_time, run.state_timestamp), run.version)
    if kind is RunKind.TASK_RUN:
        statement = statement.where(run.flow_run_id.is_(None))
    if after is not None:
        statement = statement.where(run.id > after)
    statement = statement.where(run.state_type.in_([type_.value for type_ in TERMINAL]))
    found = await _rows(database, statement.order_by(run.id).limit(limit))
    return [EndedRun(id_, ended, version < 0) for id_, ended, version in found]


async def list_task_run_ids(database: Database, flow_run_id: Id, limit: int) -> list[Id]:
    """Read ids of task runs in a flow run, also of one that is being pruned."""
    task_run = tables.task_run.c
    statement = select(task_run.id).where(task_run.flow_run_id == flow_run_id).limit(limit)
    return [row[0] for row in await _rows(database, statement)]


async def count_parts(
    database: Database, kind: RunKind, run_ids: Sequence[Id]
) -> dict[Id, Counter[str]]:
    """Count the rows that are parts of each run, by table; a flow run's task runs among them."""
    counts: dict[Id, Counter[str]] = {run_id: Counter() for run_id in run_ids}
    statements: dict[str, Select[Any]] = {}
    task_run = tables.task_run
    of_flow_run = task_run.c.flow_run_id
    in_flow_runs = (
        select(of_flow_run, func.count()).where(of_flow_run.in_(run_ids)).group_by(of_flow_run)
    )
    if kind is RunKind.FLOW_RUN:
        statements[task_run.name] = in_flow_runs.select_from(task_run)
    for table, _ in parts_of_runs(tables.metadata):
        run_id = table.c.run_id
        match owner_of(table):
            case None | kind.value:
                counted = select(run_id, func.count()).where(run_id.in_(run_ids))
                statements[table.name] = counted.group_by(run_id)
            case task_run.name:
                joined = task_run.join(table, run_id == task_run.c.id)
                statements[table.name] = in_flow_runs.select_from(joined)
    for name, statement in statements.items():
        for run_id, count in await _rows(database, statement):
            counts[run_id][name] += count
    return counts


async def count_older(database: Database, expiry: Expiry) -> int:
    """Count the rows that are too old, without a limit."""
    table = tables.metadata.tables[expiry.table]
    statement = select(func.count()).where(table.c[expiry.column] < expiry.before)
    ((count,),) = await _rows(database, statement)
    return int(count)


async def _rows(database: Database, statement: Select[Any]) -> Sequence[Any]:
    async def read(connection: AsyncConnection) -> Sequence[Any]:
        rows: Sequence[Any] = (await connection.execute(statement)).all()
        return rows

    return await database.read(read)
