"""Reads of flows, runs and histories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import Id, Micros, State, StateType
from interlock_server.storage import order_sql, tables
from interlock_server.storage.database import Database
from interlock_server.storage.filter_sql import DEPLOYMENTS, FLOWS, RUNS, Subject, met
from interlock_server.storage.filters import Condition, OneOf, Position, Query, demands
from interlock_server.storage.listing import read_page
from interlock_server.storage.records import (
    Deployment,
    Flow,
    FlowRun,
    FlowRunInput,
    RunKind,
    TaskRun,
    Transition,
)
from interlock_server.storage.rows import (
    PARENT_COLUMNS,
    RUN_TABLES,
    TRANSITION_TABLES,
    deployment_of,
    details_of,
    flow_of,
    result_of,
    run_of,
    transition_of,
)

# --- flows ----------------------------------------------------------------------------------------


async def get_flow(database: Database, flow_id: Id) -> Flow | None:
    """Read the flow of an id."""
    return await _get_flow(database, tables.flow.c.id == flow_id)


async def get_flow_by_name(database: Database, name: str) -> Flow | None:
    """Read the flow of a name."""
    return await _get_flow(database, tables.flow.c.name == name)


async def _get_flow(database: Database, condition: ColumnElement[bool]) -> Flow | None:
    rows = await _rows(database, select(tables.flow).where(condition))
    return flow_of(rows[0]) if rows else None


async def list_flows(database: Database, query: Query) -> tuple[list[Flow], Position | None]:
    """Read a page of flows, and where the next one begins."""
    page = await read_page(database, FLOWS, query)
    return [flow_of(row) for row in page.rows], page.after


async def count_flows(database: Database, condition: Condition) -> int:
    """Count flows."""
    return await _count(database, FLOWS, condition, [])


# --- deployments ----------------------------------------------------------------------------------


async def get_deployment(database: Database, deployment_id: Id) -> Deployment | None:
    """Read the deployment of an id."""
    return await _get_deployment(database, tables.deployment.c.id == deployment_id)


async def get_deployment_by_name(database: Database, flow_id: Id, name: str) -> Deployment | None:
    """Read the deployment that a flow has under a name."""
    deployment = tables.deployment.c
    condition = and_(deployment.flow_id == flow_id, deployment.name == name)
    return await _get_deployment(database, condition)


async def _get_deployment(database: Database, condition: ColumnElement[bool]) -> Deployment | None:
    rows = await _rows(database, select(tables.deployment).where(condition))
    return deployment_of(rows[0]) if rows else None


async def list_deployments(
    database: Database, query: Query
) -> tuple[list[Deployment], Position | None]:
    """Read a page of deployments, and where the next one begins."""
    page = await read_page(database, DEPLOYMENTS, query)
    return [deployment_of(row) for row in page.rows], page.after


async def count_deployments(database: Database, condition: Condition) -> int:
    """Count deployments."""
    return await _count(database, DEPLOYMENTS, condition, [])


# --- runs -----------------------------------------------------------------------------------------


def present(kind: RunKind, row: Any, *, by_parent: bool) -> ColumnElement[bool]:
    """What runs that are being pruned do not meet; by parent: nor task runs in such flow runs."""
    there: ColumnElement[bool] = row.version >= 0
    if kind is RunKind.FLOW_RUN or not by_parent:
        return there
    parent = tables.flow_run.alias("parent")
    version = select(parent.c.version).where(parent.c.id == row.flow_run_id).scalar_subquery()
    return and_(there, func.coalesce(version, 0) >= 0)


def presence(kind: RunKind, condition: Condition) -> Callable[[Any], ColumnElement[bool]]:
    """Choose what to ask of runs that meet a condition besides: see `present`.

    Looking at each parent would make lists and counts of all task runs slow. There they vanish as
    they are deleted, some hundreds at a time.
    """
    named = ("id", PARENT_COLUMNS[kind])
    by_parent = any(
        isinstance(demand, OneOf) and demand.field in named for demand in demands(condition)
    )
    return lambda row: present(kind, row, by_parent=by_parent)


async def get_run(database: Database, kind: RunKind, run_id: Id) -> FlowRun | TaskRun | None:
    """Read one run."""
    run, transition = RUN_TABLES[kind], TRANSITION_TABLES[kind]
    statement = (
        select(run, transition.c.message, transition.c.details, transition.c.result)
        .select_from(run.outerjoin(transition, run.c.state_id == transition.c.id))
        .where(run.c.id == run_id, present(kind, run.c, by_parent=True))
    )
    rows = await _rows(database, statement)
    return run_of(kind, rows[0], _state_of(rows[0])) if rows else None


async def list_runs(
    database: Database, kind: RunKind, query: Query
) -> tuple[list[FlowRun] | list[TaskRun], Position | None]:
    """Read a page of runs, each with its state, and where the next one begins."""
    page = await read_page(database, RUNS[kind], query, [presence(kind, query.filter)])
    runs = [run_of(kind, row, _state_of(row)) for row in page.rows]
    return runs, page.after  # type: ignore[return-value]


async def count_runs(database: Database, kind: RunKind, condition: Condition) -> int:
    """Count runs."""
    return await _count(database, RUNS[kind], condition, [presence(kind, condition)])


def _state_of(row: Row[Any]) -> State | None:
    if row.state_id is None:
        return None
    return State(
        row.state_id,
        StateType(row.state_type),
        row.state_name,
        row.state_timestamp,
        row.message,
        details_of(row.details),
        result_of(row.result),
    )


async def list_transitions(
    database: Database, kind: RunKind, run_id: Id, after: Position | None, limit: int
) -> list[Transition]:
    """Read a page of a run's history, oldest first."""
    table, run = TRANSITION_TABLES[kind], RUN_TABLES[kind]
    there = select(run.c.id).where(run.c.id == run_id, present(kind, run.c, by_parent=True))
    keys = [table.c.decided, table.c.id]
    statement = select(table).where(
        table.c.run_id == run_id, there.exists(), *order_sql.beyond(keys, after, False)
    )
    statement = order_sql.sort(statement, keys, False)
    return [transition_of(row) for row in await _rows(database, statement.limit(limit))]


