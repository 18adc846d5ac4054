"""PostgreSQL: any number of servers share one database; row locks keep their batches apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from interlock_server.storage.errors import (
    ConflictError,
    UnavailableError,
    UnusableDatabaseError,
)
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.postgresql import migrating
from interlock_server.storage.postgresql.connecting import Connecting
from interlock_server.storage.postgresql.errors import LOST, translate
from interlock_server.storage.postgresql.event_order import PostgresqlEventOrder
from interlock_server.storage.postgresql.hints import PostgresqlHints
from interlock_server.storage.postgresql.migrating import (
    PostgresqlMigrationSession,
    PostgresqlScratch,
)
from interlock_server.storage.postgresql.upkeep import PostgresqlUpkeep
from interlock_server.storage.postgresql.writer import PATIENCE, PostgresqlWriter, milliseconds
from interlock_server.storage.urls import show_url

T = TypeVar("T")

OLDEST = 130000
"""PostgreSQL 13, the first one with transaction ids of 64 bits (`pg_current_xact_id`)."""


class PostgresqlDatabase:
    """A PostgreSQL database, shared with other servers."""

    dialect = "postgresql"
    one_writer = False

    def __init__(self, url: URL, options: DatabaseOptions) -> None:
        self._url = url
        self._options = options
        self._connecting = Connecting(url, options)
        self.shown_url = show_url(url)
        self._reading: set[asyncio.Future[Any]] = set()
        self._engine = create_async_engine(
            self._connecting.url,
            isolation_level="AUTOCOMMIT",
            pool_size=options.pool_size,
            max_overflow=0,
            pool_timeout=options.pool_timeout,
            pool_pre_ping=True,
            pool_reset_on_return=None,
            connect_args=self._connecting.arguments(
                statement_timeout=milliseconds(options.read_timeout),
                # Reads are made for indexes, and what they touch mostly is in memory. At the price
                # of a disk that turns, some of them would rather look through a whole table.
                random_page_cost="1.1",
            ),
        )

    def exists(self) -> bool:
        """See `Database.exists`: the server knows."""
        return True

    def create(self) -> None:
        """See `Database.create`: that is for the administrator of the server."""

    async def check(self) -> str:
        """See `Database.check`."""

        async def look(connection: AsyncConnection) -> tuple[int, str, bool, bool]:
            row = await connection.execute(
                text(
                    "SELECT current_setting('server_version_num')::int,"
                    " current_setting('server_version'),"
                    " EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm'),"
                    " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')"
                )
            )
            number, version, installed, available = row.one()
            return number, version, installed, available

        number, version, installed, available = await self.read(look)
        if number < OLDEST:
            raise UnusableDatabaseError(
                f"PostgreSQL {version} is too old: Interlock needs 13 or newer."
            )
        if not installed and not available:
            raise UnusableDatabaseError(
                "PostgreSQL's extension pg_trgm is not installed on the database's machine. "
                "Install it (on Debian: the package postgresql-contrib), then run "
                "`CREATE EXTENSION pg_trgm;` in the database."
            )
        if not installed:
            await self._create_pg_trgm()
        return version

    async def _create_pg_trgm(self) -> None:
        try:
            async with self._engine.connect() as connection:
                await connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
        except (DBAPIError, *LOST) as error:
            reason = translate(error)
            if isinstance(reason, ConflictError):
                return  # Another server that starts, too, has just enabled it.
            if isinstance(reason, UnavailableError):
                raise reason from error
            raise UnusableDatabaseError(
                "PostgreSQL's extension pg_trgm is not enabled in the database, and this user may "
                "not enable it. As a superuser run `CREATE EXTENSION pg_trgm;` in the database "
                f"{self._url.database}."
            ) from error

    async def open_writer(self) -> PostgresqlWriter:
        """See `Database.open_writer`."""
        writer = PostgresqlWriter(self._connecting, self._options)
        await writer.connect()
        return writer

    async def read(
        self, work: Callable[[AsyncConnection], Awaitable[T]], timeout: float | None = None
    ) -> T:
        """See `Database.read`."""
        reading = asyncio.ensure_future(self._read(work, timeout or self._options.read_timeout))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        return await asyncio.shield(reading)

    async def _read(self, work: Callable[[AsyncConnection], Awaitable[T]], timeout: float) -> T:
        try:
            # A read that is cancelled takes its connection with it: it would stall the next one.
            async with asyncio.timeout(timeout + PATIENCE), self._engine.connect() as connection:
                return await work(connection)
        except (DBAPIError, PoolTimeoutError, *LOST, asyncpg.PostgresError) as error:
            raise translate(error) from error

    def event_order(self) -> PostgresqlEventOrder:
        """See `Database.event_order`."""
        return PostgresqlEventOrder(self, self._connecting)

    def hints(self) -> PostgresqlHints:
        """See `Database.hints`."""
        return PostgresqlHints(self._connecting)

    def upkeep(self) -> PostgresqlUpkeep:
        """See `Database.upkeep`."""
        return PostgresqlUpkeep(self)

    def claim(self) -> None:
        """See `Database.claim`: any number of servers may."""

    async def migrate(self, work: Callable[[Connection], T]) -> T:
        """See `Database.migrate`."""
        async with self._migration_connection() as connection:
            try:
                return await connection.run_sync(work)
            except (DBAPIError, *LOST) as error:
                raise translate(error) from error

    @asynccontextmanager
    async def _migration_connection(self) -> AsyncIterator[AsyncConnection]:
        engine = create_async_engine(
            self._connecting.url,
            poolclass=NullPool,
            connect_args=self._connecting.arguments(**migrating.SETTINGS),
        )
        try:
            try:
                connection = await engine.connect()
            except (DBAPIError, *LOST, asyncpg.PostgresError) as error:
                raise translate(error) from error
            try:
                yield connection
            finally:
                await connection.close()
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def migration_session(self) -> AsyncIterator[PostgresqlMigrationSession]:
        """See `Database.migration_session`."""
        async with self._migration_connection() as connection:
            yield PostgresqlMigrationSession(connection, translate)

    @asynccontextmanager
    async def scratch(self) -> AsyncIterator[PostgresqlScratch]:
        """See `Database.scratch`."""
        async with self._migration_connection() as connection:
            scratch = PostgresqlScratch(connection)
            await scratch.prepare()
            yield scratch

    async def table_sizes(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See `Database.table_sizes`."""

        async def ask(connection: AsyncConnection) -> dict[str, tuple[int, int]]:
            found = await connection.execute(migrating.TABLE_SIZES, {"names": list(names)})
            return {name: (size, rows) for name, size, rows in found}

        return await self.read(ask)

    async def close(self) -> None:
        """See `Database.close`."""
        # Nobody may wait for them any more, but each has a connection, or is opening one.
        if self._reading:
            await asyncio.wait(self._reading, timeout=PATIENCE)
        await self._engine.dispose()
