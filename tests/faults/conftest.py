"""Databases of their own for tests that break them, servers for those that break what is before."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.postgresql import Postgresql
from tests.support.servers import ServerProcess, sqlite_url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, on each dialect that outlasts its server."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "interlock.db")
        return
    postgresql: Postgresql = request.getfixturevalue("postgresql_18")
    with postgresql.database("faults") as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ServerProcess]:
    """A server that the tests of a module share, and leave as it is."""
    if request.param == "sqlite":
        server = ServerProcess()
        database = None
    else:
        postgresql: Postgresql = request.getfixturevalue("postgresql_18")
        database = postgresql.database("faults")
        server = ServerProcess(database.__enter__())
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.close)
        if database is not None:
            database.__exit__(None, None, None)
