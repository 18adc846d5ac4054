"""Statements and codecs of the writer, each made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Table

from interlock_server.storage import tables
from interlock_server.storage.records import RunKind
from interlock_server.storage.rows import PARENT_COLUMNS, RUN_TABLES, Row, column_names
from interlock_server.storage.types import IdType, id_from_bytes, id_to_bytes

T = TypeVar("T")


_IN_SIZES = (1, 4, 16, 64, 256)
"""Lengths of IN lists: few, so that their statements stay prepared. 999 variables are the limit."""


def parts(keys: list[Any]) -> Iterable[list[Any]]:
    """Cut keys into lists of the lengths of `_IN_SIZES`, the last one filled up by repetition."""
    largest = _IN_SIZES[-1]
    for start in range(0, len(keys), largest):
        part = keys[start : start + largest]
        size = next(size for size in _IN_SIZES if size >= len(part))
        yield part + part[-1:] * (size - len(part))


@lru_cache(maxsize=256)
def select_in(table: Table, columns: tuple[str, ...], by: str, size: int) -> str:
    """Read the rows whose column equals any of `size` values."""
    marks = ", ".join("?" * size)
    return f"SELECT {', '.join(columns)} FROM {table.name} WHERE {by} IN ({marks})"


@lru_cache(maxsize=256)
def select_trackers(size: int) -> str:
    """Read which task runs track any of `size` flow runs."""
    marks = ", ".join("?" * size)
    return (
        f"SELECT parent_task_run_id FROM {tables.flow_run.name} "
        f"WHERE id IN ({marks}) AND parent_task_run_id IS NOT NULL"
    )


# The oldest entries are looked at, and no more of them: that keeps up with those that are added.
DELETE_EXPIRED = (
    f"DELETE FROM {tables.task_run_cache.name} WHERE state_id IN ("
    f"SELECT state_id FROM (SELECT state_id, expiration FROM {tables.task_run_cache.name} "
    "WHERE cache_key = ? ORDER BY created LIMIT 20) WHERE expiration < ? - 3600000000)"
)
NEWEST_CACHED = (
    f"SELECT state_id FROM {tables.task_run_cache.name} "
    "WHERE cache_key = ? AND (expiration IS NULL OR expiration > ?) "
    "ORDER BY created DESC, state_id DESC LIMIT 1"
)
FIRST_CHUNKS = (
    "SELECT first_ordinal, last_ordinal, raw_bytes, stored, ("
    f"SELECT count(*) FROM {tables.log_chunk_task_run.name} side "
    "WHERE side.run_id = chunk.run_id AND side.first_ordinal = chunk.first_ordinal"
    f") FROM {tables.log_chunk.name} chunk WHERE run_id = ? ORDER BY first_ordinal LIMIT ?"
)


@lru_cache(maxsize=256)
def select_by_several(table: Table, columns: tuple[str, ...], by: tuple[str, ...]) -> str:
    """Read the row whose columns equal the values given, NULL included."""
    condition = " AND ".join(f"{column} IS ?" for column in by)
    return f"SELECT {', '.join(columns)} FROM {table.name} WHERE {condition}"


@lru_cache(maxsize=256)
def insert(table: Table) -> str:
    """Insert rows."""
    columns = column_names(table)
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})"


@lru_cache(maxsize=256)
def upsert(table: Table) -> str:
    """Insert rows, or replace those of the same primary key."""
    keys = [column.name for column in table.primary_key]
    rest = [name for name in column_names(table) if name not in keys]
    changes = ", ".join(f"{name} = excluded.{name}" for name in rest)
    return f"{insert(table)} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"


@lru_cache(maxsize=256)
def update(table: Table, columns: tuple[str, ...]) -> str:
    """Set columns of the rows of given ids."""
    changes = ", ".join(f"{column} = ?" for column in columns)
    return f"UPDATE {table.name} SET {changes} WHERE id = ?"


REMEMBER_DELETED = (
    f"INSERT INTO {tables.deleted_run.name} (id, kind, parent_id, deleted, position, ordinal) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)


@lru_cache(maxsize=4)
def select_parent(kind: RunKind, by: str) -> str:
    """Read id, kind and parent of the runs whose column equals a value."""
    return (
        f"SELECT id, '{kind.value}', {PARENT_COLUMNS[kind]} FROM {RUN_TABLES[kind].name} "
        f"WHERE {by} = ?"
    )


def row_encoder(table: Table, position: int) -> Callable[[Row], Row]:
    """Make the function that turns ids into bytes, and gives events the batch's position."""
    columns = column_names(table)
    encode = encoder(table, columns)
    if "position" not in columns:
        return encode
    own, ordinal = columns.index("position"), columns.index("ordinal")

    def encode_event(row: Row) -> Row:
        values: Any = encode(row)  # a list of its own, since events have ids
        if values[ordinal] is not None:
            values[own] = position
        return values  # type: ignore[no-any-return]

    return encode_event


@lru_cache(maxsize=256)
def encoder(table: Table, columns: tuple[str, ...]) -> Callable[[Row], Row]:
    """Make the function that turns ids into bytes."""
    places = [i for i, name in enumerate(columns) if isinstance(table.c[name].type, IdType)]
    if not places:
        return lambda row: row

    def encode(row: Row) -> Row:
        values = list(row)
        for place in places:
            if (value := values[place]) is not None:
                values[place] = id_to_bytes(value)
        return values

    return encode


@lru_cache(maxsize=256)
def decoder(table: Table, columns: tuple[str, ...]) -> Callable[[Row], Row]:
    """Make the function that turns bytes into ids, and 0 and 1 into booleans."""
    converters: list[tuple[int, Callable[[Any], Any]]] = []
    for place, name in enumerate(columns):
        type_ = table.c[name].type
        if isinstance(type_, IdType):
            converters.append((place, id_from_bytes))
        elif type_.python_type is bool:
            converters.append((place, bool))

    def decode(row: Row) -> Row:
        values = list(row)
        for place, convert in converters:
            if (value := values[place]) is not None:
                values[place] = convert(value)
        return values

    return decode
