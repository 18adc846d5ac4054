"""The schema of the database: where it stands, and moving it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from interlock_server.core.errors import CallError, Code, InvalidArgumentError
from interlock_server.storage import migrations
from interlock_server.storage.database import Database
from interlock_server.storage.errors import UnusableDatabaseError
from interlock_server.storage.migrating import DEFAULT_WAIT, MigrationRunningError
from interlock_server.storage.migrations import (
    Event,
    Guard,
    MigrationFailedError,
    Migrator,
    OtherProgramsDatabaseError,
    SchemaStatus,
    UnknownRevisionError,
    unguarded,
)
from interlock_server.storage.revisions import (
    Revision,
    RevisionAmbiguousError,
    RevisionNotFoundError,
    history,
)

MIGRATION_RUNNING = "MIGRATION_RUNNING"
"""The reason of the error where another migrator is at work."""

_REASONS: dict[type[Exception], tuple[Code, str]] = {
    RevisionNotFoundError: (Code.NOT_FOUND, "REVISION_NOT_FOUND"),
    MigrationRunningError: (Code.ABORTED, MIGRATION_RUNNING),
    MigrationFailedError: (Code.FAILED_PRECONDITION, "MIGRATION_FAILED"),
    UnknownRevisionError: (Code.FAILED_PRECONDITION, "REVISION_UNKNOWN"),
    OtherProgramsDatabaseError: (Code.FAILED_PRECONDITION, "OTHER_PROGRAMS_DATABASE"),
    UnusableDatabaseError: (Code.FAILED_PRECONDITION, "DATABASE_UNUSABLE"),
}


class SchemaError(CallError):
    """What kept the schema from being moved."""

    def __init__(self, error: Exception) -> None:
        self.code, reason = _REASONS[type(error)]
        super().__init__(str(error), reason=reason)


@contextmanager
def _for_callers() -> Iterator[None]:
    try:
        yield
    except RevisionAmbiguousError as error:
        raise InvalidArgumentError("revision", str(error), reason="REVISION_AMBIGUOUS") from error
    except tuple(_REASONS) as error:
        raise SchemaError(error) from error


class Schema:
    """The schema of one database.

    What changes it is an iterator of events, and raises CallError or UnavailableError. Whoever
    stops listening stops it too: the step that runs is taken to its end, and no other is begun.
    """

    def __init__(self, database: Database, guard: Guard = unguarded) -> None:
        """`guard` keeps the service out of the way of steps."""
        self.database = database
        self._guard = guard
        self._moving: set[asyncio.Future[None]] = set()

    async def status(self) -> SchemaStatus:
        """Read where the schema stands. Raises UnavailableError."""
        return await migrations.status(self.database)

    def revisions(self) -> tuple[Revision, ...]:
        """List the history, the first revision first."""
        return history().revisions

    async def build(self, wait: float = DEFAULT_WAIT) -> None:
        """Apply all that is pending, unheard, where no service runs yet."""
        with _for_callers():
            await Migrator(self.database, wait=wait).upgrade()

    async def settle(self, wait: float) -> None:
        """Wait for another migrator that is at work; not for ever. Raises UnavailableError."""
        with suppress(MigrationRunningError):
            await Migrator(self.database, wait=wait).settle()

    def upgrade(
        self,
        revision: str = "",
        *,
        dry_run: bool = False,
        wait: float = DEFAULT_WAIT,
        beside_other_programs: bool = False,
    ) -> AsyncIterator[Event]:
        """Apply the pending revisions up to one; empty: all of them."""

        async def work(migrator: Migrator) -> None:
            upgrade = migrator.rehearse_upgrade if dry_run else migrator.upgrade
            await upgrade(revision or "head", beside_other_programs=beside_other_programs)

        return self._move(work, wait)

    def downgrade(
        self, revision: str = "", *, dry_run: bool = False, wait: float = DEFAULT_WAIT
    ) -> AsyncIterator[Event]:
        """Take revisions back down to one; empty: the newest one."""

        async def work(migrator: Migrator) -> None:
            downgrade = migrator.rehearse_downgrade if dry_run else migrator.downgrade
            await downgrade(revision or "-1")

        return self._move(work, wait)

    def reset(
        self, *, drop_tables_of_other_programs: bool = False, wait: float = DEFAULT_WAIT
    ) -> AsyncIterator[Event]:
        """Drop everything, and build the schema anew."""

        async def work(migrator: Migrator) -> None:
            await migrator.reset(drop_tables_of_other_programs=drop_tables_of_other_programs)

        return self._move(work, wait)

    async def stamp(self, revision: str, wait: float = DEFAULT_WAIT) -> tuple[str, str]:
        """Write down the schema's revision; answer the one before, and the one now.

        Raises CallError, UnavailableError.
        """
        with _for_callers():
            return await Migrator(self.database, guard=self._guard, wait=wait).stamp(revision)

    async def stop(self) -> None:
        """Break off the step that runs: its transaction is rolled back. May be called twice."""
        for moving in self._moving:
            moving.cancel()
        await asyncio.gather(*self._moving, return_exceptions=True)

    async def _move(
        self, work: Callable[[Migrator], Awaitable[None]], wait: float
    ) -> AsyncIterator[Event]:
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        migrator = Migrator(self.database, events.put_nowait, self._guard, wait)
        moving = asyncio.ensure_future(work(migrator))
        # It goes on when nobody listens any more; somebody must know of it.
        self._moving.add(moving)
        moving.add_done_callback(self._moving.discard)
        moving.add_done_callback(lambda done: done.cancelled() or done.exception())
        moving.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
        finally:
            migrator.stop()
        with _for_callers():
            await moving
