"""Reads a page of things: which, and in which order, is up to the caller.

Databases guess badly how many rows meet a filter, and one wrong guess reads a whole table for a
page of 50. So the plan is not left to them. A page is taken from a **window**, a limited number of
rows that an index gives:

1. Rows in the order asked for, from where the page begins. Where many rows meet the filter, the
   page is full soon.
2. Else few rows meet it, at least here. Its conditions are counted, each up to a limit, in one
   statement; all rows that meet the rarest one are the window, and what remains of them is sorted.
   What contains a text is searched, since it can not be counted any faster.
3. Where each condition is met by many, and all of them together by few, the rows are read in their
   order, however many there are. So they are where the first ones promise that this is shorter.

A window is limited by SQL's `LIMIT`, which no database looks behind: what is inside is planned by
itself, and has one condition and one index that fits it. What is asked of the rows of a window is
no condition that an index could serve (`IS TRUE`). A window tells how many rows it had, in the same
statement as the page, so that a page is never taken for complete while rows come and go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.storage.database import Database
from interlock_server.storage.filter_sql import Subject
from interlock_server.storage.filters import Condition, Position, Query
from interlock_server.storage.windows import Window, Windows

WALK = 1_500
"""Rows that are looked at in their order first: 2 to 3 ms."""

RARE = 5_000
"""Up to so many rows that meet a condition are all read: 10 to 15 ms at the most."""

_SEARCH = 50_000
"""A search for a part of a name takes about as long as it takes to look at so many rows."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and where the next page begins; None: this was the last one."""

    rows: Sequence[Row[Any]]
    after: Position | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What a window has of a page, and whether that is all."""

    rows: Sequence[Row[Any]]
    complete: bool


async def read_page(
    database: Database, subject: Subject, query: Query, present: Sequence[Any] = ()
) -> Page:
    """Read a page of the rows that meet the query's filter, and conditions on the table besides."""

    async def read(connection: AsyncConnection) -> Sequence[Row[Any]]:
        return await _read(connection, Windows(subject, query, present))

    rows = await database.read(read)
    if len(rows) <= query.limit:
        return Page(rows, None)
    last = rows[query.limit - 1]
    position = (last.id,) if query.order.by_id else (last.order_key, last.id)
    return Page(rows[: query.limit], position)


async def _read(connection: AsyncConnection, windows: Windows) -> Sequence[Row[Any]]:
    """Try the windows in turn, until the rows of the page are known to be all."""
    if (window := windows.of_ids()) is not None:
        return (await _try(connection, windows, window)).rows
    way = float("inf")
    if (window := windows.first_in_order(WALK)) is not None:
        found = await _try(connection, windows, window)
        if found.complete:
            return found.rows
        way = _rest_of_the_way(len(found.rows), windows.query.limit)
    rarest, number = await _rarest(connection, windows)
    if rarest is not None and windows.is_sorted(rarest):
        return (await _try(connection, windows, windows.of_all(rarest))).rows
    if rarest is not None and number < min(way, RARE):
        # Some may have come since they were counted.
        found = await _try(connection, windows, windows.of_condition(rarest, 2 * RARE))
        if found.complete:
            return found.rows
    if way > _SEARCH:
        for window in windows.of_searches(RARE):
            found = await _try(connection, windows, window)
            if found.complete:
                return found.rows
    return (await _try(connection, windows, windows.of_all())).rows


def _rest_of_the_way(found: int, wanted: int) -> float:
    """Guess how many rows in their order it takes to fill a page, from what the first ones had."""
    return WALK * (wanted + 1) / found if found else float("inf")


async def _rarest(connection: AsyncConnection, windows: Windows) -> tuple[Condition | None, int]:
    """Answer the condition that the fewest rows meet, and how many do, up to the limit."""
    counted = windows.countable()
    if not counted:
        return None, 0
    counts = (await connection.execute(windows.counts(counted, RARE))).one()
    least = min(counts)
    return counted[counts.index(least)], least


async def _try(connection: AsyncConnection, windows: Windows, window: Window) -> _Found:
    """Read what a window has of the page."""
    rows = (await connection.execute(windows.page_from(window))).all()
    if window.size is None:
        return _Found(rows, complete=True)
    size = rows[0].window_size
    rows = [row for row in rows if row.id is not None]
    full = window.sorted and len(rows) > windows.query.limit
    return _Found(rows, complete=full or size < window.limit)
