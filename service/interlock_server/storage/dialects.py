"""Which dialect a database speaks: the one place where it is chosen, by the database's URL."""

from __future__ import annotations

from interlock_server.storage.database import Database
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.postgresql.database import PostgresqlDatabase
from interlock_server.storage.sqlite.database import SqliteDatabase
from interlock_server.storage.urls import parse_url


def open_database(text: str, options: DatabaseOptions | None = None) -> Database:
    """Open the database of a URL; connections are made when they are needed.

    Raises UnusableDatabaseError for a URL that can not serve, and options that do not fit.
    """
    url = parse_url(text)
    database = SqliteDatabase if url.get_backend_name() == "sqlite" else PostgresqlDatabase
    return database(url, options or DatabaseOptions())
