"""PostgreSQL servers as objects: one that can be reached, and one that was started here."""

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from sqlalchemy import URL, NullPool, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.needs import Unavailable
from tests.support.postgresql import binaries, keeper, ports
from tests.support.postgresql.account import Account

_USER = "interlock"

_START_TIMEOUT = 30.0
"""Seconds. A start takes a third of one; recovery after a kill under load can take several."""

_STOP_TIMEOUT = 30.0
"""Seconds. A fast shutdown waits for no client, only for its own last checkpoint."""

_POLL = 0.02
"""Seconds between two looks at a server that is starting."""


class Postgresql:
    """A server that can be reached: it makes databases and drops them.

    All methods block, so that fixtures and tests can call them with or without an event loop.
    """

    def __init__(self, url: URL | str) -> None:
        self.url = make_url(url).set(drivername="postgresql+asyncpg")

    @cached_property
    def version(self) -> str:
        """The server's own word, as "18.4"."""
        return str(self._execute("SHOW server_version")).split()[0]

    @property
    def major(self) -> int:
        """The major version: 18 of "18.4"."""
        return int(self.version.split(".")[0])

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL, in SQLAlchemy's form, for asyncpg."""
        self._execute(f'CREATE DATABASE "{name}"')
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, if there is one, cutting off whoever is connected to it."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @contextmanager
    def database(self, prefix: str = "test") -> Iterator[str]:
        """The URL of a new database with a name that nobody else has, dropped afterwards."""
        name = f"{prefix}_{secrets.token_hex(6)}"
        url = self.create_database(name)
        try:
            yield url
        finally:
            self.drop_database(name)

    def has_database(self, name: str) -> bool:
        """Whether there is a database of this name."""
        return bool(self._execute(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"))

    def database_url(self, name: str) -> str:
        """The URL of one of the server's databases."""
        return self.url.set(database=name).render_as_string(hide_password=False)

    def _execute(self, statement: str) -> Any:
        """Run one statement on a connection and a loop of its own; return its first value."""

        async def execute() -> Any:
            engine = create_async_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
            async with engine.connect() as connection:
                result = await connection.exec_driver_sql(statement)
                return result.scalar() if result.returns_rows else None

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, execute()).result()


class PostgresqlServer(Postgresql):
    """A server of its own, on a loopback port that it keeps through restarts.

    With `durable` it is what production is: fit for benchmarks. Without, it spares the disk: it
    survives its own death all the same, but would not survive the machine's.

    It lives in a temporary directory, or in `home`, which outlasts it. Whoever made it closes it;
    if this process dies first, a keeper does.
    """

    def __init__(
        self,
        major: int,
        *,
        durable: bool = False,
        home: Path | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or ports.free()
        self._durable = durable
        self._account = Account.choose()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._temporary = TemporaryDirectory(prefix="interlock-postgresql-")
        temporary = Path(self._temporary.name)
        temporary.chmod(0o755)
        self._home = (home or temporary).absolute()
        self._discard = temporary if home is None else None
        self._home.mkdir(parents=True, exist_ok=True)
        if not self._account.reaches(self._home):
            raise Unavailable(
                f"PostgreSQL does not run as root, and nobody else reaches {self._home}"
            )

        found = binaries.find(major)
        self._programs = self._account.reachable(found.tree, temporary / "programs") / "bin"
        if not (self._data / "PG_VERSION").exists():
            self._initialize(found.major)
        super().__init__(
            URL.create(
                "postgresql+asyncpg",
                username=_USER,
                password=self._password.read_text(),
                host="127.0.0.1",
                port=self.port,
                database="postgres",
            )
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start, and return when clients are let in. A server that runs is left as it is."""
        if self._keeper is not None and self._keeper.poll() is None:
            return
        before = self._status()
        deadline = time.monotonic() + _START_TIMEOUT
        said = len(self.log)
        self._keeper = self._launch()
        while (status := self._status()) == before or not _ready(status):
            if self._keeper.poll() is not None or time.monotonic() > deadline:
                self._end("SIGQUIT")
                raise Unavailable(f"PostgreSQL does not start: {self.log[said:].strip()}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """Shut down in order: transactions roll back, clients are told. Stopping twice is fine."""
        self._end("SIGINT")

    def kill(self) -> None:
        """Die at once with all children, as by `kill -9`; the next start recovers from the log."""
        self._end("SIGKILL")

    def restart(self) -> None:
        """Stop in order, and start on the same port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and delete what is temporary."""
        self.stop()
        self._temporary.cleanup()

    def offer_tls(self, cert: Path, key: Path, ca: Path) -> None:
        """From the next start on offer encryption, and ask clients for certificates of a CA."""
        names = {"ssl_cert_file": cert, "ssl_key_file": key, "ssl_ca_file": ca}
        for name, source in names.items():
            # The server takes no key that others may read.
            copy = self._data / f"{name}.pem"
            copy.touch(mode=0o600)
            copy.write_bytes(source.read_bytes())
            self._account.give(copy)
        lines = [f"{name} = '{name}.pem'\n" for name in names]
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(["ssl = on\n", *lines])

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def _log(self) -> Path:
        return self._home / "log"

    @property
    def _password(self) -> Path:
        return self._home / "password"

    def _initialize(self, major: int) -> None:
        """Make the server's data directory.

        Not kept as a template to copy: it takes 0.4 s.
        """
        self._password.touch(mode=0o600)
        self._password.write_text(secrets.token_urlsafe(24))
        self._data.mkdir(mode=0o700, exist_ok=True)
        for path in (self._password, self._data):
            self._account.give(path)
        command = [
            f"{self._programs}/initdb",
            f"--pgdata={self._data}",
            f"--username={_USER}",
            # Any user of this machine can reach the port. Not "scram-sha-256": its hashing would
            # slow every connection, and who can read loopback traffic can read the password's file.
            "--auth=password",
            f"--pwfile={self._password}",
            "--encoding=UTF8",
            # Every Linux has it, whatever its languages. Text sorts by code point, as in SQLite.
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        if major >= 15:
            # Text sorts by language, as in most installations, and so not as in SQLite.
            command += ["--locale-provider=icu", "--icu-locale=en-US"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd="/", **self._account.identity
        )
        if done.returncode != 0:
            raise Unavailable(f"initdb failed: {done.stderr.strip()}")

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_preload_libraries": "",
        }
        if not self._durable:
            # Not synchronous_commit: without it, what a client was told is committed can be lost
            # when the server is killed.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        specification: keeper.Specification = {
            "command": [f"{self._programs}/postgres", "-D", str(self._data), *options],
            "identity": dict(self._account.identity),
            "discard": str(self._discard) if self._discard else None,
        }
        with self._log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-IS", keeper.__file__, json.dumps(specification)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                bufsize=0,
                cwd="/",
                # A Ctrl-C is for the tests: they stop the server when they are through with it.
                start_new_session=True,
            )

    def _status(self) -> str:
        """The server's own file of its state, as pg_ctl reads it; empty if there is none."""
        try:
            return (self._data / "postmaster.pid").read_text()
        except FileNotFoundError:
            return ""

    def _end(self, signal: str) -> None:
        """Send the server a signal that ends it, and wait until it has ended."""
        if self._keeper is None:
            return
        ending, self._keeper = self._keeper, None
        assert ending.stdin is not None
        try:
            ending.stdin.write(f"{signal}\n".encode())
            ending.wait(_STOP_TIMEOUT)
        except BrokenPipeError:
            pass  # It had ended by itself.
        finally:
            # If it has not ended by now, its keeper ends it less kindly.
            ending.stdin.close()
            ending.wait()


def _ready(status: str) -> bool:
    lines = status.splitlines()
    return len(lines) >= 8 and lines[7].strip() == "ready"
