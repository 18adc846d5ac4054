"""The databases that tests run on. How they come about is told in `tests.support`."""

from typing import Any

import pytest

from tests.support import sqlite324
from tests.support.needs import Unavailable, go_without
from tests.support.postgresql import NEWEST, OLDEST, Postgresql
from tests.support.postgresql.shared import OwnersServers, Servers, SharedServers

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
