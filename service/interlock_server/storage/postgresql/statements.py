"""Statements of the writer, each made once: one round trip each, over arrays."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from interlock_server.storage import tables
from interlock_server.storage.event_order import EPOCH_SPAN
from interlock_server.storage.records import RunKind
from interlock_server.storage.rows import PARENT_COLUMNS, RUN_TABLES, column_names
from interlock_server.storage.steps import Lock

T = TypeVar("T")


_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

POSITION = f"""(
    SELECT coalesce(max(number), 0)::bigint * {EPOCH_SPAN} + pg_current_xact_id()::text::bigint
    FROM {tables.watch_epoch.name}
)"""
"""Where a transaction stands in the order of events. Computed once a statement.

Reading the table locks it against whoever begins an epoch until the transaction ends.
"""


@lru_cache(maxsize=2)
def remember_deleted(kind: RunKind) -> str:
    """Remember the runs `$1` as deleted at `$2`, with ordinals behind `$3`."""
    kinds = [kind] + ([RunKind.TASK_RUN] if kind is RunKind.FLOW_RUN else [])
    gone = " UNION ALL ".join(
        f"SELECT id, '{each.value}', {PARENT_COLUMNS[each]} FROM {RUN_TABLES[each].name} "
        f"WHERE {'id' if each is kind else PARENT_COLUMNS[each]} = ANY($1::uuid[])"
        for each in kinds
    )
    return (
        f"INSERT INTO {tables.deleted_run.name} "
        "(id, deleted, kind, parent_id, position, ordinal) "
        f"SELECT id, $2::bigint, kind, parent_id, {POSITION}, $3::integer + row_number() OVER () "
        f"FROM ({gone}) AS gone (id, kind, parent_id) ON CONFLICT DO NOTHING"
    )


TRACKERS = f"""
    SELECT parent_task_run_id FROM {tables.flow_run.name}
    WHERE id = ANY($1::uuid[]) AND parent_task_run_id IS NOT NULL
"""
# The oldest entries are looked at, and no more of them: that keeps up with those that are added.
DELETE_EXPIRED = f"""
    DELETE FROM {tables.task_run_cache.name} WHERE state_id IN (
        SELECT oldest.state_id FROM unnest($1::text[]) AS keys (key) CROSS JOIN LATERAL (
            SELECT state_id, expiration FROM {tables.task_run_cache.name}
            WHERE cache_key = key ORDER BY created LIMIT 20
        ) AS oldest
        WHERE oldest.expiration < $2::bigint - 3600000000
    )
"""
NEWEST_CACHED = f"""
    SELECT key, newest.state_id FROM unnest($1::text[]) AS keys (key) CROSS JOIN LATERAL (
        SELECT state_id FROM {tables.task_run_cache.name}
        WHERE cache_key = key AND (expiration IS NULL OR expiration > $2::bigint)
        ORDER BY created DESC, state_id DESC LIMIT 1
    ) AS newest
"""

FIRST_CHUNKS = f"""
    SELECT first_ordinal, last_ordinal, raw_bytes, stored, (
        SELECT count(*) FROM {tables.log_chunk_task_run.name} side
        WHERE side.run_id = chunk.run_id AND side.first_ordinal = chunk.first_ordinal
    )
    FROM {tables.log_chunk.name} chunk
    WHERE run_id = $1::uuid ORDER BY first_ordinal LIMIT $2::bigint
"""


def _type(table: Table, column: str) -> str:
    # An array's type says nothing of how its elements sort.
    return table.c[column].type.compile(dialect=_DIALECT).partition(" COLLATE")[0]


def _arrays(table: Table, columns: tuple[str, ...]) -> str:
    return ", ".join(f"${i}::{_type(table, name)}[]" for i, name in enumerate(columns, 1))


@lru_cache(maxsize=256)
def select_any(table: Table, columns: tuple[str, ...], by: str, lock: Lock) -> str:
    """Read the rows whose column equals any of `$1`, locked as told."""
    found = (
        f"SELECT {', '.join(columns)} FROM {table.name} WHERE {by} = ANY({_arrays(table, (by,))})"
    )
    if lock is Lock.NONE:
        return found
    # The clock comes along, read as each row comes out of the lock: that of the last row is read
    # behind all of them. In the inner select it would be read before the wait.
    return f"SELECT locked.*, {CLOCK} FROM ({found} ORDER BY {by} {lock.value}) AS locked"


@lru_cache(maxsize=256)
def select_joined(
    table: Table, columns: tuple[str, ...], by: tuple[str, ...], absent: tuple[bool, ...]
) -> str:
    """Read the rows whose columns equal the keys given; columns marked absent are NULL."""
    given = tuple(name for name, is_absent in zip(by, absent, strict=True) if not is_absent)
    equal = [f"t.{name} = k.{name}" for name in given]
    null = [f"t.{name} IS NULL" for name, is_absent in zip(by, absent, strict=True) if is_absent]
    return (
        f"SELECT {', '.join(f't.{name}' for name in columns)} FROM {table.name} t "
        f"JOIN unnest({_arrays(table, given)}) AS k ({', '.join(given)}) "
        f"ON {' AND '.join(equal + null)}"
    )


def _insertion(table: Table) -> str:
    """Insert the rows given; those with an ordinal get the transaction's position."""
    columns = column_names(table)
    values = "*"
    if "position" in columns:
        position = f"CASE WHEN ordinal IS NOT NULL THEN {POSITION} END"
        values = ", ".join(position if name == "position" else name for name in columns)
    return (
        f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {values} "
        f"FROM unnest({_arrays(table, columns)}) AS new ({', '.join(columns)})"
    )


@lru_cache(maxsize=256)
def insert(table: Table) -> str:
    """Insert rows."""
    return f"{_insertion(table)} ON CONFLICT DO NOTHING"


@lru_cache(maxsize=256)
def upsert(table: Table) -> str:
    """Insert rows, or replace those of the same primary key."""
    columns = column_names(table)
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
    return f"{_insertion(table)} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"


@lru_cache(maxsize=256)
def update(table: Table, columns: tuple[str, ...]) -> str:
    """Set columns of the rows of given ids."""
    changes = ", ".join(f"{name} = v.{name}" for name in columns)
    given = ("id", *columns)
    return (
        f"UPDATE {table.name} t SET {changes} "
        f"FROM unnest({_arrays(table, given)}) AS v ({', '.join(given)}) WHERE t.id = v.id"
    )


@lru_cache(maxsize=256)
def delete_rows(table: Table, by: tuple[str, ...]) -> str:
    """Delete the rows whose columns equal the keys given."""
    equal = " AND ".join(f"t.{name} = k.{name}" for name in by)
    return (
        f"DELETE FROM {table.name} t USING unnest({_arrays(table, by)}) AS k ({', '.join(by)}) "
        f"WHERE {equal}"
    )


def delete_some(table: Table, condition: str) -> str:
    """Delete rows that meet a condition, `$2` at most."""
    chosen = f"SELECT ctid FROM {table.name} WHERE {condition} LIMIT $2::bigint"
    return f"DELETE FROM {table.name} WHERE ctid = ANY(ARRAY({chosen}))"
