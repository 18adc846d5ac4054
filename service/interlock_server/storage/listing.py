"""Reads a page of things: which, and in which order, is up to the caller.

Databases guess badly how many rows meet a filter, and one wrong guess reads a whole table for a
page of 50. So the plan is not left to them. A page is taken from a **window**, a limited number of
rows that an index gives:

1. Rows in the order asked for, from where the page begins. Where many rows meet the filter, the
   page is full soon.
2. Else few rows meet it, at least here. Its conditions are counted, each up to a limit, in one
   statement; all rows that meet the rarest one are the window, and what remains of them is sorted.
3. Only where each condition is met by many, and all of them together by few, the rows are read in
   their order, however many there are.

A window is limited by SQL's `LIMIT`, which no database looks behind: what is inside is planned by
itself, and has one condition and one index that fits it. What is asked of the rows of a window is
no condition that an index could serve (`IS TRUE`). A window tells how many rows it had, in the same
statement as the page, so that a page is never taken for complete while rows come and go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import FromClause, Row, Select, Subquery, and_, func, literal_column, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.storage import filter_sql, order_sql
from interlock_server.storage.database import Database
from interlock_server.storage.filter_sql import Subject
from interlock_server.storage.filters import (
    Condition,
    NameContains,
    OneOf,
    Position,
    Query,
    Tagged,
    Within,
    demands,
)

WALK = 2_000
"""Rows that are looked at in their order first: 2 to 4 ms."""

RARE = 10_000
"""Up to so many rows that meet a condition are all read: 10 to 30 ms at the most."""


_MOST_COUNTED = 6
"""So many conditions are counted at the most: up to a millisecond each."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and where the next page begins; None: this was the last one."""

    rows: Sequence[Row[Any]]
    after: Position | None


@dataclass(frozen=True, slots=True)
class Window:
    """Some of the rows of a table."""

    rows: FromClause
    row: Any
    """The columns of the table, as they are named among `rows`."""
    keys: list[Any]
    """What they are ordered by, as it is named among `rows`."""
    size: Subquery | None
    """Rows that are as many as the window has; None: it has all."""
    limit: int = 0
    sorted: bool = False
    """Whether they are the first ones in the order asked for."""
    narrowed_by: tuple[Any, ...] = ()
    """Conditions on them that an index may serve."""


async def read_page(
    database: Database, subject: Subject, query: Query, present: Sequence[Any] = ()
) -> Page:
    """Read a page of the rows that meet the query's filter, and conditions on the table besides."""

    async def read(connection: AsyncConnection) -> Sequence[Row[Any]]:
        return await _read_first(connection, Lister(subject, query, present))

    rows = await database.read(read)
    if len(rows) <= query.limit:
        return Page(rows, None)
    last = rows[query.limit - 1]
    position = (last.id,) if query.order.by_id else (last.order_key, last.id)
    return Page(rows[: query.limit], position)


async def _read_first(connection: AsyncConnection, lister: Lister) -> Sequence[Row[Any]]:
    """Try the windows in turn, until the rows of the page are known to be all."""
    for window in lister.sure_windows():
        if (rows := await _try(connection, lister, window)) is not None:
            return rows
    counted = lister.countable_windows()
    if len(counted) > 1:
        counts = (await connection.execute(sizes(counted))).one()
        counted = [window for _, window in sorted(zip(counts, counted, strict=True), key=_count)]
    for window in (*counted[:1], *lister.other_windows()):
        if (rows := await _try(connection, lister, window)) is not None:
            return rows
    rows = await _try(connection, lister, lister.everything())
    assert rows is not None
    return rows


def _count(counted: tuple[int, Window]) -> int:
    return counted[0]


async def _try(
    connection: AsyncConnection, lister: Lister, window: Window
) -> Sequence[Row[Any]] | None:
    """Read the page from a window; None: the window may lack rows of the page."""
    found = (await connection.execute(lister.page_from(window))).all()
    rows = [row for row in found if row.id is not None]
    full = window.sorted and len(rows) > lister.query.limit
    if window.size is None or full or found[0].window_size < window.limit:
        return rows
    return None


