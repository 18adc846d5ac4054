"""Reads. Each is one statement, or two where a page needs its parts from two tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import Id, State, StateType
from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.records import (
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
    details_of,
    flow_of,
    result_of,
    run_of,
    transition_of,
)

S = TypeVar("S", bound=Select[Any])

# --- pages ----------------------------------------------------------------------------------------

Position = tuple[int | str, ...]
"""Where a page ended: the last row's values of the order's columns, the id at the end."""


@dataclass(frozen=True, slots=True)
class Order:
    """By which column, and which way; the id breaks ties, so that pages never overlap."""

    column: str
    descending: bool


BY_ID_DESC = Order("id", True)


def _ordered(
    statement: Select[Any], table: Any, order: Order, after: Position | None
) -> Select[Any]:
    columns = [table.c[order.column]] + ([] if order.column == "id" else [table.c.id])
    if after is not None:
        statement = statement.where(_beyond(columns, after, order.descending))
    return statement.order_by(*(c.desc() if order.descending else c.asc() for c in columns))


def _beyond(columns: list[Any], after: Position, descending: bool) -> ColumnElement[bool]:
    """What comes after the position: (a, b) > (x, y), in words that every database plans well."""
    first, value = columns[0], after[0]
    past: ColumnElement[bool] = first < value if descending else first > value
    if len(columns) == 1:
        return past
    return and_(
        first <= value if descending else first >= value,
        or_(past, _beyond(columns[1:], after[1:], descending)),
    )


# --- flows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FlowQuery:
    """Which flows; empty conditions are none."""

    ids: Sequence[Id] = ()
    names: Sequence[str] = ()
    order: Order = Order("created", True)
    after: Position | None = None
    limit: int = 100


def _flows(statement: S, query: FlowQuery) -> S:
    if query.ids:
        statement = statement.where(tables.flow.c.id.in_(query.ids))
    if query.names:
        statement = statement.where(tables.flow.c.name.in_(query.names))
    return statement


async def get_flow(database: Database, flow_id: Id) -> Flow | None:
    """Read the flow of an id."""
    found = await list_flows(database, FlowQuery(ids=(flow_id,)))
    return found[0] if found else None


async def get_flow_by_name(database: Database, name: str) -> Flow | None:
    """Read the flow of a name."""
    found = await list_flows(database, FlowQuery(names=(name,)))
    return found[0] if found else None


async def list_flows(database: Database, query: FlowQuery) -> list[Flow]:
    """Read a page of flows."""
    statement = _ordered(
        _flows(select(tables.flow), query), tables.flow, query.order, query.after
    ).limit(query.limit)
    return [flow_of(row) for row in await _rows(database, statement)]


async def count_flows(database: Database, query: FlowQuery) -> int:
    """Count flows."""
    return await _count(database, _flows(select(func.count()).select_from(tables.flow), query))


# --- runs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs of a kind; empty conditions are none."""

    ids: Sequence[Id] = ()
    parent_ids: Sequence[Id] = ()
    """Flow runs: their flows. Task runs: their flow runs."""
    names: Sequence[str] = ()
    state_types: Sequence[StateType] = ()
    state_names: Sequence[str] = ()
    parent_task_run_ids: Sequence[Id] = ()
    """Flow runs only."""
    task_keys: Sequence[str] = ()
    """Task runs only."""
    order: Order = BY_ID_DESC
    after: Position | None = None
    limit: int = 100


def _present(kind: RunKind, *, by_parent: bool = False) -> ColumnElement[bool]:
    """What runs that are being pruned do not meet; by parent: nor task runs in such flow runs."""
    run = RUN_TABLES[kind]
    present: ColumnElement[bool] = run.c.version >= 0
    if kind is RunKind.FLOW_RUN or not by_parent:
        return present
    parent = tables.flow_run.alias("parent")
    version = select(parent.c.version).where(parent.c.id == run.c.flow_run_id).scalar_subquery()
    return and_(present, func.coalesce(version, 0) >= 0)


def _runs(statement: S, kind: RunKind, query: RunQuery) -> S:
    columns = RUN_TABLES[kind].c
    # Looking at each parent would make lists and counts of all task runs slow. There they vanish
    # as they are deleted, some hundreds at a time.
    statement = statement.where(_present(kind, by_parent=bool(query.ids or query.parent_ids)))
    conditions: list[tuple[str, Sequence[Any]]] = [
        ("id", query.ids),
        (PARENT_COLUMNS[kind], query.parent_ids),
        ("name", query.names),
        ("state_type", [type_.value for type_ in query.state_types]),
        ("state_name", query.state_names),
        ("parent_task_run_id", query.parent_task_run_ids),
        ("task_key", query.task_keys),
    ]
    for name, values in conditions:
        if values:
            statement = statement.where(columns[name].in_(values))
    return statement


async def get_run(database: Database, kind: RunKind, run_id: Id) -> FlowRun | TaskRun | None:
    """Read one run."""
    found = await list_runs(database, kind, RunQuery(ids=(run_id,)))
    return found[0] if found else None


async def list_runs(
    database: Database, kind: RunKind, query: RunQuery
) -> list[FlowRun] | list[TaskRun]:
    """Read a page of runs, each with its state."""
    run, transition = RUN_TABLES[kind], TRANSITION_TABLES[kind]
    statement = select(
        run, transition.c.message, transition.c.details, transition.c.result
    ).select_from(run.outerjoin(transition, run.c.state_id == transition.c.id))
    statement = _ordered(_runs(statement, kind, query), run, query.order, query.after)
    rows = await _rows(database, statement.limit(query.limit))
    return [run_of(kind, row, _state_of(row)) for row in rows]  # type: ignore[return-value]


async def count_runs(database: Database, kind: RunKind, query: RunQuery) -> int:
    """Count runs."""
    statement = select(func.count()).select_from(RUN_TABLES[kind])
    return await _count(database, _runs(statement, kind, query))


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
    present = select(run.c.id).where(run.c.id == run_id, _present(kind, by_parent=True))
    statement = select(table).where(table.c.run_id == run_id, present.exists())
    statement = _ordered(statement, table, Order("decided", False), after)
    return [transition_of(row) for row in await _rows(database, statement.limit(limit))]


async def get_flow_run_input(database: Database, run_id: Id, pause_key: str) -> FlowRunInput | None:
    """Read what a flow run was resumed with, by the key of its pause."""
    table, run = tables.flow_run_input, tables.flow_run
    present = select(run.c.id).where(run.c.id == run_id, _present(RunKind.FLOW_RUN))
    statement = select(table).where(
        table.c.run_id == run_id, table.c.pause_key == pause_key, present.exists()
    )
    found = await _rows(database, statement)
    return FlowRunInput(*tuple(found[0])) if found else None


# --- running them ---------------------------------------------------------------------------------


async def _rows(database: Database, statement: Select[Any]) -> Sequence[Row[Any]]:
    async def read(connection: AsyncConnection) -> Sequence[Row[Any]]:
        rows: Sequence[Row[Any]] = (await connection.execute(statement)).all()
        return rows

    return await database.read(read)


async def _count(database: Database, statement: Select[int]) -> int:
    async def read(connection: AsyncConnection) -> int:
        return (await connection.execute(statement)).scalar_one()

    return await database.read(read)
