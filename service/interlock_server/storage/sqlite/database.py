"""SQLite: one writer and many readers, in write-ahead mode; in memory one connection for all."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO, TypeVar

import aiosqlite
from sqlalchemy import event, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool

from interlock_server.storage.errors import (
    UnavailableError,
    UnusableDatabaseError,
)
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.sqlite import migrating
from interlock_server.storage.sqlite.errors import translate
from interlock_server.storage.sqlite.event_order import SqliteEventOrder
from interlock_server.storage.sqlite.file import DatabaseFile
from interlock_server.storage.sqlite.hints import NoHints
from interlock_server.storage.sqlite.migrating import (
    FileLock,
    MemoryLock,
    OneMigrator,
    SqliteMigrationSession,
    SqliteScratch,
)
from interlock_server.storage.sqlite.upkeep import SqliteUpkeep
from interlock_server.storage.sqlite.writer import SqliteWriter
from interlock_server.storage.urls import is_in_memory, show_url

T = TypeVar("T")

OLDEST = (3, 24, 0)
"""The first version with upserts, ON CONFLICT DO UPDATE."""


_PATIENCE = 1.0
"""Seconds that reads have to end when the database is closed."""


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
        self._reading: set[asyncio.Future[Any]] = set()
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
        reading = asyncio.ensure_future(self._read(work, timeout or self._options.read_timeout))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        return await asyncio.shield(reading)

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

    def event_order(self) -> SqliteEventOrder:
        """See `Database.event_order`."""
        return SqliteEventOrder(self)

    def hints(self) -> NoHints:
        """See `Database.hints`."""
        return NoHints()

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
        return migrating.scratch()

    async def table_sizes(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See `Database.table_sizes`: no table is locked by itself, so nobody need know."""
        return {}

    async def close(self) -> None:
        """See `Database.close`."""
        # Nobody may wait for them any more, but each has a connection, or is opening one.
        if self._reading:
            await asyncio.wait(self._reading, timeout=_PATIENCE)
        await self._engine.dispose()
        if self._claim is not None:
            self._claim.close()
            self._claim = None


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
