"""The schema of the database: where it stands, and upgrading it."""

from __future__ import annotations

from interlock_server.core.errors import CallError, Code
from interlock_server.storage import migrations
from interlock_server.storage.database import Database
from interlock_server.storage.migrations import (
    MigrationFailedError,
    Progress,
    RevisionNotFoundError,
    SchemaStatus,
)


class _NoSuchRevisionError(CallError):
    code = Code.NOT_FOUND
    reason = "REVISION_NOT_FOUND"


class _FailedError(CallError):
    code = Code.FAILED_PRECONDITION
    reason = "MIGRATION_FAILED"


class Schema:
    """The schema of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def status(self) -> SchemaStatus:
        """Read where the schema stands. Raises UnavailableError."""
        return await migrations.status(self.database)

    async def upgrade(self, revision: str = "", progress: Progress | None = None) -> None:
        """Apply the pending revisions up to one. Raises CallError, UnavailableError."""
        try:
            await migrations.upgrade(self.database, revision, progress)
        except RevisionNotFoundError as error:
            raise _NoSuchRevisionError(str(error), field="revision") from error
        except MigrationFailedError as error:
            raise _FailedError(str(error)) from error
