"""The conformance suite: what holds on every dialect. A visible difference between two is a bug."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from interlock_server.core.engine import Engine
from interlock_server.storage import migrations
from interlock_server.storage.dialects import open_database

from tests.support.runs import FlowRuns, Runs, TaskRuns
from tests.support.servers import IN_MEMORY, sqlite_url
from tests.support.stubs import Stubs


@pytest.fixture(params=[FlowRuns, TaskRuns], ids=lambda kind: str(kind.kind))
def runs(request: pytest.FixtureRequest, stubs: Stubs) -> Runs:
    """The runs of each kind in turn."""
    made: Runs = request.param(stubs)
    return made


@pytest.fixture(params=["sqlite_file", "sqlite_memory", "postgresql_13", "postgresql_18"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each dialect."""
    match request.param:
        case "sqlite_file":
            yield sqlite_url(tmp_path / "interlock.db")
        case "sqlite_memory":
            yield IN_MEMORY
        case major:
            with request.getfixturevalue(major).database() as made:
                yield made


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    """An engine on it, in the test's own process."""
    database = open_database(url)
    await database.check()
    await migrations.upgrade(database)
    engine = Engine(database)
    engine.start()
    yield engine
    await engine.stop()
