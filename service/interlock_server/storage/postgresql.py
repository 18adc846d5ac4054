"""PostgreSQL: any number of servers share one database; row locks keep their batches apart."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from interlock_server.rules.states import Micros
from interlock_server.storage import failpoints, postgresql_migrating, tables
from interlock_server.storage.errors import (
    ConflictError,
    ConnectionLostError,
    OutcomeUnknownError,
    SchemaChangedError,
    StorageError,
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
    Lock,
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
from interlock_server.storage.postgresql_connecting import Connecting
from interlock_server.storage.postgresql_migrating import (
    PostgresqlMigrationSession,
    PostgresqlScratch,
)
from interlock_server.storage.postgresql_upkeep import PostgresqlUpkeep
from interlock_server.storage.rows import Row, column_names
from interlock_server.storage.urls import show_url

T = TypeVar("T")

OLDEST = 130000
"""PostgreSQL 13, the first one with transaction ids of 64 bits (`pg_current_xact_id`)."""

_PATIENCE = 1.0
"""Seconds beyond the server's own time-outs after which a connection is given up: it stalls."""

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

# What a broken connection raises, by the driver or by the server that ends it.
_LOST = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    # The driver finds its protocol in a state that only a broken connection leaves it in.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
_CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.UniqueViolationError,
    asyncpg.ForeignKeyViolationError,
)


