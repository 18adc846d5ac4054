"""One database, whichever its dialect: what the pipeline and the queries ask of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.storage.event_order import EventOrder
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.hints import Hints
from interlock_server.storage.migrating import MigrationSession, Scratch
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

    def event_order(self) -> EventOrder:
        """Answer what this database says of the order of its events."""

    def hints(self) -> Hints:
        """Answer the way to other servers of this database: a new one each time."""

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
