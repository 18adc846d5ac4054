"""The driver's errors in our words."""

from __future__ import annotations

import asyncio
import socket
from typing import TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from interlock_server.storage.errors import (
    ConflictError,
    ConnectionLostError,
    SchemaChangedError,
    StorageError,
    UnavailableError,
)

T = TypeVar("T")


# What a broken connection raises, by the driver or by the server that ends it.
LOST = (
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
    asyncpg.DuplicateObjectError,
    asyncpg.ForeignKeyViolationError,
)


def words(error: BaseException) -> str:
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
            return ConflictError(words(original))
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
            return UnavailableError("DATABASE_FULL", words(original))
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            return UnavailableError("DATABASE_REFUSES", words(original))
        case _ if isinstance(original, LOST):
            return ConnectionLostError(words(original))
    return error