async def get_flow_run_input(database: Database, run_id: Id, pause_key: str) -> FlowRunInput | None:
    """Read what a flow run was resumed with, by the key of its pause."""
    table, run = tables.flow_run_input, tables.flow_run
    there = select(run.c.id).where(
        run.c.id == run_id, present(RunKind.FLOW_RUN, run.c, by_parent=False)
    )
    statement = select(table).where(
        table.c.run_id == run_id, table.c.pause_key == pause_key, there.exists()
    )
    found = await _rows(database, statement)
    return FlowRunInput(*tuple(found[0])) if found else None


async def get_cached(database: Database, cache_key: str, now: Micros) -> Transition | None:
    """Read the newest completion under a cache key that has not expired."""
    entry, line, run = tables.task_run_cache, tables.task_run_transition, tables.task_run
    there = select(run.c.id).where(
        run.c.id == entry.c.run_id, present(RunKind.TASK_RUN, run.c, by_parent=True)
    )
    statement = (
        select(line)
        .join(entry, entry.c.state_id == line.c.id)
        .where(
            entry.c.cache_key == cache_key,
            entry.c.expiration.is_(None) | (entry.c.expiration > now),
            there.exists(),
        )
        .order_by(entry.c.created.desc(), entry.c.state_id.desc())
    )
    found = await _rows(database, statement.limit(1))
    return transition_of(found[0]) if found else None


# --- running them ---------------------------------------------------------------------------------


async def _rows(database: Database, statement: Select[Any]) -> Sequence[Row[Any]]:
    async def read(connection: AsyncConnection) -> Sequence[Row[Any]]:
        rows: Sequence[Row[Any]] = (await connection.execute(statement)).all()
        return rows

    return await database.read(read)


async def _count(
    database: Database,
    subject: Subject,
    condition: Condition,
    present: Sequence[Callable[[Any], ColumnElement[bool]]],
) -> int:
    row = subject.table.c
    statement = (
        select(func.count())
        .select_from(subject.table)
        .where(*(each(row) for each in present), met(subject, row, condition, one_by_one=False))
    )

    async def read(connection: AsyncConnection) -> int:
        return (await connection.execute(statement)).scalar_one()

    return await database.read(read)
