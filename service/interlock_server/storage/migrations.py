"""Where the schema of a database stands, and moving it: upgrade, downgrade, stamp, reset.

One migrator at a time works on a database (`migrating`). Each step is one transaction, the word of
the new revision included, so that a step that fails, or whose process dies, leaves no trace; what
`migration_tools` do is the exception, and is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

from alembic import command
from sqlalchemy import Connection, MetaData, event

from interlock_server.storage import tables, version_tables
from interlock_server.storage.database import Database
from interlock_server.storage.errors import (
    SchemaChangedError,
    StorageError,
    UnavailableError,
    UnusableDatabaseError,
)
from interlock_server.storage.migrating import (
    DEFAULT_WAIT,
    Holder,
    MigrationSession,
    Scratch,
    take_turn,
)
from interlock_server.storage.revisions import (
    HEAD,
    History,
    Revision,
    RevisionNotFoundError,
    alembic_config,
    can_serve,
    history,
    server_version,
)
from interlock_server.storage.version_tables import Look

UPGRADE_COMMAND = "interlock server database upgrade"

_LOOK_TIMEOUT = 3.0
"""Seconds that reading the revision may take: health hangs on it."""


class MigrationFailedError(StorageError):
    """A step that could not be taken; the schema is at the revision before it."""


class UnknownRevisionError(StorageError):
    """The schema is at a revision that this server does not know."""


class OtherProgramsDatabaseError(StorageError):
    """The database holds tables, but none of Interlock's."""


# --- where it stands ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where the schema stands. `current` is empty for a database that has none."""

    current: str
    head: str
    pending: tuple[Revision, ...]
    floor: str
    """The oldest version of Interlock that can serve it; empty: not known."""
    servable: bool
    """Whether this server can serve the schema."""
    others: frozenset[str] = frozenset()
    """The database's tables, where none of them is Interlock's."""

    @property
    def advice(self) -> str:
        """What to do where it can not be served; empty where it can."""
        if self.servable:
            return ""
        if self.others:
            return "name another database: this one holds the tables of another program"
        if self.pending:
            return UPGRADE_COMMAND
        unknown = f"this one does not know the schema's revision {self.current}"
        if self.floor:
            return f"run a newer server: {unknown}, which needs Interlock {self.floor} or newer"
        return f"run a newer server: {unknown}"


def head_revision() -> str:
    """Answer the newest revision that this server knows."""
    return history().head


def describe(found: Look, known: History) -> SchemaStatus:
    """Say what a look at a database means for this server."""
    current, floor, servable = found.revision, found.floor, False
    pending: tuple[Revision, ...] = ()
    if known.knows(current):
        pending = known.revisions[known.place(current) :]
        servable = known.serves(current) and not found.others
        floor = known.get(current).compatible_from if current else ""
    elif floor and not found.others:
        # A newer Interlock has been here, and has written down who can still serve it.
        servable = can_serve(floor)
    return SchemaStatus(current, known.head, pending, floor, servable, found.others)


async def status(database: Database) -> SchemaStatus:
    """Read where the schema stands. Raises UnavailableError."""
    if not database.exists():
        return describe(Look("", "", frozenset()), history())

    return describe(await look(database), history())


async def look(database: Database) -> Look:
    """Read where the schema stands, on a connection that is open. Raises UnavailableError."""
    return await database.read(
        lambda connection: connection.run_sync(version_tables.look), _LOOK_TIMEOUT
    )


async def current_revision(database: Database) -> str:
    """Read just the revision of the schema; empty: there is none. Raises UnavailableError."""
    return (await look(database)).revision


# --- moving it ------------------------------------------------------------------------------------


class Stage(Enum):
    """What a migrator tells."""

    WAITING = 1
    DROPPING = 2
    DROPPED = 3
    APPLYING = 4
    WORKING = 5
    APPLIED = 6
    PLANNED = 7


@dataclass(frozen=True, slots=True)
class TableLock:
    """A lock that a step takes; `rows` is an estimate, -1 where there is none."""

    table: str
    mode: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Event:
    """One piece of news of a migrator; see `MigrationEvent` of the contract."""

    stage: Stage
    revision: Revision | None = None
    position: int = 0
    total: int = 0
    interrupts: bool = False
    holder: Holder | None = None
    table: str = ""
    rows_done: int = 0
    rows_total: int = 0
    statements: tuple[str, ...] = ()
    locks: tuple[TableLock, ...] = ()