def sizes(windows: Sequence[Window]) -> Select[Any]:
    """Count the rows of windows, in one statement."""
    return select(
        *(
            select(func.count()).select_from(window.size).scalar_subquery()
            for window in windows
            if window.size is not None
        )
    )


class Lister:
    """The statements for one page."""

    def __init__(self, subject: Subject, query: Query, present: Sequence[Any]) -> None:
        self.query = query
        self._subject = subject
        self._present = present
        self._demands = list(demands(query.filter))

    # --- windows ---

    def sure_windows(self) -> Iterator[Window]:
        """Answer what is tried without a look at how many rows meet which condition."""
        for demand in self._demands:
            if isinstance(demand, OneOf) and demand.field == "id":
                yield self._window_of(self._ids_that_meet(demand), limit=len(demand.values) + 1)
        if self.query.order.field in self._subject.walked:
            yield self._first_rows()

    def countable_windows(self) -> list[Window]:
        """Answer the windows that are cheap to count."""
        return [
            self._window_of(self._ids_that_meet(part))
            for demand in self._demands
            for part in _single(demand)
            if self._has_index(part)
        ][:_MOST_COUNTED]

    def other_windows(self) -> Iterator[Window]:
        """Answer the windows that take a search of their own to count."""
        for demand in self._demands:
            if isinstance(demand, NameContains) and self._subject.names is not None:
                yield self._window_of(self._ids_that_meet(demand))

    def everything(self) -> Window:
        """Answer all rows. Where the order is by id, those of one value of one index, if asked for:
        there they are sorted, too."""
        keys, rows = self._keys_of_table()
        row = self._subject.table.c
        narrowed_by: list[Any] = []
        if self.query.order.by_id:
            narrowed_by = [
                filter_sql.one_of(row[demand.field], demand.values)
                for demand in self._demands
                if self._has_index(demand) and isinstance(demand, OneOf)
                if len(demand.values) == 1 and demand.field != "name"
            ]
        return Window(rows, row, keys, None, narrowed_by=tuple(narrowed_by[:1]))

    def _has_index(self, demand: Condition) -> bool:
        """Tell whether an index finds what meets a condition, other than that of the order."""
        subject = self._subject
        match demand:
            case OneOf("name") | Tagged():
                return subject.names is not None
            case OneOf(field):
                return field in subject.indexed
            case Within(field):
                return field in subject.walked and field != self.query.order.field
        return False

    def _first_rows(self) -> Window:
        """The first rows in the order, from where the page begins."""
        subject, order = self._subject, self.query.order
        apart = order.field == "name"
        source: Any = subject.names if apart else subject.table
        owner = source.c.run_id if apart else source.c.id
        keys = [owner] if order.by_id else [source.c[order.field], owner]
        chosen = select(*(keys if apart else source.c)).where(*self._bounds(source.c, keys))
        chosen = order_sql.sort(chosen, keys, order.descending).limit(_number(WALK))
        size = order_sql.sort(
            select(owner).where(*self._bounds(source.c, keys)), keys, order.descending
        )
        counted = size.limit(_number(WALK)).subquery("walked")
        rows = chosen.subquery("walk")
        if not apart:
            named = [rows.c[key.name] for key in keys]
            return Window(rows, rows.c, named, counted, WALK, sorted=True)
        joined = rows.join(subject.table, subject.table.c.id == rows.c.run_id)
        return Window(
            joined, subject.table.c, [rows.c.name, rows.c.run_id], counted, WALK, sorted=True
        )

    def _bounds(self, row: Any, keys: Sequence[Any]) -> list[Any]:
        """What narrows the walk along the order's own index."""
        order = self.query.order
        bounds = [
            filter_sql.within(row[demand.field], demand.after, demand.before)
            for demand in self._demands
            if isinstance(demand, Within) and demand.field == order.field
        ]
        return bounds + order_sql.beyond(keys, self.query.after, order.descending)

    def _window_of(self, ids: Select[Any], limit: int = RARE) -> Window:
        """All rows that have one of the ids, if they are fewer than the limit."""
        chosen = ids.limit(_number(limit)).subquery("chosen")
        keys, rows = self._keys_of_table(chosen)
        size = ids.limit(_number(limit)).subquery("counted")
        return Window(rows, self._subject.table.c, keys, size, limit)

    def _ids_that_meet(self, demand: Condition) -> Select[Any]:
        """Find the ids of what meets a condition, each once, by the index that there is for it."""
        subject, table = self._subject, self._subject.table
        match demand:
            case OneOf("name", values):
                assert subject.names is not None
                names = subject.names.c
                return select(names.run_id.label("id")).where(filter_sql.one_of(names.name, values))
            case OneOf(field, values):
                found = select(table.c.id).where(filter_sql.one_of(table.c[field], values))
                # Sorted as the index is, so that no other one will do.
                return found.order_by(table.c.id) if len(values) == 1 else found
            case Within(field, after, before):
                column = table.c[field]
                found = select(table.c.id).where(filter_sql.within(column, after, before))
                return found.order_by(column, table.c.id)
            case Tagged((tag,)):
                (ids,) = (found := filter_sql.tagged(subject, [tag])).selected_columns
                return found.with_only_columns(ids.label("id")).order_by(ids)
            case Tagged(tags, all=False):
                (ids,) = (found := filter_sql.tagged(subject, tags)).selected_columns
                return found.with_only_columns(ids.label("id")).distinct()
            case NameContains():
                (ids,) = (found := filter_sql.named(subject, demand)).selected_columns
                return found.with_only_columns(ids.label("id"))
            case _:
                raise AssertionError(f"no index serves {demand}")

    def _keys_of_table(self, chosen: Subquery | None = None) -> tuple[list[Any], FromClause]:
        subject, order = self._subject, self.query.order
        table = subject.table
        rows: Any = table
        if chosen is not None:
            rows = chosen.join(table, table.c.id == chosen.c.id)
        if order.field != "name" or subject.names is None:
            return order_sql.keys(order, table.c), rows
        names = subject.names
        rows = rows.join(names, names.c.run_id == table.c.id)
        return [names.c.name, names.c.run_id], rows

    # --- the page ---

    def page_from(self, window: Window) -> Select[Any]:
        """Read the page from a window, one row more than the page has, and the window's size.

        There is a row without an id where the window has a size and no row for the page.
        """
        query, row = self.query, window.row
        met = and_(
            *(condition(row) for condition in self._present),
            filter_sql.met(self._subject, row, query.filter, one_by_one=True),
        )
        columns = [row[column.name] for column in self._subject.table.c]
        statement = (
            select(*columns, window.keys[0].label("order_key"))
            .select_from(window.rows)
            .where(met.is_(true()), *window.narrowed_by)
        )
        if not window.sorted:
            statement = statement.where(
                *order_sql.beyond(window.keys, query.after, query.order.descending)
            )
        statement = order_sql.sort(statement, window.keys, query.order.descending)
        page = statement.limit(query.limit + 1).subquery("page")
        return self._completed(window, page)

    def _completed(self, window: Window, page: Subquery) -> Select[Any]:
        """Add the window's size, and the states that rows are in."""
        shown: list[Any] = list(page.c)
        source: Any = page
        if window.size is not None:
            size = select(func.count().label("window_size")).select_from(window.size).subquery()
            source = size.outerjoin(page, true())
            shown.append(size.c.window_size)
        if (transitions := self._subject.transitions) is not None:
            source = source.outerjoin(transitions, transitions.c.id == page.c.state_id)
            shown += [transitions.c[name] for name in ("message", "details", "result")]
        ordered = [page.c.id] if self.query.order.by_id else [page.c.order_key, page.c.id]
        return order_sql.sort(
            select(*shown).select_from(source), ordered, self.query.order.descending
        )


def _single(demand: Condition) -> list[Condition]:
    """Take apart what an index serves part by part."""
    if isinstance(demand, Tagged) and demand.all:
        return [Tagged((tag,)) for tag in demand.tags]
    return [demand]


def _number(value: int) -> Any:
    """Write a number into the statement, so that plans are made for it."""
    return literal_column(str(value))
