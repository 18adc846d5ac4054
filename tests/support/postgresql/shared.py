"""One server for each version in a test run, however many processes run the tests.

The first process of a run owns the servers: `SharedServers`. The workers of pytest-xdist ask it for
them: `OwnersServers`. A server is started when the first test needs it, so that a run without such
tests starts none.
"""

import os
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection, Listener
from typing import Protocol

from tests.support.needs import Unavailable
from tests.support.postgresql.server import Postgresql, PostgresqlServer


class Servers(Protocol):
    """The servers of this test run."""

    def get(self, major: int) -> Postgresql:
        """The server of a major version. Raises Unavailable where there is none."""
        ...

    def close(self) -> None:
        """Stop the servers that are this process's own."""
        ...


@dataclass
class SharedServers:
    """Servers that are started when first asked for, and stopped together."""

    _running: dict[int, PostgresqlServer] = field(default_factory=dict)
    _failed: dict[int, Unavailable] = field(default_factory=dict)
    _desk: "_Desk | None" = None

    def get(self, major: int) -> Postgresql:
        """The server of a major version, started now if nobody has asked before."""
        if given := os.environ.get("INTERLOCK_TEST_POSTGRESQL_URL"):
            return Postgresql(given)
        if failure := self._failed.get(major):
            raise failure
        if major not in self._running:
            try:
                server = PostgresqlServer(major)
                server.start()
            except Unavailable as failure:
                self._failed[major] = failure
                raise
            self._running[major] = server
        return self._running[major]

    def desk(self) -> tuple[str, bytes]:
        """The address where other processes of the run can ask for servers, and the key to it."""
        if self._desk is None:
            self._desk = _Desk(self)
        return self._desk.address, self._desk.key

    def close(self) -> None:
        """Stop all servers."""
        if self._desk is not None:
            self._desk.close()
        while self._running:
            self._running.popitem()[1].close()


@dataclass(frozen=True)
class OwnersServers:
    """The servers of the run, asked for at their owner's desk."""

    address: str
    key: bytes

    def get(self, major: int) -> Postgresql:
        """The server of a major version."""
        with Client(self.address, authkey=self.key) as desk:
            desk.send(major)
            url, failure = desk.recv()
        if failure is not None:
            raise Unavailable(failure)
        return Postgresql(url)

    def close(self) -> None:
        """Leave them running: other workers use them, and their owner will stop them."""


class _Desk:
    """A thread that answers other processes, one at a time: so no server is started twice."""

    def __init__(self, servers: SharedServers) -> None:
        self.key = secrets.token_bytes(32)
        self._servers = servers
        self._listener = Listener(family="AF_UNIX", authkey=self.key)
        self._thread = threading.Thread(target=self._serve, name="postgresql-desk", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return str(self._listener.address)

    def close(self) -> None:
        with Client(self.address, authkey=self.key) as desk:
            desk.send(None)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            # A worker that is killed while it asks must not end the service to the others.
            with suppress(OSError, EOFError), self._listener.accept() as asker:
                major = asker.recv()
                if major is None:
                    return
                self._answer(asker, major)

    def _answer(self, asker: "Connection[object, int]", major: int) -> None:
        try:
            server = self._servers.get(major)
        except Unavailable as failure:
            asker.send((None, str(failure)))
        else:
            asker.send((server.url.render_as_string(hide_password=False), None))
