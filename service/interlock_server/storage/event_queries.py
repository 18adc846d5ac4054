"""Reads of events, in their order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    case,
    cast,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import Id, Micros, State, StateType
from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.event_order import Place
from interlock_server.storage.records import RunKind
from interlock_server.storage.rows import RUN_TABLES, TRANSITION_TABLES, details_of, result_of
from interlock_server.storage.types import IdType

LARGE = 16 * 1024
"""Characters of a state's message, details or result beyond which an event goes without them: a
page of events stays small that way, and who needs them reads the run."""

_EVENT_BYTES = 1500
"""What an event takes in memory beside its texts, about."""

_SLACK: Micros = 60_000_000
"""How far the times of events may be out of the order of their positions: longer than a batch may
take. (Its clock is read before its transaction gets its id.)"""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that was committed about a run: a state was written, or the run was deleted."""

    place: Place
    time: Micros
    kind: RunKind
    run_id: Id
    flow_id: Id | None
    """The flow, of a task run that of its flow run; None: there is none, or none any more."""
    flow_run_id: Id | None
    """Task runs: the flow run; None: there is none."""
    name: str
    """The run's name as it is now; empty for one that was deleted."""
    tags: tuple[str, ...]
    """Its tags as they are now; none for one that was deleted."""
    state: State | None
    """The state that was written; None: the run was deleted."""
    abridged: bool
    """Whether parts of the state were left out, since they are `LARGE`."""
    run_count: int
    version: int
    rule: str
    reason: str
    explanation: str
    proposed_by: str

    @property
    def size(self) -> int:
        """What it takes in memory, about."""
        message = len(self.state.message) if self.state is not None else 0
        return _EVENT_BYTES + message + len(self.explanation)


async def list_events(database: Database, after: Place, below: int, limit: int) -> list[RunEvent]:
    """Read the first events behind a place, in order, with positions below `below`."""
    values = {"position": after.position, "ordinal": after.ordinal, "below": below, "most": limit}

    async def read(connection: AsyncConnection) -> list[RunEvent]:
        return [_event_of(row) for row in await connection.execute(_events(), values)]

    events = await database.read(read)
    # Each part has its first ones; all together are sorted here, where it takes no statement more.
    events.sort(key=lambda event: event.place)
    return events[:limit]


@lru_cache(maxsize=1)
def _events() -> Any:
    """The first events behind a place: made once, which takes longer than to run it."""
    return union_all(*(_written(kind) for kind in RunKind), _deleted())


def _first(table: Table, columns: list[Any]) -> Any:
    position, ordinal = table.c.position, table.c.ordinal
    place = tuple_(bindparam("position", type_=BigInteger), bindparam("ordinal", type_=Integer))
    return (
        select(position, ordinal, *columns)
        .where(tuple_(position, ordinal) > place, position < bindparam("below", type_=BigInteger))
        .order_by(position, ordinal)
        .limit(bindparam("most", type_=Integer))
        .subquery()
    )


def _written(kind: RunKind) -> Select[Any]:
    table = TRANSITION_TABLES[kind]
    columns = table.c
    # The few that are wanted are found first, and what else is told of them is read for those.
    first = _first(
        table,
        [
            columns.id,
            columns.run_id,
            columns.decided,
            columns.run_count,
            columns.version,
            columns.rule,
            columns.reason,
            columns.explanation,
            columns.proposed_by,
            columns.state_type,
            columns.state_name,
            *(_unless_large(columns[name]) for name in ("message", "details", "result")),
            or_(*(_is_large(columns[name]) for name in ("message", "details", "result"))).label(
                "abridged"
            ),
        ],
    )
    run = RUN_TABLES[kind]
    joined = first.join(run, run.c.id == first.c.run_id)
    flow_id, flow_run_id = run.c.get("flow_id"), run.c.get("flow_run_id")
    if flow_id is None:
        parent = tables.flow_run.alias("parent")
        joined = joined.outerjoin(parent, parent.c.id == flow_run_id)
        flow_id = parent.c.flow_id
    return select(
        first.c.position,
        first.c.ordinal,
        first.c.decided.label("time"),
        _text(kind.value, "kind"),
        first.c.run_id,
        flow_id.label("flow_id"),
        (_nothing(IdType()) if flow_run_id is None else flow_run_id).label("flow_run_id"),
        run.c.name,
        run.c.tags,
        *(
            first.c[name]
            for name in (
                "id",
                "state_type",
                "state_name",
                "message",
                "details",
                "result",
                "abridged",
                "run_count",
                "version",
                "rule",
                "reason",
                "explanation",
                "proposed_by",
            )
        ),
    ).select_from(joined)


