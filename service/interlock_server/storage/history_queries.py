"""Counts runs by time and state, in one statement of whole microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import TERMINAL, Micros, StateType
from interlock_server.storage.database import Database
from interlock_server.storage.filter_sql import RUNS
from interlock_server.storage.filters import Condition, Query
from interlock_server.storage.listing import RARE
from interlock_server.storage.queries import presence
from interlock_server.storage.records import RunKind
from interlock_server.storage.windows import Window, Windows

_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Buckets:
    """Stretches of time of one length, one after the other."""

    start: Micros
    interval: Micros
    number: int

    @property
    def end(self) -> Micros:
        """Where the last one ends."""
        return self.start + self.number * self.interval


@dataclass(frozen=True, slots=True)
class StateCount:
    """Runs of one bucket that are in the same state."""

    bucket: int
    """Its number, from 0 on."""
    state_type: StateType | None
    state_name: str
    count: int
    run_time: Micros
    """How long they have been in RUNNING, all together, until now."""
    lateness: Micros
    """How late they started, or are now, all together."""


async def count_by_time_and_state(
    database: Database, kind: RunKind, condition: Condition, buckets: Buckets, now: Micros
) -> list[StateCount]:
    """Count the runs that meet a condition by when they were first due, and by their state.

    Buckets without runs are left out. The rows that are looked at are those of the time, or those
    that meet the filter's rarest condition where that is met by few: see `listing`.
    """
    windows = Windows(RUNS[kind], Query(condition), [presence(kind, condition)])

    async def read(connection: AsyncConnection) -> Sequence[Row[Any]]:
        rows = await _rows_to_count(connection, windows)
        statement = _counts(rows.row, buckets, now).select_from(rows.rows)
        statement = statement.where(windows.met(rows.row))
        found: Sequence[Row[Any]] = (await connection.execute(statement)).all()
        return found

    return [_state_count(row) for row in await database.read(read)]


async def _rows_to_count(connection: AsyncConnection, windows: Windows) -> Window:
    if counted := windows.countable():
        counts = (await connection.execute(windows.counts(counted, RARE))).one()
        if (least := min(counts)) < RARE:
            return windows.of_condition(counted[counts.index(least)])
    return windows.of_all()


def _counts(row: Any, buckets: Buckets, now: Micros) -> Select[Any]:
    due = row.expected_start_time
    bucket = ((due - buckets.start) // buckets.interval).label("bucket")
    return (
        select(
            bucket,
            row.state_type,
            row.state_name,
            func.count().label("count"),
            *_sums("run_time", _run_time(row, now)),
            *_sums("lateness", _lateness(row, now)),
        )
        .where(due >= buckets.start, due < buckets.end)
        # In no order: a database that is asked for one sorts all rows, rather than the sums.
        .group_by(bucket, row.state_type, row.state_name)
    )


def _run_time(row: Any, now: Micros) -> ColumnElement[int]:
    """As `rules.effects.estimated_run_time`."""
    goes_on = (row.state_type == StateType.RUNNING.value) & (row.state_timestamp < now)
    stretch = case((goes_on, now - row.state_timestamp), else_=0)
    total: ColumnElement[int] = row.total_run_time + stretch
    return total


def _lateness(row: Any, now: Micros) -> ColumnElement[int]:
    """As `rules.effects.lateness`."""
    due = row.expected_start_time
    ended = row.state_type.in_([type_.value for type_ in TERMINAL])
    return case(
        (row.start_time > due, row.start_time - due),
        (row.start_time.is_not(None) | ended, 0),
        (due < now, now - due),
        else_=0,
    )


def _sums(name: str, time: ColumnElement[int]) -> tuple[Any, Any]:
    """Sum up seconds and the rest by themselves: many times in microseconds may pass 64 bits."""
    return (
        func.sum(time // _SECOND).label(f"{name}_seconds"),
        func.sum(time % _SECOND).label(f"{name}_rest"),
    )


def _state_count(row: Any) -> StateCount:
    return StateCount(
        row.bucket,
        None if row.state_type is None else StateType(row.state_type),
        row.state_name or "",
        row.count,
        int(row.run_time_seconds) * _SECOND + int(row.run_time_rest),
        int(row.lateness_seconds) * _SECOND + int(row.lateness_rest),
    )
