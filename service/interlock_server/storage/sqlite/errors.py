"""The driver's errors in our words."""

from __future__ import annotations

import sqlite3
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from interlock_server.storage.errors import (
    ConnectionLostError,
    SchemaChangedError,
    UnavailableError,
)

T = TypeVar("T")


def error_name(error: BaseException) -> str:
    """Answer SQLite's name for an error, as SQLITE_BUSY."""
    return getattr(error, "sqlite_errorname", None) or ""


def translate(error: BaseException) -> BaseException:
    """Turn a driver's error into one of ours; one that is a fault of ours comes back as it is."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    name = error_name(original)
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
