"""SQLite: one writer and many readers, in write-ahead mode; in memory one connection for all."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

import aiosqlite
from sqlalchemy import Table, event, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool

from interlock_server.storage import failpoints, sqlite_migrating, tables
from interlock_server.storage.errors import (
    ConnectionLostError,
    OutcomeUnknownError,
    SchemaChangedError,
    UnavailableError,
    UnusableDatabaseError,
)
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.plan import (
    Delete,
    DeleteOlder,
    DeleteSome,
    Insert,
    Loading,
    Query,
    ReadClock,
    RememberDeleted,
    Select,
    Update,
    Upsert,
    WhichHave,
    Write,
    load,
    writes,
)
from interlock_server.storage.rows import Row, column_names
from interlock_server.storage.sqlite_file import DatabaseFile
from interlock_server.storage.sqlite_migrating import (
    FileLock,
    MemoryLock,
    OneMigrator,
    SqliteMigrationSession,
    SqliteScratch,
)
from interlock_server.storage.sqlite_upkeep import SqliteUpkeep
from interlock_server.storage.types import IdType, id_from_bytes, id_to_bytes
from interlock_server.storage.urls import is_in_memory, show_url

T = TypeVar("T")

OLDEST = (3, 24, 0)
"""The first version with upserts, ON CONFLICT DO UPDATE."""

_IN_SIZES = (1, 4, 16, 64, 256)
"""Lengths of IN lists: few, so that their statements stay prepared. 999 variables are the limit."""


class SqliteDatabase:
    """A database file, or a database in memory."""

    dialect = "sqlite"
    one_writer = True

    def __init__(self, url: URL, options: DatabaseOptions) -> None:
        self._url = url
        self._options = options
        self.in_memory = is_in_memory(url)
        self.shown_url = show_url(url)
        self._claim: TextIO | None = None
        self._file = DatabaseFile(None if self.in_memory else url.database)
        self._prepare_connection = _preparing(options)
        self._engine = create_async_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            connect_args={"cached_statements": 512, "timeout": options.lock_timeout},
            **(
                {"poolclass": StaticPool}
                if self.in_memory
                # One more than for reads: the writer's.
                else {
                    "poolclass": AsyncAdaptedQueuePool,
                    "pool_size": options.pool_size + 1,
                    "max_overflow": 0,
                    "pool_timeout": options.pool_timeout,
                }
            ),
        )
        event.listen(self._engine.sync_engine, "connect", self._prepare_connection)
        self._memory_lock = MemoryLock()
        # In memory reads and batches take turns on the one connection.
        self._turn: AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if self.in_memory else nullcontext()
        )

    def exists(self) -> bool:
        """See `Database.exists`."""
        return self._file.exists()

    def create(self) -> None:
        """See `Database.create`. What is made is for its owner only."""
        self._file.create()

    async def check(self) -> str:
        """See `Database.check`."""
        version = sqlite3.sqlite_version
        if sqlite3.sqlite_version_info < OLDEST:
            raise UnusableDatabaseError(
                f"SQLite {version} is too old: Interlock needs 3.24 or newer. "
                "Run it with a Python that brings a newer SQLite."
            )
        if not self.exists():
            return version
        try:
            await self.read(lambda connection: connection.execute(text("PRAGMA schema_version")))
        except UnavailableError as error:
            raise UnusableDatabaseError(
                f"The database {self._url.database or 'in memory'} can not be opened: {error}"
            ) from None
        self._file.remember()
        return version

    async def open_writer(self) -> SqliteWriter:
        """See `Database.open_writer`."""
        try:
            connection = await self._engine.connect()
            raw = await connection.get_raw_connection()
        except (DBAPIError, sqlite3.Error) as error:
            raise translate(error) from error
        driver = raw.driver_connection
        assert isinstance(driver, aiosqlite.Connection)
        return SqliteWriter(connection, driver, self._turn, self._file)

    async def read(
        self, work: Callable[[AsyncConnection], Awaitable[T]], timeout: float | None = None
    ) -> T:
        """See `Database.read`."""
        return await asyncio.shield(
            asyncio.ensure_future(self._read(work, timeout or self._options.read_timeout))
        )

    async def _read(self, work: Callable[[AsyncConnection], Awaitable[T]], timeout: float) -> T:
        self._file.check()
        try:
            async with self._turn, self._engine.connect() as connection:
                reading = asyncio.ensure_future(work(connection))
                done, _ = await asyncio.wait({reading}, timeout=timeout)
                if not done:
                    driver = (await connection.get_raw_connection()).driver_connection
                    assert isinstance(driver, aiosqlite.Connection)
                    await driver.interrupt()
                return await reading
        except (DBAPIError, PoolTimeoutError, sqlite3.Error) as error:
            raise translate(error) from error

    def upkeep(self) -> SqliteUpkeep:
        """See `Database.upkeep`."""
        return SqliteUpkeep(self, self._file)

    def claim(self) -> None:
        """See `Database.claim`."""
        if self.in_memory or self._url.database is None or self._claim is not None:
            return
        path = Path(f"{self._url.database}-server")
        try:
            self._claim = path.open("a+")
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnusableDatabaseError(
                f"Another server serves the database {self._url.database}, or a command changes "
                "it. SQLite takes one; for more servers use PostgreSQL."
            ) from None
        except OSError as error:
            raise UnusableDatabaseError(f"{path} can not be written: {error.strerror}.") from None

    async def migrate(self, work: Callable[[Connection], T]) -> T:
        """See `Database.migrate`."""
        async with self._migration_engine() as engine:
            try:
                async with self._turn, engine.connect() as connection:
                    return await connection.run_sync(work)
            except (DBAPIError, sqlite3.Error) as error:
                raise translate(error) from error

    @asynccontextmanager
    async def _migration_engine(self) -> AsyncIterator[AsyncEngine]:
        if self.in_memory:
            yield self._engine
            return
        engine = create_async_engine(self._url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        event.listen(engine.sync_engine, "connect", self._prepare_connection)
        try:
            yield engine
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def migration_session(self) -> AsyncIterator[SqliteMigrationSession]:
        """See `Database.migration_session`."""
        lock: OneMigrator = self._memory_lock.turn()
        if not self.in_memory:
            lock = FileLock(str(self._url.database))
        try:
            async with self._migration_engine() as engine, engine.connect() as connection:
                yield SqliteMigrationSession(connection, lock, self._turn, self.claim, translate)
        finally:
            lock.give_back()

    def scratch(self) -> AbstractAsyncContextManager[SqliteScratch]:
        """See `Database.scratch`."""
        return sqlite_migrating.scratch()

    async def table_sizes(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See `Database.table_sizes`: no table is locked by itself, so nobody need know."""
        return {}

    async def close(self) -> None:
        """See `Database.close`."""
        await self._engine.dispose()
        if self._claim is not None:
            self._claim.close()
            self._claim = None


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

    async def begin(self, needs: Needs) -> Facts:
        """See `Writer.begin`."""
        self._file.check()
        await self._turn.__aenter__()
        try:
            return await self._visit(_begin, load(needs))
        except BaseException as error:
            await self._turn.__aexit__(None, None, None)
            if isinstance(error, sqlite3.Error):
                raise translate(error) from error
            raise

    async def commit(self, facts: Facts) -> None:
        """See `Writer.commit`."""
        try:
            await self._visit(_commit, writes(facts))
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