def _deleted() -> Select[Any]:
    columns = tables.deleted_run.c
    first = _first(
        tables.deleted_run,
        [columns.id, columns.deleted, columns.kind, columns.parent_id],
    )
    parent = tables.flow_run.alias("parent")
    is_flow_run = first.c.kind == RunKind.FLOW_RUN.value
    return select(
        first.c.position,
        first.c.ordinal,
        first.c.deleted,
        first.c.kind,
        first.c.id,
        case((is_flow_run, first.c.parent_id), else_=parent.c.flow_id),
        case((is_flow_run, _nothing(IdType())), else_=first.c.parent_id),
        _text("", "name"),
        _text("[]", "tags"),
        _nothing(IdType()),
        *(_nothing(Text()) for _ in ("type", "name", "message", "details", "result")),
        false(),
        *(literal_column("0", Integer) for _ in ("run_count", "version")),
        *(_text("", name) for name in ("rule", "reason", "explanation", "proposed_by")),
    ).select_from(first.outerjoin(parent, parent.c.id == first.c.parent_id))


def _is_large(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return func.coalesce(func.length(column), 0) > LARGE


def _unless_large(column: Any) -> Any:
    return case((_is_large(column), null()), else_=column).label(column.name)


def _nothing(type_: Any) -> Any:
    return cast(null(), type_)


def _text(value: str, name: str) -> Any:
    return literal(value, Text).label(name)


def _event_of(row: Any) -> RunEvent:
    state = None
    if row.state_type is not None:
        state = State(
            row.id,
            StateType(row.state_type),
            row.state_name,
            row.time,
            row.message or "",
            details_of(row.details),
            result_of(row.result),
        )
    return RunEvent(
        Place(row.position, row.ordinal),
        row.time,
        RunKind(row.kind),
        row.run_id,
        row.flow_id,
        row.flow_run_id,
        row.name,
        tuple(json.loads(row.tags)),
        state,
        bool(row.abridged),
        row.run_count,
        row.version or 0,
        row.rule,
        row.reason,
        row.explanation,
        row.proposed_by,
    )


# --- where a time begins --------------------------------------------------------------------------


async def place_before(database: Database, time: Micros, below: int) -> Place:
    """Find a place that all events of a time and later stand behind, and few earlier ones.

    Times are nearly in the order of positions, so that looking at some forty events finds it.
    """

    async def read(connection: AsyncConnection) -> Place:
        low, high = 0, below
        while low < high:
            middle = (low + high) // 2
            values = {"position": middle, "below": high}
            found = (await connection.execute(_next_event(), values)).first()
            if found is None or found.time >= time - _SLACK:
                high = middle
            else:
                low = found.position + 1
        return Place(low, -1)

    return await database.read(read)


@lru_cache(maxsize=1)
def _next_event() -> Select[Any]:
    """Position and time of the first event at a position or above, and below another."""
    position, below = (bindparam(name, type_=BigInteger) for name in ("position", "below"))
    parts = [
        select(table.c.position, table.c[time].label("time"))
        .where(table.c.position >= position, table.c.position < below)
        .order_by(table.c.position)
        .limit(1)
        .subquery()
        for table, time in (
            (tables.flow_run_transition, "decided"),
            (tables.task_run_transition, "decided"),
            (tables.deleted_run, "deleted"),
        )
    ]
    any_of = union_all(*(select(part) for part in parts)).subquery()
    return select(any_of).order_by(any_of.c.position).limit(1)