Tell = Callable[[Event], None]

Guard = Callable[[bool], AbstractAsyncContextManager[None]]
"""Keeps the service out of the way of a step. No calls come in where it is told True, since the
schema can not be served before the step or after it."""


def unguarded(interrupts: bool) -> AbstractAsyncContextManager[None]:
    """Stand for the service where none runs."""
    return nullcontext()


def unheard(event: Event) -> None:
    """Stand for someone who listens."""


@dataclass(frozen=True, slots=True)
class Step:
    """Applying a revision, or taking it back."""

    revision: Revision
    target: str
    """The revision of the schema after it."""
    up: bool
    position: int
    total: int
    interrupts: bool

    def event(self, stage: Stage, **more: Any) -> Event:
        """Make news of it."""
        return Event(stage, self.revision, self.position, self.total, self.interrupts, **more)


def plan(known: History, current: str, target: str) -> list[Step]:
    """List the steps from one revision to another."""
    here, there = known.place(current), known.place(target)
    up = there > here
    places = range(here + 1, there + 1) if up else range(here, there, -1)
    steps = []
    for position, place in enumerate(places, 1):
        before, after = known.at(place - 1), known.at(place)
        interrupts = not (known.serves(before) and known.serves(after))
        target_id = after if up else before
        revision = known.revisions[place - 1]
        steps.append(Step(revision, target_id, up, position, len(places), interrupts))
    return steps


_steps: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def _one_step_at_a_time() -> asyncio.Lock:
    """Answer what is held while a step is taken, rehearsals included.

    Alembic keeps what it works on in globals: of two steps that take turns at each `await`, one
    would go on with the connection of the other.
    """
    return _steps.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def run_step(step: Step, connection: Connection, **attributes: Any) -> None:
    """Take a step on a connection, in a transaction of its own. See `_one_step_at_a_time`."""
    config = alembic_config(connection=connection, **attributes)
    if step.up:
        command.upgrade(config, step.target)
    else:
        command.downgrade(config, step.target or "base")