# --- on the connection's thread -------------------------------------------------------------------


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


def _commit(connection: sqlite3.Connection, steps: Iterable[Write]) -> None:
    try:
        for step in steps:
            _write(connection, step)
    except BaseException:
        _rollback(connection)
        raise
    failpoints.reach(failpoints.BEFORE_COMMIT)
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _rollback(connection)
        if _name(error).startswith("SQLITE_IOERR_") and _name(error) != "SQLITE_IOERR_WRITE":
            # Perhaps only the last step failed, the one that makes it durable. Where a write fails,
            # that which marks the commit, the last one, was not made.
            raise OutcomeUnknownError(f"The disk of the database fails: {error}.") from error
        raise


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _select(connection: sqlite3.Connection, query: Query) -> list[Row]:
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
        case Select(table, columns, (by,), keys):
            encode = _encoder(table, (by,))
            decode = _decoder(table, columns)
            rows: list[Row] = []
            for part in _parts(keys):
                statement = _select_in(table, columns, by, len(part))
                found = connection.execute(statement, [encode((key,))[0] for key in part])
                rows += map(decode, found)
            return rows
        case Select(table, columns, by_columns, keys):
            encode, decode = _encoder(table, by_columns), _decoder(table, columns)
            statement = _select_by_several(table, columns, by_columns)
            return [
                decode(row) for key in keys for row in connection.execute(statement, encode(key))
            ]


def _write(connection: sqlite3.Connection, step: Write) -> None:
    match step:
        case Insert(table, rows):
            columns = column_names(table)
            connection.executemany(_insert(table), map(_encoder(table, columns), rows))
        case Upsert(table, rows):
            columns = column_names(table)
            connection.executemany(_upsert(table), map(_encoder(table, columns), rows))
        case Update(table, columns, rows):
            encode = _encoder(table, ("id", *columns))
            # The id comes last in the statement.
            moved = ((*row[1:], row[0]) for row in map(encode, rows))
            connection.executemany(_update(table, columns), moved)
        case Delete(table, by, keys):
            connection.executemany(
                f"DELETE FROM {table.name} WHERE {by} = ?", [(id_to_bytes(key),) for key in keys]
            )
        case DeleteSome(table, run_ids, limit):
            marks = ", ".join("?" * len(run_ids))
            _delete_some(
                connection, table, f"run_id IN ({marks})", limit, map(id_to_bytes, run_ids)
            )
        case DeleteOlder(table, column, before, limit):
            _delete_some(connection, table, f"{column} < ?", limit, [before])
        case RememberDeleted(run_ids, deleted):
            name = tables.deleted_run.name
            ids = [(deleted, id_to_bytes(run_id)) for run_id in run_ids]
            connection.executemany(f"REPLACE INTO {name} (deleted, id) VALUES (?, ?)", ids)
            connection.executemany(
                f"REPLACE INTO {name} (deleted, id) "
                "SELECT ?, id FROM task_run WHERE flow_run_id = ?",
                ids,
            )


