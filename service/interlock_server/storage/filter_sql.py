"""Turns a filter into SQL, for each kind of things that can be listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    exists,
    false,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from interlock_server.storage import tables
from interlock_server.storage.filters import (
    AllOf,
    AnyOf,
    Condition,
    HasTags,
    IsSet,
    NameContains,
    Not,
    OneOf,
    Tagged,
    Within,
)
from interlock_server.storage.records import RunKind
from interlock_server.storage.rows import NAME_TABLES, RUN_TABLES, TAG_TABLES, TRANSITION_TABLES

_WRITTEN_OUT = 8
"""Longer lists are written into the statement: the oldest SQLite takes 999 variables, and a filter
has up to 50 lists, each of which may stand in a statement twice."""

Columns = ReadOnlyColumnCollection[str, Any]
"""The columns of what is filtered: of the table, or of a part of its rows."""


@dataclass(frozen=True, slots=True)
class Related:
    """Rows of another table that belong to what is filtered."""

    rows: Callable[[], Select[Any]]
    """All of them: a statement with one column, which refers to what is filtered."""
    refers_to: str = "id"
    """The column that is referred to."""
    value: ColumnElement[Any] | None = None
    """What of them a condition is about; None: just whether there is one."""

    def met(
        self, row: Columns, values: Sequence[Any] | None, one_by_one: bool
    ) -> ColumnElement[bool]:
        """Tell whether a row has any, with one of these values."""
        rows = self.rows()
        if values is not None:
            assert self.value is not None
            rows = rows.where(one_of(self.value, values))
        return belongs(row[self.refers_to], rows, one_by_one)


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of things that can be listed."""

    table: Table
    tags: Table
    tags_of: str
    """The column of `tags` that names what has the tag."""
    names: Table | None = None
    """Where names and folded names are, by `run_id`; None: in the table itself."""
    transitions: Table | None = None
    """Where the state is that a row names by its `state_id`."""
    related: Callable[[], dict[str, Related]] = dict
    """The fields that are no columns."""
    indexed: frozenset[str] = frozenset()
    """The fields with an index of their own, in which equal ones are sorted by id."""
    walked: frozenset[str] = frozenset()
    """The fields of orders that have an index."""


def belongs(owner: Any, rows: Select[Any], one_by_one: bool) -> ColumnElement[bool]:
    """Tell whether any of `rows`, whose one column refers to `owner`, does so.

    One by one they are looked up for each owner: where few owners are looked at. Else all of them
    are found at once: where all owners are looked at.
    """
    if not one_by_one:
        found: ColumnElement[bool] = owner.in_(rows)
        return found
    (reference,) = rows.selected_columns
    return exists(as_it_stands(rows.where(reference == owner).correlate(owner.table)))


def as_it_stands(rows: Select[Any]) -> Select[Any]:
    """Keep a database from making something else of a part of a statement, such as a join."""
    return rows.offset(0)


