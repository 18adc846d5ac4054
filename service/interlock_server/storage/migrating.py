"""One migrator at a time: what a dialect offers to it, and how it gets its turn."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from interlock_server.storage.errors import StorageError

T = TypeVar("T")

DEFAULT_WAIT = 60.0
"""Seconds that a migrator waits for another one, unless it is told otherwise."""

_POLL = 0.25
"""Seconds between two tries. A migration takes seconds, or minutes."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who works on a schema. What is not known is empty, or 0."""

    host: str = ""
    pid: int = 0
    since: int = 0
    """Microseconds since 1970."""

    @classmethod
    def this_process(cls) -> Holder:
        """Describe this process, beginning now."""
        return cls(socket.gethostname(), os.getpid(), int(time.time()) * 1_000_000)

    @classmethod
    def parse(cls, text: str) -> Holder:
        """Read what `str` has written; of anything else nothing is known."""
        try:
            seconds, pid, host = text.split(maxsplit=2)
            return cls(host.strip(), int(pid), int(seconds) * 1_000_000)
        except ValueError:
            return cls()

    def __str__(self) -> str:
        # The host comes last, since PostgreSQL cuts names that are too long.
        return f"{self.since // 1_000_000} {self.pid} {self.host}"

    @property
    def words(self) -> str:
        """Name it in a sentence."""
        if not self.pid:
            return "another migrator, which has not said who it is"
        since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self.since // 1_000_000))
        return f"process {self.pid} on {self.host}, since {since}"


class MigrationRunningError(StorageError):
    """Another migrator works on the database, and did not end in time."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(
            f"The database's schema is being changed by {holder.words}. Try again when that is "
            "done. Nothing was changed."
        )
        self.holder = holder


class MigrationSession(Protocol):
    """A connection for one migrator, with the right to be the only one.

    The right lasts as long as the connection: one that dies takes its open transaction with it.
    """

    async def try_lock(self) -> bool:
        """Try to become the one migrator of the database. It ends with the session.

        Raises UnusableDatabaseError where a server is in the way that can not be asked to step
        aside.
        """

    async def holder(self) -> Holder:
        """Tell who is the migrator, as far as that is known."""

    async def run(self, work: Callable[[Any], T]) -> T:
        """Run work with the synchronous connection, which is in no transaction.

        What is left open when it returns is rolled back.
        """

    async def transact(self, work: Callable[[Any], T]) -> T:
        """Run work in one transaction: all of it happens, or nothing."""


class Scratch(Protocol):
    """An empty database for a rehearsal, gone at its end. No table of the real one is touched."""

    async def run(self, work: Callable[[Any], T]) -> T:
        """Run work with the synchronous connection."""

    def tables(self, connection: Any) -> frozenset[str]:
        """Name its tables."""

    def held_locks(self, connection: Any) -> list[tuple[str, str]]:
        """Name the tables that the open transaction has locked, and the locks' modes."""


Waiting = Callable[[Holder], None]


async def take_turn(session: MigrationSession, wait: float, waiting: Waiting) -> None:
    """Wait until a session is the one migrator; `waiting` hears who is before it.

    Raises MigrationRunningError after `wait` seconds, and what `try_lock` raises.
    """
    give_up = time.monotonic() + wait
    told: Holder | None = None
    while not await session.try_lock():
        holder = await session.holder()
        left = give_up - time.monotonic()
        if left <= 0:
            raise MigrationRunningError(holder)
        if holder != told:
            told = holder
            waiting(holder)
        await asyncio.sleep(min(_POLL, left))
