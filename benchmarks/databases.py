"""Databases to measure on: made, copied, weighed, and thrown away."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import asyncpg
from sqlalchemy import make_url

from benchmarks.raw import Raw
from benchmarks.raw_postgresql import RawPostgresql
from benchmarks.raw_sqlite import RawSqlite
from tests.support.postgresql import NEWEST, PostgresqlServer


class Databases(Protocol):
    """Where databases of one dialect are. A database goes by its URL."""

    dialect: str
    version: str
    commit_delay_in_server: bool
    """Whether it is Interlock's process that has to wait before commits; else `delay_commits`."""
    many_servers: bool
    """Whether several servers may share a database."""

    def new(self) -> str:
        """Make an empty database."""

    def copy(self, url: str) -> str:
        """Make a copy of a database that nobody uses."""

    def bytes(self, url: str) -> int:
        """Weigh a database on the disk, once everything has reached its tables."""

    def delay_commits(self, url: str, seconds: float) -> None:
        """Have each commit wait before it goes to the disk, from the next connection on."""

    def raw(self, url: str) -> Raw:
        """Connect to a database by the driver alone."""


class SqliteDatabases:
    """Files in a folder."""

    dialect = "sqlite"
    version = sqlite3.sqlite_version
    commit_delay_in_server = True
    many_servers = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(self) -> str:
        """See `Databases.new`."""
        return f"sqlite+aiosqlite:///{self._folder / secrets.token_hex(6)}.db"

    def copy(self, url: str) -> str:
        """See `Databases.copy`."""
        self.bytes(url)
        copied = self.new()
        shutil.copyfile(_path(url), _path(copied))
        return copied

    def bytes(self, url: str) -> int:
        """See `Databases.bytes`."""
        connection = sqlite3.connect(_path(url))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return _path(url).stat().st_size

    def delay_commits(self, url: str, seconds: float) -> None:
        """See `Databases.delay_commits`: SQLite has nothing for it."""

    def raw(self, url: str) -> Raw:
        """See `Databases.raw`."""
        return RawSqlite(str(_path(url)))


def _path(url: str) -> Path:
    path = make_url(url).database
    assert path is not None
    return Path(path)


class PostgresqlDatabases:
    """Databases of a server."""

    dialect = "postgresql"
    commit_delay_in_server = False
    many_servers = True

    def __init__(self, server: PostgresqlServer) -> None:
        self._server = server
        self.version = server.version

    def new(self) -> str:
        """See `Databases.new`."""
        return self._server.create_database(f"bench_{secrets.token_hex(6)}")

    def copy(self, url: str) -> str:
        """See `Databases.copy`."""
        name = f"bench_{secrets.token_hex(6)}"
        self._ask(f"CREATE DATABASE {name} TEMPLATE {make_url(url).database}")
        return self._server.database_url(name)

    def bytes(self, url: str) -> int:
        """See `Databases.bytes`."""
        self._ask("CHECKPOINT")
        return int(self._ask(f"SELECT pg_database_size('{make_url(url).database}')"))

    def delay_commits(self, url: str, seconds: float) -> None:
        """See `Databases.delay_commits`."""
        name = make_url(url).database
        self._ask(f"ALTER DATABASE {name} SET commit_delay = {round(seconds * 1_000_000)}")
        # However few other transactions there are.
        self._ask(f"ALTER DATABASE {name} SET commit_siblings = 0")

    def raw(self, url: str) -> Raw:
        """See `Databases.raw`."""
        return RawPostgresql(url)

    def _ask(self, statement: str) -> Any:
        async def ask() -> Any:
            url = self._server.url.set(drivername="postgresql", database="postgres")
            connection = await asyncpg.connect(url.render_as_string(hide_password=False))
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return asyncio.run(ask())


@contextmanager
def open_databases(dialect: str) -> Iterator[Databases]:
    """Have databases of a dialect, until the context ends. Raises Unavailable."""
    if dialect == "sqlite":
        with TemporaryDirectory(prefix="interlock-bench-") as folder:
            yield SqliteDatabases(Path(folder))
    else:
        with PostgresqlServer(NEWEST, durable=True) as server:
            yield PostgresqlDatabases(server)
