"""The databases and servers that tests run on. How they come about is told in `tests.support`."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.support import sqlite324
from tests.support.needs import Unavailable, go_without
from tests.support.postgresql import NEWEST, OLDEST, Postgresql
from tests.support.postgresql.shared import OwnersServers, Servers, SharedServers
from tests.support.servers import IN_MEMORY, QUIET, ServerProcess
from tests.support.stubs import Stubs, connected

# Whoever works on the code is to find new cases; whoever lands a change is not to be surprised.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

_SERVERS = pytest.StashKey[Servers]()
_DESK = "interlock_postgresql_desk"


def pytest_configure(config: pytest.Config) -> None:
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    config.stash[_SERVERS] = OwnersServers(*workerinput[_DESK]) if workerinput else SharedServers()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where to ask for the servers."""
    servers = node.config.stash[_SERVERS]
    assert isinstance(servers, SharedServers)
    node.workerinput[_DESK] = servers.desk()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_SERVERS].close()


def _shared_postgresql(config: pytest.Config, major: int) -> Postgresql:
    try:
        return config.stash[_SERVERS].get(major)
    except Unavailable as reason:
        go_without("POSTGRESQL", reason)


@pytest.fixture(scope="session")
def postgresql_13(pytestconfig: pytest.Config) -> Postgresql:
    """The run's server of the oldest supported version. Make databases there; don't stop it."""
    return _shared_postgresql(pytestconfig, OLDEST)


@pytest.fixture(scope="session")
def postgresql_18(pytestconfig: pytest.Config) -> Postgresql:
    """The run's server of the newest supported version. Make databases there; don't stop it."""
    return _shared_postgresql(pytestconfig, NEWEST)


@pytest.fixture(scope="session")
def sqlite_324_environment() -> dict[str, str]:
    """Variables that make a process run on the oldest supported SQLite."""
    try:
        return sqlite324.environment()
    except Unavailable as reason:
        go_without("SQLITE_324", reason)


@pytest.fixture(scope="session")
def interlock_on_sqlite_file() -> Iterator[ServerProcess]:
    """A server on a SQLite database in a file."""
    with ServerProcess(environment=QUIET) as server:
        yield server


@pytest.fixture(scope="session")
def interlock_on_sqlite_memory() -> Iterator[ServerProcess]:
    """A server on a SQLite database in its memory."""
    with ServerProcess(IN_MEMORY, environment=QUIET) as server:
        yield server


@pytest.fixture(scope="session")
def interlock_on_sqlite_324(sqlite_324_environment: dict[str, str]) -> Iterator[ServerProcess]:
    """A server on the oldest supported SQLite, with its database in a file."""
    with ServerProcess(environment=sqlite_324_environment | QUIET) as server:
        yield server


@pytest.fixture(scope="session")
def interlock_on_postgresql_13(postgresql_13: Postgresql) -> Iterator[ServerProcess]:
    """A server on a database of its own in the oldest supported PostgreSQL."""
    with postgresql_13.database() as url, ServerProcess(url, environment=QUIET) as server:
        yield server


@pytest.fixture(scope="session")
def interlock_on_postgresql_18(postgresql_18: Postgresql) -> Iterator[ServerProcess]:
    """A server on a database of its own in the newest supported PostgreSQL."""
    with postgresql_18.database() as url, ServerProcess(url, environment=QUIET) as server:
        yield server


@pytest.fixture(
    scope="session",
    params=["sqlite_file", "sqlite_memory", "sqlite_324", "postgresql_13", "postgresql_18"],
)
def dialect_server(request: pytest.FixtureRequest) -> ServerProcess:
    """One server a dialect, which all tests of a worker share: don't stop it, expect other data.

    Its loops rest: no run changes but by what a test does.
    """
    server: ServerProcess = request.getfixturevalue(f"interlock_on_{request.param}")
    return server


@pytest.fixture(scope="session")
def stubs(dialect_server: ServerProcess) -> Iterator[Stubs]:
    """Stubs of the dialect's server, on one channel."""
    with connected(dialect_server.target) as stubs:
        yield stubs
