"""Turns an order, and the place in it where a page begins, into SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, literal, tuple_

from interlock_server.storage.filters import Order, Position

_FIRST, _LAST = -(2**63), 2**63 - 1
"""Before and after all times. What a run has not yet sorts as these do: last, in each order."""

_DUE_OR_STARTED = ("start_time", "expected_start_time")
_MAY_BE_UNSET = ("end_time", "next_scheduled_start_time")


def keys(order: Order, row: Any) -> list[Any]:
    """Answer what a row is ordered by, the id at the end."""
    if order.by_id:
        return [row.id]
    last = _FIRST if order.descending else _LAST
    key: Any
    if order.field == "start_time":
        key = func.coalesce(*(row[field] for field in _DUE_OR_STARTED), last)
    elif order.field in _MAY_BE_UNSET:
        key = func.coalesce(row[order.field], last)
    else:
        key = row[order.field]
    return [key, row.id]


def beyond(keys: Sequence[Any], after: Position | None, descending: bool) -> list[Any]:
    """Answer the condition that rows come after a position, if there is one."""
    if after is None:
        return []
    given = [literal(value, key.type) for key, value in zip(keys, after, strict=True)]
    if len(keys) == 1:
        return [keys[0] < given[0] if descending else keys[0] > given[0]]
    ours, theirs = tuple_(*keys), tuple_(*given)
    return [ours < theirs if descending else ours > theirs]


def sort(statement: Select[Any], keys: Sequence[Any], descending: bool) -> Select[Any]:
    """Sort rows."""
    return statement.order_by(*(key.desc() if descending else key.asc() for key in keys))
