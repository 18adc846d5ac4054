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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import asyncpg
import structlog

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
        self._listeners: dict[str, set[Callable[[], None]]] = {}
        self._asked_until: dict[str, float] = {}
        self._to_tell: set[str] = set()
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

    def tell(self, topic: str) -> None:
        """See `Hints.tell`."""
        if self._asked_until.get(topic, 0.0) > time.monotonic():
            self._to_tell.add(topic)
            self._work.set()

    @contextmanager
    def listen(self, topic: str, heard: Callable[[], None]) -> Iterator[None]:
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
            self._wake(self._listeners)
            asked: dict[str, float] = {}
            while not connection.is_closed():
                self._work.clear()
                now = time.monotonic()
                due = [t for t in self._listeners if asked.get(t, 0.0) + _ASK_SECONDS <= now]
                for topic in due:
                    asked[topic] = now
                    await self._send(connection, _WANT, topic)
                to_tell, self._to_tell = self._to_tell, set()
                for topic in sorted(to_tell):
                    await self._send(connection, _NEWS, topic)
                await asyncio.sleep(_PAUSE)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._work.wait(), _ASK_SECONDS / 2)
        finally:
            connection.terminate()

    async def _send(self, connection: Any, kind: str, topic: str) -> None:
        payload = f"{self._own_name} {kind} {topic}"
        await connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, payload)

    def _heard(self, connection: object, process: int, channel: str, payload: str) -> None:
        sender, _, rest = payload.partition(" ")
        kind, _, topic = rest.partition(" ")
        if sender == self._own_name:
            return
        if kind == _WANT:
            self._asked_until[topic] = time.monotonic() + _ASKED_SECONDS
        elif kind == _NEWS:
            self._wake([topic])

    def _wake(self, topics: Any) -> None:
        for topic in list(topics):
            for heard in list(self._listeners.get(topic, ())):
                heard()
