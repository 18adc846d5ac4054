"""What is asked of logs again and again is found by an index, however much there is of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from interlock.ids import uuid7
from interlock_server.core.logs.ends import TailEnd, drained
from interlock_server.storage import migrations
from interlock_server.storage.database import Database
from interlock_server.storage.dialects import open_database
from interlock_server.storage.log_retention_queries import count_old_chunks, list_old_logs
from interlock_server.storage.log_status_queries import list_log_statuses
from sqlalchemy import text

from tests.support.explained import Explained
from tests.support.servers import IN_MEMORY
from tests.support.stored import Rows, ago

PRODUCERS = 5_000


@pytest_asyncio.fixture(params=["sqlite_memory", "postgresql_13", "postgresql_18"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """A database of each dialect, without any rows."""
    if request.param == "sqlite_memory":
        async with opened(IN_MEMORY) as database:
            yield database
        return
    with request.getfixturevalue(request.param).database() as url:
        async with opened(url) as database:
            yield database


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = open_database(url)
    await database.check()
    await migrations.upgrade(database)
    yield database
    await database.close()


async def put(database: Database, rows: Rows) -> None:
    await rows.put(database)
    if database.dialect == "postgresql":
        await database.read(lambda connection: connection.execute(text("ANALYZE")))


async def test_how_a_log_stands_is_known_without_looking_at_all_who_have_written(
    database: Database,
) -> None:
    rows = Rows()
    flow = rows.flow()
    closed, silent, talking, mute = (rows.run("flow_run", ago(1), flow_id=flow) for _ in range(4))
    for run_id in (closed, silent, talking):
        rows.add("log_head", run_id=run_id)
        for _ in range(PRODUCERS):
            rows.add("log_producer", producer_id=uuid7(), run_id=run_id, closed=True)
    for run_id, words in ((silent, (0.5, 0.7)), (talking, (0.5, 0))):
        for word in words:
            rows.add("log_producer", producer_id=uuid7(), run_id=run_id, updated=ago(word))
    await put(database, rows)

    for run_id, end in (
        (closed, TailEnd.DRAINED),
        (silent, TailEnd.SILENT),
        (talking, None),
        (mute, TailEnd.DRAINED),
    ):
        explained = Explained(database)
        statuses = await list_log_statuses(explained, [run_id])  # type: ignore[arg-type]
        assert drained(statuses[run_id]) is end
        assert "ix_log_producer__open_run_id" in explained.plan
        assert "Seq Scan on log_producer" not in explained.plan


async def test_old_logs_are_found_without_looking_through_all_chunks(database: Database) -> None:
    rows = Rows()
    flow = rows.flow()
    run_ids = sorted(rows.run("flow_run", ago(1), flow_id=flow) for _ in range(600))
    for run_id in run_ids:
        rows.log(run_id, 5, new=3)
    await put(database, rows)

    explained = Explained(database)
    page = await list_old_logs(explained, run_ids[9], ago(0.5), 100)  # type: ignore[arg-type]
    assert (page.old, page.last) == (run_ids[10:110], run_ids[109])
    for word in ("Seq Scan", "Sort", "TEMP B-TREE", "SCAN"):
        assert word not in explained.plan, explained.plan

    explained = Explained(database)
    counted = await count_old_chunks(explained, run_ids[0], ago(0.5))  # type: ignore[arg-type]
    assert counted == 2
    for word in ("Seq Scan", "TEMP B-TREE", "SCAN"):
        assert word not in explained.plan, explained.plan