class Migrator:
    """Moves the schema of a database, and tells how it goes."""

    def __init__(
        self,
        database: Database,
        tell: Tell = unheard,
        guard: Guard = unguarded,
        wait: float = DEFAULT_WAIT,
    ) -> None:
        """`wait` is how many seconds it waits for another migrator."""
        self._database = database
        self._tell = tell
        self._guard = guard
        self._wait = wait
        self._history = history()
        self._stopped = False

    def stop(self) -> None:
        """Begin no further step."""
        self._stopped = True

    async def settle(self) -> None:
        """Wait until no other migrator is at work.

        Raises MigrationRunningError, UnavailableError.
        """
        async with self._turn():
            pass

    async def upgrade(self, revision: str = HEAD, *, beside_other_programs: bool = False) -> None:
        """Apply the pending revisions up to one.

        Raises RevisionNotFoundError, RevisionAmbiguousError, UnknownRevisionError,
        OtherProgramsDatabaseError, MigrationRunningError, MigrationFailedError, UnavailableError.
        """
        async with self._turn() as (session, found):
            await self._take(session, self._way_up(found, revision, beside_other_programs))

    async def downgrade(self, revision: str = "-1") -> None:
        """Take revisions back down to one, which stays. Raises as `upgrade` does."""
        async with self._turn() as (session, found):
            await self._take(session, self._way_down(found, revision))

    async def stamp(self, revision: str) -> tuple[str, str]:
        """Write down that the schema is at a revision; answer the one before, and the one now.

        Raises as `upgrade` does.
        """
        async with self._turn() as (session, found):
            if found.others and found.revision:
                raise OtherProgramsDatabaseError(_words_for_others(found))
            base = found.revision if self._history.knows(found.revision) else ""
            target = self._history.resolve(revision, base)
            floor = self._history.get(target).compatible_from if target else ""
            async with self._guard(True):
                await session.transact(
                    lambda connection: version_tables.write_revision(connection, target, floor)
                )
            return found.revision, target

    async def reset(self, *, drop_tables_of_other_programs: bool = False) -> None:
        """Drop all that is Interlock's, and build the schema anew. Raises as `upgrade` does."""
        async with self._turn() as (session, found):
            names = found.tables
            if not drop_tables_of_other_programs:
                self._require_known(found)
                names &= await self._ours(found.revision)
            async with self._guard(True):
                self._tell(Event(Stage.DROPPING, interrupts=True))
                try:
                    await session.transact(lambda connection: _drop(connection, names))
                except Exception as error:
                    _pass_if_away(error)
                    raise MigrationFailedError(
                        f"The tables can not be dropped, and nothing was changed: {_words(error)}"
                    ) from error
                self._tell(Event(Stage.DROPPED, interrupts=True))
            await self._take(session, plan(self._history, "", self._history.head))

    async def rehearse_upgrade(
        self, revision: str = HEAD, *, beside_other_programs: bool = False
    ) -> None:
        """Tell what `upgrade` would do, and touch nothing."""
        found = await self._look_from_outside()
        await self._rehearse(found, self._way_up(found, revision, beside_other_programs))

    async def rehearse_downgrade(self, revision: str = "-1") -> None:
        """Tell what `downgrade` would do, and touch nothing."""
        found = await self._look_from_outside()
        await self._rehearse(found, self._way_down(found, revision))

    # --- steps

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[tuple[MigrationSession, Look]]:
        async with self._database.migration_session() as session:

            def waiting(holder: Holder) -> None:
                self._tell(Event(Stage.WAITING, holder=holder))

            await take_turn(session, self._wait, waiting)
            # Only now: whoever was before us may have done the work.
            yield session, await session.run(version_tables.look)

    async def _take(self, session: MigrationSession, steps: list[Step]) -> None:
        if any(step.up for step in steps):
            try:
                await self._database.check()  # It enables what the schema needs.
            except UnusableDatabaseError as error:
                raise MigrationFailedError(f"Nothing was changed: {error}") from error
        for step in steps:
            if self._stopped:
                return
            self._tell(step.event(Stage.APPLYING))
            async with self._guard(step.interrupts):
                await self._take_one(session, step)
            self._tell(step.event(Stage.APPLIED))

    async def _take_one(self, session: MigrationSession, step: Step) -> None:
        def rows_done(table: str, done: int, total: int) -> None:
            self._tell(step.event(Stage.WORKING, table=table, rows_done=done, rows_total=total))

        kept: list[str] = []
        try:
            async with _one_step_at_a_time():
                await session.run(
                    lambda connection: run_step(step, connection, kept=kept, rows_done=rows_done)
                )
        except Exception as error:
            _pass_if_away(error)
            # A revision is code of ours, or a constraint that the rows do not meet: whatever it
            # raises, its transaction was rolled back. The driver's words are enough, without SQL.
            what = (
                f"Revision {step.revision.id} can not be {'applied' if step.up else 'taken back'}"
            )
            left = "nothing was changed"
            if kept:
                left = f"the schema stays where it was. What stays of the step: {'; '.join(kept)}"
            raise MigrationFailedError(f"{what}, and {left}: {_words(error)}") from error

    async def _rehearse(self, found: Look, steps: list[Step]) -> None:
        async with self._database.scratch() as scratch:
            await build(scratch, self._history, found.revision)
            for step in steps:
                if self._stopped:
                    return
                statements, locks = await _record(scratch, step)
                sizes = await self._database.table_sizes([table for table, _ in locks])
                told = tuple(
                    TableLock(table, mode, *sizes[table]) for table, mode in locks if table in sizes
                )
                self._tell(step.event(Stage.PLANNED, statements=statements, locks=told))

    # --- what may be done

    async def _look_from_outside(self) -> Look:
        if not self._database.exists():
            return Look("", "", frozenset())
        return await look(self._database)

    def _way_up(self, found: Look, revision: str, beside_other_programs: bool) -> list[Step]:
        self._require_known(found, beside_other_programs)
        target = self._history.resolve(revision, found.revision)
        if self._history.place(target) < self._history.place(found.revision):
            raise RevisionNotFoundError(
                f"The schema is at {found.revision} already, which is above "
                f"{target or 'the first one'}. To go back, downgrade."
            )
        return plan(self._history, found.revision, target)

    def _way_down(self, found: Look, revision: str) -> list[Step]:
        self._require_known(found)
        target = self._history.resolve(revision, found.revision)
        if self._history.place(target) > self._history.place(found.revision):
            raise RevisionNotFoundError(
                f"The schema is at {found.revision or 'no revision'}, which is below {target}. "
                "To go there, upgrade."
            )
        return plan(self._history, found.revision, target)

    def _require_known(self, found: Look, beside_other_programs: bool = False) -> None:
        if found.others and (found.revision or not beside_other_programs):
            raise OtherProgramsDatabaseError(_words_for_others(found))
        if not self._history.knows(found.revision):
            raise UnknownRevisionError(
                f"The schema is at revision {found.revision}, which Interlock {server_version()} "
                "does not know. Run the newer Interlock that has made it"
                + (f": {found.floor} or newer can serve it." if found.floor else ".")
            )

    async def _ours(self, revision: str) -> frozenset[str]:
        """Name the tables that the history has built up to a revision."""
        async with self._database.scratch() as scratch:
            await build(scratch, self._history, revision)
            built = await scratch.run(scratch.tables)
        return built | version_tables.NAMES | tables.metadata.tables.keys()


