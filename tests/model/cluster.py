"""Servers on one database that die where they are told to, and clients that carry on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc
from interlock_server.storage import failpoints

from tests.model.commands import Command
from tests.model.wire import Seen
from tests.support.servers import QUIET, ServerProcess
from tests.support.stubs import Stubs, connected

_T = TypeVar("_T")

CLIENTS = 4
"""Clients, each with a channel of its own. They are shared out among the servers."""

KILLED = "killed"
WHERE = (KILLED, *failpoints.POINTS)
"""Where a server may die: between two calls, or the next time that a batch comes to a point."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What commands that were sent at the same time were answered."""

    answers: Sequence[Seen]
    again: bool
    """Whether a server died of it, so that commands were sent again."""


class Cluster:
    """Some servers on one database, and some clients."""

    def __init__(self, database_url: str, servers: int) -> None:
        self.database_url = database_url
        self._members = [_Member(database_url) for _ in range(servers)]
        self._threads = ThreadPoolExecutor(CLIENTS)

    def close(self) -> None:
        """Stop all servers."""
        self._threads.shutdown()
        for member in self._members:
            member.close()

    def ask(self, client: int, question: Callable[[Stubs], _T]) -> _T:
        """Let a client ask its server something."""
        return self._of(client).call(client % CLIENTS, question)

    def send(self, client: int, commands: Sequence[Command], now: float) -> Sent:
        """Let clients send commands at the same time: the first by this client, and so on."""
        deaths = self._deaths
        calls = [
            self._threads.submit(self.ask, client + i, lambda stubs, it=it: it.send(stubs, now))
            for i, it in enumerate(commands)
        ]
        answers = [call.result() for call in calls]
        return Sent(answers, self._deaths > deaths)

    def die(self, client: int, where: str, visit: int = 1) -> None:
        """Let a client's server die, now or when so many batches come to a point; and come back."""
        self._of(client).die(where, visit)

    def _of(self, client: int) -> _Member:
        return self._members[client % len(self._members)]

    @property
    def _deaths(self) -> int:
        return sum(member.deaths for member in self._members)


@contextmanager
def cluster(database_url: str, servers: int) -> Iterator[Cluster]:
    """Servers on one database, and some clients."""
    made = Cluster(database_url, servers)
    try:
        yield made
    finally:
        made.close()


class _Member:
    """A server that comes back whenever it has died, at the same address."""

    def __init__(self, database_url: str) -> None:
        # The model knows nothing of time: its servers do nothing by themselves.
        self._process = ServerProcess(database_url, environment=QUIET)
        self._lock = threading.Lock()
        self._channels = ExitStack()
        self.deaths = 0
        self._start()

    def close(self) -> None:
        self._channels.close()
        self._process.close()

    def call(self, client: int, question: Callable[[Stubs], _T]) -> _T:
        """Ask the server something: again, if it dies of it."""
        while True:
            deaths = self.deaths
            try:
                return question(self._clients[client])
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            with self._lock:
                if self.deaths == deaths:  # else another client has seen to it
                    self._process.wait_for_death()
                    self.deaths += 1
                    self._start()

    def die(self, where: str, visit: int) -> None:
        """Be killed now, or be told to die at a point of a batch."""
        if where == KILLED:
            self._process.kill()
            self._start()
        else:
            self._process.arm(f"{where}=crash:{visit}")

    def _start(self) -> None:
        self._process.start()
        # A channel that has found nobody waits for a while: each start has channels of its own.
        target = self._process.target
        self._clients = [self._channels.enter_context(connected(target)) for _ in range(CLIENTS)]
