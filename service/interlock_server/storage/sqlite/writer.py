"""The one writer: a batch is two visits to the connection's thread."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import Id
from interlock_server.storage import failpoints
from interlock_server.storage.errors import (
    OutcomeUnknownError,
)
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.plan import Loading, load, writes
from interlock_server.storage.records import RunKind
from interlock_server.storage.rows import Row
from interlock_server.storage.sqlite import statements
from interlock_server.storage.sqlite.errors import error_name, translate
from interlock_server.storage.sqlite.event_order import HIGHEST_POSITION
from interlock_server.storage.sqlite.file import DatabaseFile
from interlock_server.storage.steps import (
    BeginAgain,
    Delete,
    DeleteBelow,
    DeleteExpired,
    DeleteOlder,
    DeleteRows,
    DeleteSome,
    FirstChunks,
    Insert,
    NewestCached,
    Query,
    ReadClock,
    RememberDeleted,
    Select,
    Trackers,
    Update,
    Upsert,
    WhichHave,
    Write,
)
from interlock_server.storage.types import id_from_bytes, id_to_bytes

T = TypeVar("T")


class SqliteWriter:
    """The one writer. A batch is two visits to the connection's thread: begin, then commit."""

    def __init__(
        self,
        connection: AsyncConnection,
        driver: aiosqlite.Connection,
        turn: AbstractAsyncContextManager[Any],
        file: DatabaseFile,
    ) -> None:
        self._connection = connection
        self._driver = driver
        self._turn = turn
        self._file = file
        self._closed = False
        self._position: int | None = None
        """The last one that a batch was given; None: not read yet."""

    async def begin(self, needs: Needs) -> Facts:
        """See `Writer.begin`."""
        self._file.check()
        await self._turn.__aenter__()
        try:
            facts = await self._visit(_begin, load(needs))
            if self._position is None:
                self._position = await self._visit(_highest_position)
            return facts
        except BaseException as error:
            await self._turn.__aexit__(None, None, None)
            if isinstance(error, sqlite3.Error):
                raise translate(error) from error
            raise

    async def commit(self, facts: Facts) -> None:
        """See `Writer.commit`."""
        assert self._position is not None, "it is read as the first batch begins"
        self._position = max(self._position + 1, facts.now)
        try:
            await self._visit(_commit, writes(facts), self._position)
        except sqlite3.Error as error:
            raise translate(error) from error
        finally:
            await self._turn.__aexit__(None, None, None)

    async def rollback(self) -> None:
        """See `Writer.rollback`."""
        try:
            await self._visit(_rollback)
        finally:
            await self._turn.__aexit__(None, None, None)

    async def close(self) -> None:
        """See `Writer.close`."""
        if not self._closed:
            self._closed = True
            await self._connection.close()

    async def _visit(self, work: Callable[..., T], *arguments: Any) -> T:
        # The driver's own way to run a function on its thread: a batch of statements pays for one
        # visit instead of one each.
        visiting = partial(work, self._driver._conn, *arguments)
        result: T = await self._driver._execute(visiting)  # type: ignore[no-untyped-call]
        return result


# --- on the connection's thread ---


def _begin(connection: sqlite3.Connection, loading: Loading) -> Facts:
    _rollback(connection)  # what a failing disk has left open
    connection.execute("BEGIN IMMEDIATE")
    try:
        query = next(loading)
        while True:
            query = loading.send(_select(connection, query))
    except StopIteration as done:
        facts: Facts = done.value
        return facts
    except BaseException:
        _rollback(connection)
        raise


def _highest_position(connection: sqlite3.Connection) -> int:
    position: int = connection.execute(HIGHEST_POSITION).fetchone()[0]
    return position