def one_of(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Tell whether a column has one of these values."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) <= _WRITTEN_OUT:
        return column.in_(distinct)
    listed: Any = bindparam(None, distinct, expanding=True, literal_execute=True, type_=column.type)
    return column.in_(listed)


def met(
    subject: Subject, row: Columns, condition: Condition, *, one_by_one: bool
) -> ColumnElement[bool]:
    """Tell whether a row meets a condition. `one_by_one`: see `belongs`."""

    def parts_met(parts: Sequence[Condition]) -> list[ColumnElement[bool]]:
        return [met(subject, row, part, one_by_one=one_by_one) for part in parts]

    related = subject.related()
    match condition:
        case AllOf(parts):
            return and_(true(), *parts_met(parts))
        case AnyOf(parts):
            return or_(false(), *parts_met(parts))
        case Not(part):
            # What is unknown, because a field is not set, is not met either.
            return met(subject, row, part, one_by_one=one_by_one).is_not(true())
        case OneOf(field, values) if field in related:
            return related[field].met(row, values, one_by_one)
        case OneOf(field, values):
            return one_of(row[field], values)
        case IsSet(field) if field in related:
            return related[field].met(row, None, one_by_one)
        case IsSet(field):
            return within(row[field], None, None)
        case Within(field, after, before):
            return within(row[field], after, before)
        case NameContains():
            if subject.names is None:
                return contains(row["folded_name"], condition)
            return belongs(row["id"], named(subject, condition), one_by_one)
        case Tagged(tags, all=False):
            return belongs(row["id"], tagged(subject, tags), one_by_one)
        case Tagged(tags):
            return _has_all(subject, row, tags, one_by_one)
        case HasTags():
            return belongs(row["id"], select(subject.tags.c[subject.tags_of]), one_by_one)


def within(
    column: ColumnElement[Any], after: int | None, before: int | None
) -> ColumnElement[bool]:
    """Tell whether a field is set, and within bounds."""
    bounds = [column >= after] if after is not None else []
    return and_(column.is_not(None), *bounds, *([column <= before] if before is not None else []))


def contains(column: ColumnElement[Any], condition: NameContains) -> ColumnElement[bool]:
    """Tell whether a column with folded names contains a text."""
    return column.contains(condition.folded, autoescape=True)


def named(subject: Subject, condition: NameContains) -> Select[Any]:
    """Find the runs whose name contains a text."""
    assert subject.names is not None
    names = subject.names.c
    return select(names.run_id).where(contains(names.folded_name, condition))


def tagged(subject: Subject, tags: Sequence[str]) -> Select[Any]:
    """Find what has any of these tags, once for each that it has."""
    return select(subject.tags.c[subject.tags_of]).where(one_of(subject.tags.c.tag, tags))


def _has_all(
    subject: Subject, row: Columns, tags: Sequence[str], one_by_one: bool
) -> ColumnElement[bool]:
    distinct = list(dict.fromkeys(tags))
    found, owner = tagged(subject, distinct), subject.tags.c[subject.tags_of]
    if one_by_one:
        number = found.with_only_columns(func.count()).where(owner == row["id"])
        return number.correlate(row["id"].table).scalar_subquery() == len(distinct)
    return belongs(row["id"], found.group_by(owner).having(func.count() == len(distinct)), False)


# --- the kinds ------------------------------------------------------------------------------------


def _flow_related() -> dict[str, Related]:
    return {"deployment": Related(lambda: select(tables.deployment.c.flow_id))}


def _flow_run_related() -> dict[str, Related]:
    tracker = tables.task_run.alias("tracker")
    return {
        "parent_flow_run_id": Related(
            lambda: select(tracker.c.id), "parent_task_run_id", tracker.c.flow_run_id
        )
    }


def _task_run_related() -> dict[str, Related]:
    child = tables.flow_run.alias("child")
    tracked = select(child.c.parent_task_run_id).where(
        child.c.parent_task_run_id.is_not(None), child.c.version >= 0
    )
    return {"subflow": Related(lambda: tracked)}


FLOWS = Subject(tables.flow, tables.flow_tag, "flow_id", related=_flow_related)
DEPLOYMENTS = Subject(tables.deployment, tables.deployment_tag, "deployment_id")

RUNS = {
    kind: Subject(
        RUN_TABLES[kind],
        TAG_TABLES[kind],
        "run_id",
        NAME_TABLES[kind],
        TRANSITION_TABLES[kind],
        related,
        indexed,
        frozenset({"id", "expected_start_time", "name"}),
    )
    for kind, related, indexed in (
        (
            RunKind.FLOW_RUN,
            _flow_run_related,
            frozenset({"flow_id", "deployment_id", "state_type", "parent_task_run_id"}),
        ),
        (RunKind.TASK_RUN, _task_run_related, frozenset({"flow_run_id", "state_type"})),
    )
}
