"""SQLite: how a migrator gets its turn, a transaction that may change tables, and a scratch
database."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from sqlalchemy import inspect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import StaticPool

from interlock_server.storage.errors import UnusableDatabaseError
from interlock_server.storage.migrating import Holder

T = TypeVar("T")


class OneMigrator(Protocol):
    """The right to be the one migrator of a database."""

    def try_take(self) -> bool:
        """Take it, unless someone has it."""

    def holder(self) -> Holder:
        """Tell who has it."""

    def give_back(self) -> None:
        """Let others have it. May be called by one that does not have it."""


class FileLock:
    """A file beside the database that the system locks: a process that dies lets go of it.

    It stays when the migrator has ended: deleting it would let two have the lock of the same name.
    """

    def __init__(self, database: str) -> None:
        self._path = Path(f"{database}-migration")
        self._file: TextIO | None = None

    def try_take(self) -> bool:
        """See `OneMigrator`. Raises UnusableDatabaseError where no file can be written."""
        try:
            file = self._path.open("a+")
        except OSError as error:
            raise UnusableDatabaseError(
                f"{self._path} can not be written: {error.strerror}."
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        file.truncate(0)
        file.write(str(Holder.this_process()))
        file.flush()
        self._file = file
        return True

    def holder(self) -> Holder:
        """See `OneMigrator`."""
        try:
            return Holder.parse(self._path.read_text())
        except OSError:
            return Holder()

    def give_back(self) -> None:
        """See `OneMigrator`."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


class MemoryLock:
    """The same for a database in memory: all migrators are in this process."""

    def __init__(self) -> None:
        self.holder = Holder()

    def turn(self) -> OneMigrator:
        """Answer one migrator's side of it."""
        return _MemoryTurn(self)


class _MemoryTurn:
    def __init__(self, shared: MemoryLock) -> None:
        self._shared = shared
        self._has = False

    def try_take(self) -> bool:
        if self._shared.holder.pid:
            return False
        self._shared.holder = Holder.this_process()
        self._has = True
        return True

    def holder(self) -> Holder:
        return self._shared.holder

    def give_back(self) -> None:
        if self._has:
            self._shared.holder = Holder()
            self._has = False


class SqliteMigrationSession:
    """See `MigrationSession`."""

    def __init__(
        self,
        connection: AsyncConnection,
        lock: OneMigrator,
        turn: AbstractAsyncContextManager[Any],
        claim: Callable[[], None],
        translate: Callable[[BaseException], BaseException],
    ) -> None:
        """`turn` is held while the connection works; `claim` keeps servers away."""
        self._connection = connection
        self._lock = lock
        self._turn = turn
        self._claim = claim
        self._translate = translate

    async def try_lock(self) -> bool:
        """See `MigrationSession`."""
        if not self._lock.try_take():
            return False
        self._claim()
        return True

    async def holder(self) -> Holder:
        """See `MigrationSession`."""
        return self._lock.holder()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """See `MigrationSession`."""
        try:
            async with self._turn:
                return await self._connection.run_sync(work)
        except (DBAPIError, sqlite3.Error) as error:
            raise self._translate(error) from error

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """See `MigrationSession`."""

        def whole(connection: Connection) -> T:
            with atomic(connection):
                return work(connection)

        return await self.run(whole)


@contextmanager
def atomic(connection: Connection) -> Iterator[None]:
    """Make one transaction of what changes the schema, on a connection in AUTOCOMMIT.

    A change of a table makes a new one, copies the rows and drops the old one, and dropping a table
    deletes the rows that refer to it, where foreign keys are on. So they are off meanwhile (which
    has an effect only outside of a transaction), and checked before the end. The transaction is
    begun by hand: the driver would not, before DDL.
    """
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise RuntimeError(
                    f"{len(broken)} rows refer to rows that are not there, the first one in table "
                    f"{broken[0][0]}: nothing was changed."
                )
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            # A full disk has ended it already.
            with suppress(DBAPIError):
                connection.exec_driver_sql("ROLLBACK")
            raise
    finally:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")


class SqliteScratch:
    """See `Scratch`: a database in memory."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[Connection], T]) -> T:
        """See `Scratch`."""
        return await self._connection.run_sync(work)

    def tables(self, connection: Connection) -> frozenset[str]:
        """See `Scratch`."""
        return frozenset(inspect(connection).get_table_names())

    def held_locks(self, connection: Connection) -> list[tuple[str, str]]:
        """See `Scratch`: SQLite locks the database as a whole."""
        return []


@asynccontextmanager
async def scratch() -> AsyncIterator[SqliteScratch]:
    """Open an empty database in memory."""
    engine = create_async_engine(
        "sqlite+aiosqlite://", isolation_level="AUTOCOMMIT", poolclass=StaticPool
    )
    try:
        async with engine.connect() as connection:
            yield SqliteScratch(connection)
    finally:
        await engine.dispose()
