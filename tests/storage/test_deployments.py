"""Deployments, on every dialect."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from interlock.ids import uuid7
from interlock_server.storage import migrations
from interlock_server.storage.database import Database
from interlock_server.storage.dialects import open_database
from interlock_server.storage.facts import Needs
from interlock_server.storage.records import RunKind

from tests.support.servers import IN_MEMORY, sqlite_url
from tests.support.stored import Rows, ago


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
async def database(url: str) -> AsyncIterator[Database]:
    """A database with an empty schema."""
    opened = open_database(url)
    await opened.check()
    await migrations.upgrade(opened)
    yield opened
    await opened.close()


async def test_a_batch_knows_the_deployments_it_asks_for_and_those_of_its_runs(
    database: Database,
) -> None:
    rows = Rows()
    flow = rows.flow()
    of_run, asked, by_name, other = (
        rows.deployment(flow, name) for name in ("of a run", "asked", "by name", "other")
    )
    deleted = uuid7()
    run, orphan, bare = (
        rows.run("flow_run", ago(1), flow_id=flow, deployment_id=id_)
        for id_ in (of_run, deleted, None)
    )
    await rows.put(database)
    needs = Needs()
    needs.runs_to_write[RunKind.FLOW_RUN] = {run, orphan, bare}
    needs.deployments_to_read = {asked}
    needs.deployment_keys = {(flow, "by name"), (flow, "nowhere"), (uuid7(), "other")}

    writer = await database.open_writer()
    facts = await writer.begin(needs)
    await writer.rollback()
    await writer.close()

    assert facts.deployments.keys() == {of_run, asked, by_name}
    assert facts.deployments[of_run].name == "of a run"
    assert facts.deployment_ids_by_key[flow, "by name"] == by_name
    runs = facts.runs[RunKind.FLOW_RUN]
    assert [runs[id_].deployment_id for id_ in (run, orphan, bare)] == [of_run, deleted, None]
    assert deleted not in facts.deployments
    assert other not in facts.deployments