class PostgresqlDatabase:
    """A PostgreSQL database, shared with other servers."""

    dialect = "postgresql"
    one_writer = False

    def __init__(self, url: URL, options: DatabaseOptions) -> None:
        self._url = url
        self._options = options
        self._connecting = Connecting(url, options)
        self.shown_url = show_url(url)
        self._engine = create_async_engine(
            self._connecting.url,
            isolation_level="AUTOCOMMIT",
            pool_size=options.pool_size,
            max_overflow=0,
            pool_timeout=options.pool_timeout,
            pool_pre_ping=True,
            pool_reset_on_return=None,
            connect_args=self._connecting.arguments(
                statement_timeout=_milliseconds(options.read_timeout)
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
        except (DBAPIError, *_LOST) as error:
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
        return await asyncio.shield(
            asyncio.ensure_future(self._read(work, timeout or self._options.read_timeout))
        )

    async def _read(self, work: Callable[[AsyncConnection], Awaitable[T]], timeout: float) -> T:
        try:
            # A read that is cancelled takes its connection with it: it would stall the next one.
            async with asyncio.timeout(timeout + _PATIENCE), self._engine.connect() as connection:
                return await work(connection)
        except (DBAPIError, PoolTimeoutError, *_LOST, asyncpg.PostgresError) as error:
            raise translate(error) from error

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
            except (DBAPIError, *_LOST) as error:
                raise translate(error) from error

    @asynccontextmanager
    async def _migration_connection(self) -> AsyncIterator[AsyncConnection]:
        engine = create_async_engine(
            self._connecting.url,
            poolclass=NullPool,
            connect_args=self._connecting.arguments(**postgresql_migrating.SETTINGS),
        )
        try:
            try:
                connection = await engine.connect()
            except (DBAPIError, *_LOST, asyncpg.PostgresError) as error:
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
            found = await connection.execute(
                postgresql_migrating.TABLE_SIZES, {"names": list(names)}
            )
            return {name: (size, rows) for name, size, rows in found}

        return await self.read(ask)

    async def close(self) -> None:
        """See `Database.close`."""
        await self._engine.dispose()


def _milliseconds(seconds: float) -> str:
    # 0 would mean for ever.
    return str(max(1, round(seconds * 1000)))


class PostgresqlWriter:
    """A connection of its own, straight to the driver: statements are few, large and prepared."""

    def __init__(self, connecting: Connecting, options: DatabaseOptions) -> None:
        self._command_timeout = options.statement_timeout + _PATIENCE
        self._arguments = connecting.drivers_arguments(
            # A commit is on the disk before it is answered.
            synchronous_commit="on",
            lock_timeout=_milliseconds(options.lock_timeout),
            statement_timeout=_milliseconds(options.statement_timeout),
            idle_in_transaction_session_timeout="30000",
        )
        self._connection: Any = None
        self._clock: Micros | None = None
        """The database's clock behind the locks of the batch, as far as they are taken."""

    async def connect(self) -> None:
        """Connect, or connect again after the connection was lost. Raises ConnectionLostError."""
        await self.close()
        try:
            connection = await asyncpg.connect(
                **self._arguments, command_timeout=self._command_timeout
            )
            # Ids are text in Python, without a detour through UUID objects.
            await connection.set_type_codec(
                "uuid", schema="pg_catalog", encoder=str, decoder=str, format="text"
            )
        except (*_LOST, asyncpg.PostgresError) as error:
            raise ConnectionLostError(_words(error)) from error
        self._connection = connection

    async def begin(self, needs: Needs) -> Facts:
        """See `Writer.begin`."""
        if self._connection is None or self._connection.is_closed():
            await self.connect()
        loading = load(needs)
        self._clock = None
        try:
            await self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            query = next(loading)
            while True:
                query = loading.send(await self._select(query))
        except StopIteration as done:
            facts: Facts = done.value
            return facts
        except BaseException as error:
            await self._abandon(error)
            raise translate(error) from error

    async def commit(self, facts: Facts) -> None:
        """See `Writer.commit`."""
        try:
            for step in writes(facts):
                await self._write(step)
        except BaseException as error:
            await self._abandon(error)
            raise translate(error) from error
        failpoints.reach(failpoints.BEFORE_COMMIT)
        try:
            await self._connection.execute("COMMIT")
        except BaseException as error:
            await self.close()
            raise OutcomeUnknownError(_words(error)) from error

    async def rollback(self) -> None:
        """See `Writer.rollback`."""
        await self._abandon()

    async def close(self) -> None:
        """See `Writer.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _abandon(self, error: BaseException | None = None) -> None:
        # What a stalled connection was asked last it may do yet, or never.
        if isinstance(error, asyncio.TimeoutError):
            return await self.close()
        try:
            await self._connection.execute("ROLLBACK")
        except BaseException:
            await self.close()

    async def _select(self, query: Query) -> list[Row]:
        match query:
            case ReadClock():
                if self._clock is None:
                    self._clock = await self._connection.fetchval(f"SELECT {_CLOCK}")
                return [(self._clock,)]
            case WhichHave(table, by, keys):
                statement = (
                    "SELECT k FROM unnest($1::uuid[]) AS keys (k) "
                    f"WHERE EXISTS (SELECT FROM {table.name} WHERE {by} = k)"
                )
                return list(await self._connection.fetch(statement, keys))
            case Select(table, columns, (by,), keys, lock):
                statement = _select_any(table, columns, by, lock)
                rows: list[Row] = await self._connection.fetch(statement, keys)
                if rows and lock is not Lock.NONE:
                    self._clock = rows[-1][-1]
                    return [row[:-1] for row in rows]
                return rows
            case Select(table, columns, by_columns, tuples, _):
                return await self._select_by_several(table, columns, by_columns, tuples)

    async def _select_by_several(
        self, table: Table, columns: tuple[str, ...], by: tuple[str, ...], keys: list[Row]
    ) -> list[Row]:
        # NULL equals nothing, so keys are sorted by which of their parts are NULL.
        groups: dict[tuple[bool, ...], list[Row]] = {}
        for key in keys:
            groups.setdefault(tuple(part is None for part in key), []).append(key)
        rows: list[Row] = []
        for absent, members in groups.items():
            statement = _select_joined(table, columns, by, absent)
            parts = [
                part
                for part, is_absent in zip(zip(*members, strict=True), absent, strict=True)
                if not is_absent
            ]
            rows += await self._connection.fetch(statement, *parts)
        return rows

    async def _write(self, step: Write) -> None:
        execute = self._connection.execute
        match step:
            case Insert(table, rows):
                tag = await execute(_insert(table), *zip(*rows, strict=True))
                if int(tag.rpartition(" ")[2]) < len(rows):
                    raise ConflictError(f"A row of {table.name} was made meanwhile.")
            case Upsert(table, rows):
                await execute(_upsert(table), *zip(*rows, strict=True))
            case Update(table, columns, rows):
                await execute(_update(table, columns), *zip(*rows, strict=True))
            case Delete(table, by, keys):
                await execute(f"DELETE FROM {table.name} WHERE {by} = ANY($1::uuid[])", keys)
            case DeleteSome(table, run_ids, limit):
                await execute(_delete_some(table, "run_id = ANY($1::uuid[])"), run_ids, limit)
            case DeleteOlder(table, column, before, limit):
                await execute(_delete_some(table, f"{column} < $1::bigint"), before, limit)
            case RememberDeleted(run_ids, deleted):
                await execute(_REMEMBER_DELETED, run_ids, deleted)


_REMEMBER_DELETED = f"""
    INSERT INTO {tables.deleted_run.name} (id, deleted)
    SELECT id, $2::bigint FROM unnest($1::uuid[]) AS runs (id)
    UNION
    SELECT id, $2::bigint FROM task_run WHERE flow_run_id = ANY($1::uuid[])
    ON CONFLICT DO NOTHING
"""


# --- statements, each made once -------------------------------------------------------------------


def _type(table: Table, column: str) -> str:
    # An array's type says nothing of how its elements sort.
    return table.c[column].type.compile(dialect=_DIALECT).partition(" COLLATE")[0]


def _arrays(table: Table, columns: tuple[str, ...]) -> str:
    return ", ".join(f"${i}::{_type(table, name)}[]" for i, name in enumerate(columns, 1))


@lru_cache(maxsize=256)
def _select_any(table: Table, columns: tuple[str, ...], by: str, lock: Lock) -> str:
    found = (
        f"SELECT {', '.join(columns)} FROM {table.name} WHERE {by} = ANY({_arrays(table, (by,))})"
    )
    if lock is Lock.NONE:
        return found
    # The clock comes along, read as each row comes out of the lock: that of the last row is read
    # behind all of them. In the inner select it would be read before the wait.
    return f"SELECT locked.*, {_CLOCK} FROM ({found} ORDER BY {by} {lock.value}) AS locked"


@lru_cache(maxsize=256)
def _select_joined(
    table: Table, columns: tuple[str, ...], by: tuple[str, ...], absent: tuple[bool, ...]
) -> str:
    given = tuple(name for name, is_absent in zip(by, absent, strict=True) if not is_absent)
    equal = [f"t.{name} = k.{name}" for name in given]
    null = [f"t.{name} IS NULL" for name, is_absent in zip(by, absent, strict=True) if is_absent]
    return (
        f"SELECT {', '.join(f't.{name}' for name in columns)} FROM {table.name} t "
        f"JOIN unnest({_arrays(table, given)}) AS k ({', '.join(given)}) "
        f"ON {' AND '.join(equal + null)}"
    )


@lru_cache(maxsize=256)
def _insert(table: Table) -> str:
    columns = column_names(table)
    return (
        f"INSERT INTO {table.name} ({', '.join(columns)}) "
        f"SELECT * FROM unnest({_arrays(table, columns)}) ON CONFLICT DO NOTHING"
    )


@lru_cache(maxsize=256)
def _upsert(table: Table) -> str:
    columns = column_names(table)
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
    return (
        f"INSERT INTO {table.name} ({', '.join(columns)}) "
        f"SELECT * FROM unnest({_arrays(table, columns)}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
    )


@lru_cache(maxsize=256)
def _update(table: Table, columns: tuple[str, ...]) -> str:
    changes = ", ".join(f"{name} = v.{name}" for name in columns)
    given = ("id", *columns)
    return (
        f"UPDATE {table.name} t SET {changes} "
        f"FROM unnest({_arrays(table, given)}) AS v ({', '.join(given)}) WHERE t.id = v.id"
    )


def _delete_some(table: Table, condition: str) -> str:
    chosen = f"SELECT ctid FROM {table.name} WHERE {condition} LIMIT $2::bigint"
    return f"DELETE FROM {table.name} WHERE ctid = ANY(ARRAY({chosen}))"


# --- errors ---------------------------------------------------------------------------------------


def _words(error: BaseException) -> str:
    """Say what is wrong to someone who is tired; the driver's words are meant for programmers."""
    match error:
        case asyncio.TimeoutError():
            return "The database does not answer."
        case ConnectionRefusedError():
            return "Nothing listens at its address: is PostgreSQL running there?"
        case socket.gaierror():
            return "Its host name is not known: is it spelled right?"
        case asyncpg.InvalidPasswordError():
            return f"{error}: are user and password right?"
        case asyncpg.InvalidCatalogNameError():
            return f"{error}: make it with CREATE DATABASE, or name another one."
    return str(error) or type(error).__name__


def translate(error: BaseException) -> BaseException:
    """Turn a driver's error into one of ours; one that is a fault of ours comes back as it is."""
    original: BaseException | None = error
    if isinstance(error, DBAPIError):
        # SQLAlchemy wraps its adapter's error, which wraps the driver's.
        original = getattr(error.orig, "__cause__", None) or error.orig
    match original:
        case StorageError():
            return original
        case _ if isinstance(original, _CONFLICTS):
            return ConflictError(_words(original))
        case PoolTimeoutError():
            return UnavailableError("DATABASE_BUSY", "All connections for reads are taken.")
        case asyncpg.LockNotAvailableError():
            return UnavailableError("DATABASE_LOCKED", "Another program holds a lock for too long.")
        case (
            asyncpg.UndefinedTableError()
            | asyncpg.UndefinedColumnError()
            # A statement that was prepared before the schema changed.
            | asyncpg.InvalidCachedStatementError()
        ):
            return SchemaChangedError()
        case asyncpg.QueryCanceledError():
            return UnavailableError("DATABASE_TIMEOUT", "A statement took too long.")
        case asyncpg.ReadOnlySQLTransactionError():
            return UnavailableError("DATABASE_READ_ONLY", "The database can not be written.")
        case asyncpg.DiskFullError() | asyncpg.InsufficientResourcesError():
            return UnavailableError("DATABASE_FULL", _words(original))
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            return UnavailableError("DATABASE_REFUSES", _words(original))
        case _ if isinstance(original, _LOST):
            return ConnectionLostError(_words(original))
    return error