async def upgrade(database: Database, revision: str = HEAD, tell: Tell = unheard) -> None:
    """Apply the pending revisions up to one. Raises as `Migrator.upgrade` does."""
    await Migrator(database, tell).upgrade(revision)


def _words_for_others(found: Look) -> str:
    names = sorted(found.others)
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    if found.revision:
        return (
            f"The database belongs to another program: its schema is at revision {found.revision}, "
            f"which is none of Interlock's, and its tables are {shown}. Name another database."
        )
    return (
        f"The database holds tables, but none of Interlock's: {shown}. It seems to belong to "
        "another program. Name another database, or say that Interlock shall live beside it: "
        f"{UPGRADE_COMMAND} --beside-other-programs"
    )


def _pass_if_away(error: Exception) -> None:
    """Raise an error that is no fault of the step's: the database is away, full, or taken."""
    if isinstance(error, UnavailableError) and not isinstance(error, SchemaChangedError):
        raise error


def _words(error: BaseException) -> str:
    if isinstance(error, SchemaChangedError) and error.__cause__ is not None:
        error = error.__cause__
    return str(getattr(error, "orig", None) or error)


def _drop(connection: Connection, names: frozenset[str]) -> None:
    found = MetaData()
    found.reflect(connection, only=sorted(names))
    found.drop_all(connection, tables=[found.tables[name] for name in sorted(names)])


async def build(scratch: Scratch, known: History, revision: str) -> None:
    """Bring an empty database to a revision. The history is its copy of the real schema."""
    for step in plan(known, "", revision):
        async with _one_step_at_a_time():
            await scratch.run(
                lambda connection, step=step: run_step(step, connection, rehearsal=True)  # type: ignore[misc]
            )


async def _record(scratch: Scratch, step: Step) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Take a step, and answer its statements and the locks on tables that were there before."""
    statements: list[str] = []
    locks: list[tuple[str, str]] = []

    def note(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA", "SET ", "RESET ")):
            statements.append(_shown(statement, parameters))

    def run(connection: Connection) -> frozenset[str]:
        before = scratch.tables(connection)
        connection.rollback()
        event.listen(connection, "before_cursor_execute", note)
        try:
            run_step(
                step,
                connection,
                rehearsal=True,
                locks=locks,
                before_commit=lambda held: locks.extend(scratch.held_locks(held)),
            )
        finally:
            event.remove(connection, "before_cursor_execute", note)
        return before - version_tables.NAMES

    async with _one_step_at_a_time():
        there_before = await scratch.run(run)
    return tuple(statements), sorted({lock for lock in locks if lock[0] in there_before})


def _shown(statement: str, parameters: Any) -> str:
    words = statement.strip()
    return f"-- with {parameters}\n{words}" if parameters else words
