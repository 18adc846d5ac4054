"""One database, whichever its dialect: what the pipeline and the queries ask of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.storage.errors import UnusableDatabaseError as UnusableDatabaseError
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.migrating import MigrationSession, Scratch
from interlock_server.storage.options import DatabaseOptions as DatabaseOptions
from interlock_server.storage.upkeep import Upkeep

T = TypeVar("T")


class Writer(Protocol):
    """The connection of the commit pipeline. It runs one transaction at a time."""

    async def begin(self, needs: Needs) -> Facts:
        """Begin a transaction, lock what may be changed, then read the facts.

        Raises ConflictError, ConnectionLostError or UnavailableError; nothing is left open then.
        """

    async def commit(self, facts: Facts) -> None:
        """Write what was changed, and commit. On return it is durable.

        Raises ConflictError, ConnectionLostError or UnavailableError where nothing was written, and
        OutcomeUnknownError where that is not known; nothing is left open then.
        """

    async def rollback(self) -> None:
        """End the transaction without a trace."""

    async def close(self) -> None:
        """Give the connection back. May be called twice."""


class Database(Protocol):
    """One database."""

    dialect: str
    """`sqlite` or `postgresql`."""
    one_writer: bool
    """Whether a batch and a change of the schema keep each other waiting, whichever they touch."""
    shown_url: str
    """The address, to be shown: without passwords."""

    def exists(self) -> bool:
        """Tell whether there is a database to connect to, as far as that is known beforehand."""

    def create(self) -> None:
        """Make the database, still without tables, where it comes into being by its use.

        Raises UnusableDatabaseError.
        """

    async def check(self) -> str:
        """Make sure that the database can be used, and answer its version. Makes nothing.

        Raises UnusableDatabaseError with a message for the operator, UnavailableError where it can
        not be reached now.
        """

    async def open_writer(self) -> Writer:
        """Connect the pipeline. Raises UnavailableError."""

    async def read(
        self, work: Callable[[AsyncConnection], Awaitable[T]], timeout: float | None = None
    ) -> T:
        """Run a read to its end, also when its caller is cancelled.

        Raises UnavailableError, also where it takes longer than `timeout` seconds, about; None
        stands for what the options say.
        """

    def upkeep(self) -> Upkeep:
        """Answer what keeps this database in good health."""

    def claim(self) -> None:
        """Keep other servers away where only one may serve, until this process ends.

        Raises UnusableDatabaseError where another one does.
        """

    async def migrate(self, work: Callable[[Any], T]) -> T:
        """Run work with a synchronous connection on which a schema change is atomic.

        It has no time-out: maintenance that takes long uses it, too.
        """

    def migration_session(self) -> AbstractAsyncContextManager[MigrationSession]:
        """Connect a migrator. Raises UnavailableError."""

    def scratch(self) -> AbstractAsyncContextManager[Scratch]:
        """Open an empty database of the same dialect for a rehearsal. Raises UnavailableError."""

    async def table_sizes(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Tell the bytes and the estimated rows of tables, as far as that is known.

        Rows are -1 where they were not counted yet. Raises UnavailableError.
        """

    async def close(self) -> None:
        """Close all connections. May be called twice."""


def parse_url(text: str) -> URL:
    """Read a database URL in SQLAlchemy's form; plain `sqlite://` and `postgresql://` serve too.

    Raises UnusableDatabaseError that names what is wrong with it, without its password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: the port is no number
        raise UnusableDatabaseError(
            "The database URL can not be read. Give it as "
            "sqlite+aiosqlite:////full/path/interlock.db or postgresql+asyncpg://user:password@host:5432/name."
        ) from None
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    if url.drivername in drivers:
        url = url.set(drivername=drivers[url.drivername])
    if url.drivername not in drivers.values():
        raise UnusableDatabaseError(
            f"The database driver {url.drivername!r} is not supported. "
            f"Use {' or '.join(drivers.values())}."
        )
    return url


def with_password(text: str, password: str) -> str:
    """Fill a password into a database's URL that names a host, and has none. Not to be shown.

    Raises UnusableDatabaseError for a URL that can not be read.
    """
    url = parse_url(text)
    if url.get_backend_name() == "sqlite" or has_password(url):
        return text
    return url.set(password=password).render_as_string(hide_password=False)


_HIDDEN = "***"
"""What stands for a password, as SQLAlchemy has it."""


def has_password(url: URL) -> bool:
    """Tell whether a URL has a password: at its place, or among the options."""
    return url.password is not None or any("password" in name for name in url.query)


def show_url(url: URL) -> str:
    """Write a URL for people: without its password, wherever that stands in it."""
    hidden = {name: _HIDDEN for name in url.query if "password" in name}
    text = url.update_query_dict(hidden).render_as_string(hide_password=True)
    text = text.replace(quote(_HIDDEN), _HIDDEN)
    # A path is easier to read as it is, and so is the name of a database in memory.
    path = url.database or ""
    return text.replace(f"/{quote(path, safe=' +/')}", f"/{path}", 1)


def is_in_memory(url: URL) -> bool:
    """Tell whether a database lives in the memory of its process, and ends with it."""
    if url.get_backend_name() != "sqlite":
        return False
    name = url.database or ":memory:"
    return (
        name == ":memory:" or name.startswith("file::memory:") or url.query.get("mode") == "memory"
    )


def open_database(text: str, options: DatabaseOptions | None = None) -> Database:
    """Open the database of a URL; connections are made when they are needed.

    Raises UnusableDatabaseError for a URL that can not serve, and options that do not fit.
    """
    from interlock_server.storage.postgresql import PostgresqlDatabase
    from interlock_server.storage.sqlite import SqliteDatabase

    url = parse_url(text)
    database = SqliteDatabase if url.get_backend_name() == "sqlite" else PostgresqlDatabase
    return database(url, options or DatabaseOptions())
