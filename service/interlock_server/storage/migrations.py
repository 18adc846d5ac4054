"""The revisions of the schema: where the database stands, and moving it on.

The revisions themselves are Alembic's, in the folder `migrations/` of the repository.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, inspect

from interlock_server.storage.database import Database
from interlock_server.storage.errors import StorageError

UPGRADE_COMMAND = "interlock server database upgrade"

_VERSION_TABLE = "alembic_version"

_LOOK_TIMEOUT = 3.0
"""Seconds that reading the revision may take: health hangs on it."""


class RevisionNotFoundError(StorageError):
    """A revision that this server does not know."""


class MigrationFailedError(StorageError):
    """A revision that could not be applied; the schema is as it was before it."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the schema's history."""

    id: str
    description: str


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where the schema stands. `current` is empty for a database that has none."""

    current: str
    head: str
    pending: tuple[Revision, ...]

    @property
    def servable(self) -> bool:
        """Whether this server can serve the schema."""
        return self.current == self.head

    @property
    def advice(self) -> str:
        """What to do where it can not; empty where it can."""
        if self.servable:
            return ""
        if self.pending:
            return UPGRADE_COMMAND
        return f"run a newer server: this one does not know the schema's revision {self.current}"


def folder() -> Path:
    """Answer where the revisions are: in the installed package, or in the repository."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _revision(script: Script) -> Revision:
    return Revision(script.revision, (script.doc or "").splitlines()[0])


@cache
def head_revision() -> str:
    """Answer the newest revision that this server knows: the one that it can serve."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


async def status(database: Database) -> SchemaStatus:
    """Read where the schema stands. Raises UnavailableError."""
    scripts = ScriptDirectory.from_config(_config())
    head = head_revision()

    def look(connection: Connection) -> str:
        return MigrationContext.configure(connection).get_current_revision() or ""

    current = await database.migrate(look) if database.exists() else ""
    known = {script.revision for script in scripts.walk_revisions()}
    pending: tuple[Revision, ...] = ()
    if not current or current in known:
        steps = list(scripts.iterate_revisions(head, current or "base"))
        pending = tuple(map(_revision, reversed(steps)))
    return SchemaStatus(current, head, pending)


async def current_revision(database: Database) -> str:
    """Read just the revision of the schema, on a connection that is open; empty: there is none."""

    def look(connection: Connection) -> str:
        # Alembic asks SQLite about its table by a PRAGMA, and old versions answer that from what
        # they knew of the schema before another connection changed it. Reading the list of tables
        # makes them look again.
        if _VERSION_TABLE not in inspect(connection).get_table_names():
            return ""
        return MigrationContext.configure(connection).get_current_revision() or ""

    return await database.read(lambda connection: connection.run_sync(look), _LOOK_TIMEOUT)


Progress = Callable[[Revision, bool], None]
"""Is told of a revision before it is applied (False) and after (True). May be called by another
thread's event loop."""


async def upgrade(
    database: Database, revision: str = "head", progress: Progress | None = None
) -> None:
    """Apply the pending revisions up to one, each in a transaction of its own.

    Raises RevisionNotFoundError, MigrationFailedError, UnavailableError.
    """
    before = await status(database)
    if revision in ("", "head"):
        revision = before.head
    steps = []
    for step in before.pending:
        steps.append(step)
        if step.id == revision:
            break
    else:
        if revision != before.current:
            raise RevisionNotFoundError(
                f"There is no pending revision {revision!r}; the pending ones are: "
                f"{', '.join(step.id for step in before.pending) or 'none'}."
            )
        return
    for step in steps:
        if progress is not None:
            progress(step, False)
        try:
            await database.migrate(_applying(database, step))
        except StorageError:
            raise
        except Exception as error:
            # A revision is code of ours, or a constraint that old rows do not meet: whatever it
            # raises, its transaction was rolled back. The driver's words are enough, without SQL.
            words = getattr(error, "orig", None) or error
            raise MigrationFailedError(
                f"Revision {step.id} can not be applied, and nothing was changed: {words}"
            ) from error
        if progress is not None:
            progress(step, True)


def _applying(database: Database, step: Revision) -> Callable[[Connection], None]:
    def apply(connection: Connection) -> None:
        with database.migration_turn(connection):
            command.upgrade(_config(connection), step.id)

    return apply
