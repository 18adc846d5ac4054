"""Interlock servers as processes: real ones on real sockets, to stop, kill and restart."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
from interlock_server.background.loops import LoopOptions
from interlock_server.rpc.server import Addresses, Server
from interlock_server.storage.dialects import open_database

from tests.support.postgresql import ports
from tests.support.server_main import ARMED

_REPOSITORY = Path(__file__).parents[2]

_START_TIMEOUT = 30.0
"""Seconds. A start takes one; on a busy machine several."""

_STOP_TIMEOUT = 30.0
"""Seconds. The server itself gives running calls 15."""

_GRACE = 15.0
"""Seconds that calls have to end when a server in this process stops, as elsewhere."""

_POLL = 0.01
"""Seconds between two looks at a server that is starting."""

IN_MEMORY = "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false"
"""The URL of a database in the server's memory, gone with the process."""


QUIET = {"INTERLOCK_LOOPS": "false"}
"""The environment of a server that does nothing by itself: nothing becomes late, or crashes."""


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite database in a file."""
    return f"sqlite+aiosqlite:///{file.absolute()}"


class ServerFailed(Exception):
    """A server that did not start, or ended otherwise than it should. The message has its log."""


class ServerProcess:
    """A server on a loopback port that it keeps through restarts.

    It lives in a temporary directory: admin socket, log, and where no URL is given, a SQLite
    database. Whoever made it closes it; if this process dies first, the server ends by itself.

    All methods block, so that fixtures and tests can call them with or without an event loop: from
    within a loop that has other work meanwhile, by `asyncio.to_thread`.
    """

    def __init__(
        self,
        database_url: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        port: int | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        """Prepare a server.

        `options` are further ones of `interlock server start`; `wrapper` is a command that runs
        what is appended to it, in its own process and in a world of its own making.
        """
        self.port = port or ports.free()
        # Not pytest's own directory: a socket's path must be short.
        self._temporary = TemporaryDirectory(prefix="interlock-")
        self.home = Path(self._temporary.name)
        self.database_url = database_url or sqlite_url(self.home / "interlock.db")
        self.admin_socket = self.home / "admin.sock"
        self._options = options
        self._wrapper = wrapper
        self._environment = _without_settings(os.environ) | {
            "INTERLOCK_HOME": str(self.home),
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def target(self) -> str:
        """Where the data services listen, as gRPC calls it."""
        return f"127.0.0.1:{self.port}"

    @property
    def admin_target(self) -> str:
        """Where the admin services listen, as gRPC calls it."""
        return f"unix:{self.admin_socket}"

    @property
    def pid(self) -> int:
        """The process that runs; each start has another."""
        return self._running.pid

    @property
    def log(self) -> str:
        """What the server has said so far, in all its starts."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> None:
        """Start, and return when the server listens. Raises ServerFailed.

        It listens also while it can not serve, with its database away: see its health service.
        """
        assert self._process is None, "The server runs."
        said = len(self.log)
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=_REPOSITORY,
                env=self._environment,
                # A Ctrl-C is for the tests: they stop the server when they are through with it.
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while " listens on " not in self.log[said:]:
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"The server does not start:\n{self.log[said:]}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """Tell the server to end, wait until it has, and check that it found all in order.

        A server that does not run is left as it is. Raises ServerFailed.
        """
        if self._process is None:
            return
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(f"The server does not stop:\n{self.log}") from None
        self._forget()
        if code != 0:
            raise ServerFailed(f"The server ended with {code}:\n{self.log}")

    def kill(self) -> None:
        """End the server at once, as by `kill -9`. One that does not run is left as it is."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._forget()

    def wait_for_death(self, timeout: float = 30.0) -> None:
        """Wait until the server has been killed, as by a failpoint. Raises ServerFailed."""
        try:
            code = self._running.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"The server lives on:\n{self.log}") from None
        self._forget()
        if code != -signal.SIGKILL:
            raise ServerFailed(f"The server ended with {code}:\n{self.log}")

    def arm(self, failpoints: str) -> None:
        """Arm failpoints of the server that runs, and return when they are. Raises ServerFailed."""
        said = len(self.log)
        pipe = self._running.stdin
        assert pipe is not None
        pipe.write(f"{failpoints}\n".encode())
        pipe.flush()
        deadline = time.monotonic() + _START_TIMEOUT
        while ARMED + failpoints not in self.log[said:]:
            if self._running.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"The server is not armed:\n{self.log[said:]}")
            time.sleep(_POLL)

    def restart(self) -> None:
        """Stop in order, and start on the same port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and delete what is temporary."""
        try:
            self.stop()
        finally:
            self._temporary.cleanup()

    @property
    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "The server does not run."
        return self._process

    @property
    def _log(self) -> Path:
        return self.home / "log"

    @property
    def _command(self) -> list[str]:
        command = [
            *self._wrapper,
            sys.executable,
            "-m",
            "tests.support.server_main",
            "server",
            "start",
        ]
        command += ["--port", str(self.port), "--database", self.database_url]
        return [*command, "--admin-socket", str(self.admin_socket), *self._options]

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


@contextmanager
def server_on(
    request: pytest.FixtureRequest, database: str, environment: Mapping[str, str]
) -> Iterator[ServerProcess]:
    """A server with settings of its own, on a database of its own, such as `postgresql_13`."""
    if database.startswith("postgresql"):
        with (
            request.getfixturevalue(database).database() as url,
            ServerProcess(url, environment=environment) as server,
        ):
            yield server
        return
    url = IN_MEMORY if database == "sqlite_memory" else None
    if database == "sqlite_324":
        environment = request.getfixturevalue("sqlite_324_environment") | environment
    with ServerProcess(url, environment=environment) as server:
        yield server


@asynccontextmanager
async def in_this_process(database_url: str) -> AsyncIterator[str]:
    """A server in the running event loop, for tests that look into it; answers its target.

    Its loops rest.
    """
    # Not pytest's own directory: a socket's path must be short.
    with TemporaryDirectory(prefix="interlock-") as home:
        addresses = Addresses("127.0.0.1", 0, Path(home) / "admin.sock")
        quiet = LoopOptions(enabled=False)
        server = Server(open_database(database_url), addresses, grace=_GRACE, loops=quiet)
        port = await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop()


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what would configure the server otherwise than a test says."""
    return {key: value for key, value in environment.items() if not key.startswith("INTERLOCK_")}
