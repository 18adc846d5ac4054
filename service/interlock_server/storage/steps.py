"""The steps that a batch is made of: what a dialect is asked to read and to write."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Table

from interlock_server.rules.states import Id, Micros
from interlock_server.storage.records import RunKind
from interlock_server.storage.rows import Row


class Lock(Enum):
    """How rows are locked as they are read; on SQLite the batch has the whole database."""

    NONE = ""
    SHARE = "FOR SHARE"
    UPDATE = "FOR UPDATE"


@dataclass(frozen=True, slots=True)
class Select:
    """Read the rows whose `by` columns equal any of `keys` (tuples where `by` names several)."""

    table: Table
    columns: tuple[str, ...]
    by: tuple[str, ...]
    keys: list[Any]
    lock: Lock = Lock.NONE


@dataclass(frozen=True, slots=True)
class WhichHave:
    """Read those of `keys` that any row has in its `by` column: rows of one column."""

    table: Table
    by: str
    keys: list[Id]


@dataclass(frozen=True, slots=True)
class Trackers:
    """Read the ids of the task runs that track any of some flow runs: rows of one column."""

    flow_run_ids: list[Id]


@dataclass(frozen=True, slots=True)
class NewestCached:
    """Read, for each of some cache keys, the key and the newest state that is valid at `now`."""

    cache_keys: list[str]
    now: Micros


@dataclass(frozen=True, slots=True)
class FirstChunks:
    """Read of the oldest chunks of a log, `limit` at most, the values of a `ChunkOutline`."""

    run_id: Id
    limit: int


@dataclass(frozen=True, slots=True)
class ReadClock:
    """Read the database's clock: one row, one column, microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Insert:
    """Insert rows, given in the table's column order. A row that exists already is a conflict."""

    table: Table
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Upsert:
    """Insert rows, or replace the row of the same primary key."""

    table: Table
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Update:
    """Set `columns` of the row of an id; each row is the id, then the values."""

    table: Table
    columns: tuple[str, ...]
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the rows whose `by` column equals any of `keys`."""

    table: Table
    by: str
    keys: list[Id]


@dataclass(frozen=True, slots=True)
class DeleteRows:
    """Delete the rows whose `by` columns, none of which may be NULL, equal any of `keys`."""

    table: Table
    by: tuple[str, ...]
    keys: list[Row]


@dataclass(frozen=True, slots=True)
class RememberDeleted:
    """Insert into `deleted_run` the given runs, and the task runs of those that are flow runs.

    The runs are still there. What was inserted as they were doomed stays as it is. The others get
    ordinals from behind `ordinal` on.
    """

    kind: RunKind
    run_ids: list[Id]
    deleted: Micros
    ordinal: int


@dataclass(frozen=True, slots=True)
class DeleteSome:
    """Delete at most `limit` of the rows whose `run_id` is any of some ids."""

    table: Table
    run_ids: list[Id]
    limit: int


@dataclass(frozen=True, slots=True)
class DeleteBelow:
    """Delete the rows of a run's log whose `first_ordinal` is less than `ordinal`."""

    table: Table
    run_id: Id
    ordinal: int


@dataclass(frozen=True, slots=True)
class DeleteExpired:
    """Delete the entries of some cache keys that had expired an hour before `now`, some of each.

    An explanation may still ask for one that was found just before it expired.
    """

    cache_keys: list[str]
    now: Micros


@dataclass(frozen=True, slots=True)
class DeleteOlder:
    """Delete at most `limit` of the rows whose time, in `column`, is before `before`."""

    table: Table
    column: str
    before: Micros
    limit: int


@dataclass(frozen=True, slots=True)
class BeginAgain:
    """Let the `deadline` of all rows be their `timeout` after `now`."""

    table: Table
    now: Micros


Query = Select | WhichHave | Trackers | NewestCached | FirstChunks | ReadClock
Write = (
    Insert
    | Upsert
    | Update
    | Delete
    | DeleteRows
    | RememberDeleted
    | DeleteSome
    | DeleteBelow
    | DeleteExpired
    | DeleteOlder
    | BeginAgain
)