def _delete_some(
    connection: sqlite3.Connection, table: Table, condition: str, limit: int, values: Iterable[Any]
) -> None:
    chosen = f"SELECT rowid FROM {table.name} WHERE {condition} LIMIT ?"
    connection.execute(f"DELETE FROM {table.name} WHERE rowid IN ({chosen})", [*values, limit])


def _parts(keys: list[Any]) -> Iterable[list[Any]]:
    """Cut keys into lists of the lengths of `_IN_SIZES`, the last one filled up by repetition."""
    largest = _IN_SIZES[-1]
    for start in range(0, len(keys), largest):
        part = keys[start : start + largest]
        size = next(size for size in _IN_SIZES if size >= len(part))
        yield part + part[-1:] * (size - len(part))


# --- statements and codecs, each made once --------------------------------------------------------


@lru_cache(maxsize=256)
def _select_in(table: Table, columns: tuple[str, ...], by: str, size: int) -> str:
    marks = ", ".join("?" * size)
    return f"SELECT {', '.join(columns)} FROM {table.name} WHERE {by} IN ({marks})"


@lru_cache(maxsize=256)
def _select_by_several(table: Table, columns: tuple[str, ...], by: tuple[str, ...]) -> str:
    condition = " AND ".join(f"{column} IS ?" for column in by)
    return f"SELECT {', '.join(columns)} FROM {table.name} WHERE {condition}"


@lru_cache(maxsize=256)
def _insert(table: Table) -> str:
    columns = column_names(table)
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})"


@lru_cache(maxsize=256)
def _upsert(table: Table) -> str:
    keys = [column.name for column in table.primary_key]
    rest = [name for name in column_names(table) if name not in keys]
    changes = ", ".join(f"{name} = excluded.{name}" for name in rest)
    return f"{_insert(table)} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"


@lru_cache(maxsize=256)
def _update(table: Table, columns: tuple[str, ...]) -> str:
    changes = ", ".join(f"{column} = ?" for column in columns)
    return f"UPDATE {table.name} SET {changes} WHERE id = ?"


@lru_cache(maxsize=256)
def _encoder(table: Table, columns: tuple[str, ...]) -> Callable[[Row], Row]:
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
def _decoder(table: Table, columns: tuple[str, ...]) -> Callable[[Row], Row]:
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


# --- connections and errors -----------------------------------------------------------------------


def pragmas(options: DatabaseOptions) -> tuple[str, ...]:
    """Answer what each connection is told first."""
    return (
        f"PRAGMA busy_timeout = {int(options.lock_timeout * 1000)}",
        "PRAGMA journal_mode = WAL",
        # A commit is on the disk before it is answered. In write-ahead mode that is one fsync.
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        # Less than 0: in KiB.
        f"PRAGMA cache_size = -{options.sqlite_cache_mib * 1024}",
        # The log is copied back every 16 MiB, not 4: one commit in four times as many pays for it.
        "PRAGMA wal_autocheckpoint = 4096",
    )


def _preparing(options: DatabaseOptions) -> Callable[[Any, object], None]:
    statements = pragmas(options)

    def prepare(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()

    return prepare


def _name(error: BaseException) -> str:
    """Answer SQLite's name for an error, as SQLITE_BUSY."""
    return getattr(error, "sqlite_errorname", None) or ""


def translate(error: BaseException) -> BaseException:
    """Turn a driver's error into one of ours; one that is a fault of ours comes back as it is."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    name = _name(original)
    words = str(original)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return UnavailableError("DATABASE_LOCKED", "Another program holds the database's lock.")
    if name.startswith("SQLITE_FULL"):
        return UnavailableError("DATABASE_FULL", "The disk of the database is full.")
    if name.startswith("SQLITE_READONLY"):
        return UnavailableError("DATABASE_READ_ONLY", "The database can not be written.")
    if name.startswith("SQLITE_INTERRUPT"):
        return UnavailableError("READ_TIMEOUT", "The read took too long.")
    if name.startswith("SQLITE_IOERR"):
        return UnavailableError("DATABASE_IO_ERROR", f"The disk of the database fails: {words}.")
    if isinstance(original, PoolTimeoutError):
        return UnavailableError("DATABASE_BUSY", "All connections for reads are taken.")
    if words.startswith(("no such table", "no such column")):
        return SchemaChangedError()
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_PERM")):
        return UnavailableError("DATABASE_UNAVAILABLE", f"{words}.")
    if isinstance(original, sqlite3.ProgrammingError) and "closed" in words:
        return ConnectionLostError("The connection to the database is closed.")
    return error
