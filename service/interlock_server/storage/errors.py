"""What can go wrong in the database, in our words. Drivers' errors are translated once, in the
dialect's module."""

from __future__ import annotations


class StorageError(Exception):
    """The base of all storage errors."""


class UnusableDatabaseError(StorageError):
    """The database can not be used as configured; the message says what to do."""


class UnavailableError(StorageError):
    """The database can not be used now; nothing was written. `reason` is a stable code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SchemaChangedError(UnavailableError):
    """A table or a column is not there: someone changes the schema."""

    def __init__(self) -> None:
        super().__init__(
            "SCHEMA_CHANGED",
            "The database's schema was changed; it is not what this server needs, or not yet.",
        )


class ConnectionLostError(UnavailableError):
    """The connection broke before COMMIT was sent: nothing was written."""

    def __init__(self, message: str) -> None:
        super().__init__("DATABASE_UNAVAILABLE", message)


class OutcomeUnknownError(StorageError):
    """The connection broke during COMMIT: what was written may be there, or not."""


class ConflictError(StorageError):
    """Another writer was in the way (a deadlock, a row made meanwhile): decide again."""


class OverloadedError(StorageError):
    """The queue of this class of commands is full; nothing was queued."""


class DeadlineError(StorageError):
    """The caller's deadline passed while the command was queued; nothing was written."""


class ClosedError(UnavailableError):
    """The pipeline takes no more commands, since the server is going away."""

    def __init__(self) -> None:
        super().__init__("SERVER_DRAINING", "The server is going away; another one may answer.")
