"""The statements that read a page: from a window of its own, or from all rows. See `listing`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    and_,
    exists,
    func,
    literal_column,
    select,
    true,
)

from interlock_server.storage import filter_sql, order_sql
from interlock_server.storage.filter_sql import Subject
from interlock_server.storage.filters import (
    Condition,
    NameContains,
    OneOf,
    Query,
    Tagged,
    Within,
    demands,
    fields,
)

_MOST_COUNTED = 6
"""So many conditions are counted at the most: up to a millisecond each."""


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


class Windows:
    """The windows from which one page may be read."""

    def __init__(self, subject: Subject, query: Query, present: Sequence[Any]) -> None:
        self.query = query
        self._subject = subject
        self._present = present
        self._demands = list(demands(query.filter))

    # --- windows ---

    def of_ids(self) -> Window | None:
        """Answer the rows of the ids that the filter demands, if it does."""
        for demand in self._demands:
            if isinstance(demand, OneOf) and demand.field == "id":
                return self.of_condition(demand, len(demand.values) + 1)
        return None

    def countable(self) -> list[Condition]:
        """Answer the conditions that are cheap to count, since an index has all that meet them."""
        return [
            part for demand in self._demands for part in _single(demand) if self._has_index(part)
        ][:_MOST_COUNTED]

    def counts(self, conditions: Sequence[Condition], limit: int) -> Select[Any]:
        """Count what meets each of these conditions, each up to a limit, in one statement."""
        found = [self._ids_that_meet(each).limit(_number(limit)) for each in conditions]
        return select(
            *(
                select(func.count()).select_from(ids.subquery("counted")).scalar_subquery()
                for ids in found
            )
        )

    def of_searches(self, limit: int) -> Iterator[Window]:
        """Answer the rows that meet each condition that has to be searched."""
        for demand in self._demands:
            if isinstance(demand, NameContains) and self._subject.names is not None:
                yield self.of_condition(demand, limit)

    def of_condition(self, demand: Condition, limit: int | None = None) -> Window:
        """Answer all rows that meet a condition, if they are fewer than the limit."""
        ids = self._narrowed(demand)
        if limit is None:
            chosen = filter_sql.as_it_stands(ids).subquery("chosen")
            keys, rows = self._keys_of_table(chosen)
            return Window(rows, self._subject.table.c, keys, None)
        ids = ids.limit(_number(limit))
        keys, rows = self._keys_of_table(ids.subquery("chosen"))
        return Window(rows, self._subject.table.c, keys, ids.subquery("counted"), limit)

    def of_all(self, among: Condition | None = None) -> Window:
        """Answer all rows; or those that meet a condition, whose index has them sorted, too."""
        keys, rows = self._keys_of_table()
        row = self._subject.table.c
        narrowed_by = self._bounds(row)
        if isinstance(among, OneOf):
            narrowed_by.append(filter_sql.one_of(row[among.field], among.values))
        return Window(rows, row, keys, None, narrowed_by=tuple(narrowed_by))

    def is_sorted(self, demand: Condition) -> bool:
        """Tell whether the index for a condition has what meets it in the order asked for."""
        return (
            self.query.order.by_id
            and isinstance(demand, OneOf)
            and demand.field in self._subject.indexed
            and len(demand.values) == 1
        )

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

    def first_in_order(self, limit: int) -> Window | None:
        """Answer the first rows in the order, from where the page begins, if an index has it."""
        subject, order = self._subject, self.query.order
        if order.field not in subject.walked:
            return None
        apart = order.field == "name"
        source: Any = subject.names if apart else subject.table
        owner = source.c.run_id if apart else source.c.id
        keys = [owner] if order.by_id else [source.c[order.field], owner]

        def walk(*columns: Any) -> Select[Any]:
            chosen = select(*columns).where(
                *self._bounds(source.c), *order_sql.beyond(keys, self.query.after, order.descending)
            )
            return order_sql.sort(chosen, keys, order.descending).limit(_number(limit))

        size = walk(owner).subquery("walked")
        if not apart:
            rows = walk(*self._looked_at()).subquery("walk")
            named = [rows.c[key.name] for key in keys]
            return Window(rows, rows.c, named, size, limit, sorted=True)
        names = walk(*keys).subquery("walk")
        joined = names.join(subject.table, subject.table.c.id == names.c.run_id)
        return Window(
            joined, subject.table.c, [names.c.name, names.c.run_id], size, limit, sorted=True
        )

    def _bounds(self, row: Any) -> list[Any]:
        """What bounds the way along the order's own index."""
        return [
            filter_sql.within(row[demand.field], demand.after, demand.before)
            for demand in self._demands
            if isinstance(demand, Within) and demand.field == self.query.order.field
        ]

    def _narrowed(self, demand: Condition) -> Select[Any]:
        """Find what meets a condition, and as far as indexes tell, the others that are demanded."""
        found = self._ids_that_meet(demand)
        owner = self._owner(demand)
        table = self._subject.table.alias("also")
        for other in self._demands:
            if other == demand:
                continue
            if isinstance(other, OneOf) and other.field in self._subject.indexed:
                # With `=` it would be the primary key that is looked at, and then the row.
                same = table.c.id.between(owner, owner)
                met = filter_sql.one_of(table.c[other.field], other.values)
                also = select(table.c.id).where(met, same).correlate(owner.table)
                found = found.where(exists(filter_sql.as_it_stands(also)))
            elif isinstance(other, Tagged) and not other.all:
                tags = self._subject.tags.alias("also_tagged").c
                met = filter_sql.one_of(tags.tag, other.tags)
                tagged = select(tags[self._subject.tags_of]).where(met)
                found = found.where(filter_sql.belongs(owner, tagged, one_by_one=True))
        return found

    def _owner(self, demand: Condition) -> Any:
        """Answer the column in which `_ids_that_meet` finds ids."""
        subject = self._subject
        match demand:
            case Tagged():
                return subject.tags.c[subject.tags_of]
            case OneOf("name") | NameContains():
                assert subject.names is not None
                return subject.names.c.run_id
        return subject.table.c.id

    def _ids_that_meet(self, demand: Condition) -> Select[Any]:
        """Find the ids of what meets a condition, each once, by the index that there is for it."""
        subject, table = self._subject, self._subject.table
        id_ = self._owner(demand)
        found = select(id_.label("id"))
        match demand:
            case OneOf("name", values):
                assert subject.names is not None
                return found.where(filter_sql.one_of(subject.names.c.name, values))
            case OneOf(field, values):
                found = found.where(filter_sql.one_of(table.c[field], values))
                # Sorted as the index is, so that no other one will do.
                return found.order_by(id_) if len(values) == 1 else found
            case Within(field, after, before):
                within = filter_sql.within(table.c[field], after, before)
                return found.where(within).order_by(table.c[field], id_)
            case Tagged(tags, all=False):
                found = found.where(filter_sql.one_of(subject.tags.c.tag, tags))
                return found.order_by(id_) if len(tags) == 1 else found.distinct()
            case NameContains():
                assert subject.names is not None
                return found.where(filter_sql.contains(subject.names.c.folded_name, demand))
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

    def _looked_at(self) -> list[Any]:
        """Answer the columns that the filter, and what is asked of rows besides, may look at."""
        subject = self._subject
        names = {"id", "version", self.query.order.field, *fields(self.query.filter)}
        names |= subject.indexed | {each.refers_to for each in subject.related().values()}
        return [column for column in subject.table.c if column.name in names]

    # --- the page ---

    def met(self, row: Any) -> ColumnElement[bool]:
        """Tell whether a row meets the filter, in a way that no index serves: the window does."""
        all_met = and_(
            *(condition(row) for condition in self._present),
            filter_sql.met(self._subject, row, self.query.filter, one_by_one=True),
        )
        return all_met.is_(true())

    def page_from(self, window: Window) -> Select[Any]:
        """Read the page from a window, one row more than the page has, and the window's size.

        There is a row without an id where the window has a size and no row for the page.
        """
        query, row = self.query, window.row
        # The rest is read for the rows of the page alone.
        statement = (
            select(row.id, window.keys[0].label("order_key"))
            .select_from(window.rows)
            .where(self.met(row), *window.narrowed_by)
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
        table = self._subject.table
        shown: list[Any] = [*table.c, page.c.order_key]
        source: Any = page
        if window.size is not None:
            size = select(func.count().label("window_size")).select_from(window.size).subquery()
            source = size.outerjoin(page, true())
            shown.append(size.c.window_size)
        source = source.outerjoin(table, table.c.id == page.c.id)
        if (transitions := self._subject.transitions) is not None:
            source = source.outerjoin(transitions, transitions.c.id == table.c.state_id)
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
