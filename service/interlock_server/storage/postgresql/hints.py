"""Hints on PostgreSQL: LISTEN and NOTIFY, on a connection of their own.

NOTIFY takes a lock of the whole cluster as it commits. So hints are sent beside the pipeline, many
in one, and only while another server asks for them: who listens says so when it begins, and again
every now and then. Behind PgBouncer in transaction mode nothing is heard; then the fallback of
whoever listens is all there is.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import asyncpg
import structlog

from interlock_server.storage.hints import Heard
from interlock_server.storage.postgresql.connecting import Connecting
from interlock_server.storage.postgresql.errors import LOST, words

_CHANNEL = "interlock"

_WANT, _NEWS = "want", "news"

_ASK_SECONDS = 10.0
"""How often who listens says so: a server that has just started, or was away, hears it then."""

_ASKED_SECONDS = 25.0
"""How long a topic counts as asked for: two words that are missed are no matter."""

_PAUSE = 0.005
"""Seconds between two hints: what is committed meanwhile is told by one."""

_MOST_NAMES_BYTES = 7_500
"""How long the names in one hint may be together: PostgreSQL takes 8,000 bytes. A hint of more is
about anything."""

_ANYTHING: frozenset[str] = frozenset()

_AWAY_SECONDS = 5.0
"""Seconds before the next try to connect."""

log = structlog.get_logger(__name__)


class PostgresqlHints:
    """Hints to and from the other servers of one database."""

    def __init__(self, connecting: Connecting) -> None:
        # A hint that is lost with the machine is no loss: nobody waits for the disk.
        self._arguments = connecting.drivers_arguments(
            synchronous_commit="off", statement_timeout="5000"
        )
        self._own_name = secrets.token_hex(6)
        self._listeners: dict[str, set[Heard]] = {}
        self._asked_until: dict[str, float] = {}
        self._to_tell: dict[str, _Names] = {}
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """See `Hints.start`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="hints")

    async def stop(self) -> None:
        """See `Hints.stop`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def tell(self, topic: str, about: Iterable[str] = ()) -> None:
        """See `Hints.tell`."""
        if self.asked(topic):
            self._to_tell.setdefault(topic, _Names()).add(about)
            self._work.set()

    def asked(self, topic: str) -> bool:
        """See `Hints.asked`."""
        return self._asked_until.get(topic, 0.0) > time.monotonic()

    @contextmanager
    def listen(self, topic: str, heard: Heard) -> Iterator[None]:
        """See `Hints.listen`."""
        listeners = self._listeners.setdefault(topic, set())
        listeners.add(heard)
        self._work.set()
        try:
            yield
        finally:
            listeners.discard(heard)
            if not listeners:
                self._listeners.pop(topic, None)

    async def _run(self) -> None:
        away = False
        while True:
            try:
                await self._converse()
            except (*LOST, asyncpg.PostgresError) as error:
                if not away:
                    log.warning("hints_unavailable", error=words(error))
                away = True
                await asyncio.sleep(_AWAY_SECONDS)
            else:
                away = False

    async def _converse(self) -> None:
        """Send and hear until the connection is lost."""
        connection: Any = await asyncpg.connect(**self._arguments, command_timeout=10.0)
        try:
            connection.add_termination_listener(lambda _: self._work.set())
            await connection.add_listener(_CHANNEL, self._heard)
            # What came while nobody heard may have been told in vain.
            for topic in list(self._listeners):
                self._wake(topic, _ANYTHING)
            asked: dict[str, float] = {}
            while not connection.is_closed():
                self._work.clear()
                now = time.monotonic()
                due = [t for t in self._listeners if asked.get(t, 0.0) + _ASK_SECONDS <= now]
                for topic in due:
                    asked[topic] = now
                    await self._send(connection, _WANT, topic)
                to_tell, self._to_tell = self._to_tell, {}
                for topic, names in sorted(to_tell.items()):
                    await self._send(connection, _NEWS, " ".join([topic, *names.told()]))
                await asyncio.sleep(_PAUSE)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ASK_SECONDS / 2):
                        await self._work.wait()
        finally:
            connection.terminate()

    async def _send(self, connection: Any, kind: str, words: str) -> None:
        payload = f"{self._own_name} {kind} {words}"
        await connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, payload)

    def _heard(self, connection: object, process: int, channel: str, payload: str) -> None:
        sender, _, rest = payload.partition(" ")
        kind, _, rest = rest.partition(" ")
        topic, *names = rest.split(" ")
        if sender == self._own_name:
            return
        if kind == _WANT:
            self._asked_until[topic] = time.monotonic() + _ASKED_SECONDS
        elif kind == _NEWS:
            self._wake(topic, frozenset(names))

    def _wake(self, topic: str, names: frozenset[str]) -> None:
        for heard in list(self._listeners.get(topic, ())):
            heard(names)


class _Names:
    """What one hint is about."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._bytes = 0
        self._anything = False

    def add(self, about: Iterable[str]) -> None:
        """Add what some news is about."""
        new = set(about)
        self._anything = self._anything or not new
        if self._anything:
            return
        new -= self._names
        self._names |= new
        self._bytes += sum(len(name.encode()) + 1 for name in new)
        self._anything = self._bytes > _MOST_NAMES_BYTES

    def told(self) -> Iterable[str]:
        """Answer the names to tell; none: it is about anything."""
        return () if self._anything else self._names