def _commit(connection: sqlite3.Connection, steps: Iterable[Write], position: int) -> None:
    try:
        for step in steps:
            _write(connection, step, position)
    except BaseException:
        _rollback(connection)
        raise
    failpoints.reach(failpoints.BEFORE_COMMIT)
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _rollback(connection)
        if (
            error_name(error).startswith("SQLITE_IOERR_")
            and error_name(error) != "SQLITE_IOERR_WRITE"
        ):
            # Perhaps only the last step failed, the one that makes it durable. Where a write fails,
            # that which marks the commit, the last one, was not made.
            raise OutcomeUnknownError(f"The disk of the database fails: {error}.") from error
        raise


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _select(connection: sqlite3.Connection, query: Query) -> list[Row]:
    rows: list[Row]
    match query:
        case ReadClock():
            # The database lives in this process's machine: its clock is the machine's.
            return [(time.time_ns() // 1000,)]
        case WhichHave(table, by, keys):
            statement = f"SELECT 1 FROM {table.name} WHERE {by} = ? LIMIT 1"
            return [
                (key,)
                for key in keys
                if connection.execute(statement, (id_to_bytes(key),)).fetchone()
            ]
        case Trackers(flow_run_ids):
            rows = []
            for part in statements.parts(flow_run_ids):
                statement = statements.select_trackers(len(part))
                rows += connection.execute(statement, [id_to_bytes(key) for key in part])
            return [(id_from_bytes(row[0]),) for row in rows]
        case NewestCached(cache_keys, now):
            return [
                (key, id_from_bytes(row[0]))
                for key in cache_keys
                for row in connection.execute(statements.NEWEST_CACHED, (key, now))
            ]
        case FirstChunks(run_id, limit):
            return list(connection.execute(statements.FIRST_CHUNKS, (id_to_bytes(run_id), limit)))
        case Select(table, columns, (by,), keys):
            encode = statements.encoder(table, (by,))
            decode = statements.decoder(table, columns)
            rows = []
            for part in statements.parts(keys):
                statement = statements.select_in(table, columns, by, len(part))
                found = connection.execute(statement, [encode((key,))[0] for key in part])
                rows += map(decode, found)
            return rows
        case Select(table, columns, by_columns, keys):
            encode, decode = (
                statements.encoder(table, by_columns),
                statements.decoder(table, columns),
            )
            statement = statements.select_by_several(table, columns, by_columns)
            return [
                decode(row) for key in keys for row in connection.execute(statement, encode(key))
            ]


def _write(connection: sqlite3.Connection, step: Write, position: int) -> None:
    match step:
        case Insert(table, rows):
            encode = statements.row_encoder(table, position)
            connection.executemany(statements.insert(table), map(encode, rows))
        case Upsert(table, rows):
            encode = statements.row_encoder(table, position)
            connection.executemany(statements.upsert(table), map(encode, rows))
        case Update(table, columns, rows):
            encode = statements.encoder(table, ("id", *columns))
            # The id comes last in the statement.
            moved = ((*row[1:], row[0]) for row in map(encode, rows))
            connection.executemany(statements.update(table, columns), moved)
        case Delete(table, by, keys):
            connection.executemany(
                f"DELETE FROM {table.name} WHERE {by} = ?", [(id_to_bytes(key),) for key in keys]
            )
        case DeleteRows(table, by_columns, rows):
            encode = statements.encoder(table, by_columns)
            condition = " AND ".join(f"{column} = ?" for column in by_columns)
            connection.executemany(f"DELETE FROM {table.name} WHERE {condition}", map(encode, rows))
        case DeleteSome(table, run_ids, limit):
            marks = ", ".join("?" * len(run_ids))
            _delete_some(
                connection, table, f"run_id IN ({marks})", limit, map(id_to_bytes, run_ids)
            )
        case DeleteBelow(table, run_id, ordinal):
            connection.execute(
                f"DELETE FROM {table.name} WHERE run_id = ? AND first_ordinal < ?",
                (id_to_bytes(run_id), ordinal),
            )
        case DeleteExpired(cache_keys, now):
            connection.executemany(statements.DELETE_EXPIRED, [(key, now) for key in cache_keys])
        case DeleteOlder(table, column, before, limit):
            _delete_some(connection, table, f"{column} < ?", limit, [before])
        case BeginAgain(table, now):
            connection.execute(f"UPDATE {table.name} SET deadline = ? + timeout", (now,))
        case RememberDeleted(kind, run_ids, deleted, ordinal):
            gone = (row for run_id in run_ids for row in _deleted_with(connection, kind, run_id))
            connection.executemany(
                statements.REMEMBER_DELETED,
                (
                    (*row, deleted, position, place)
                    for place, row in enumerate(list(gone), ordinal + 1)
                ),
            )


def _deleted_with(connection: sqlite3.Connection, kind: RunKind, run_id: Id) -> Iterator[Row]:
    """Answer the id, kind and parent of a run, and of the task runs in it if it is a flow run."""
    key = (id_to_bytes(run_id),)
    yield from connection.execute(statements.select_parent(kind, "id"), key)
    if kind is RunKind.FLOW_RUN:
        yield from connection.execute(
            statements.select_parent(RunKind.TASK_RUN, "flow_run_id"), key
        )


def _delete_some(
    connection: sqlite3.Connection, table: Table, condition: str, limit: int, values: Iterable[Any]
) -> None:
    chosen = f"SELECT rowid FROM {table.name} WHERE {condition} LIMIT ?"
    connection.execute(f"DELETE FROM {table.name} WHERE rowid IN ({chosen})", [*values, limit])
