"""Loops look often, so what they read is found by an index, however many runs there are."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from interlock_server.rules.states import StateType
from interlock_server.storage import loop_queries, migrations
from interlock_server.storage.database import Database
from interlock_server.storage.dialects import open_database
from interlock_server.storage.records import RunKind
from sqlalchemy import text

from tests.support.explained import Explained
from tests.support.stored import Rows, ago

RUNS = 3000


@pytest_asyncio.fixture(params=["sqlite", "postgresql_18"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """A database of runs that are scheduled for a far day, and few that are due."""
    if request.param == "sqlite":
        database = open_database("sqlite+aiosqlite://")
        await fill(database)
        yield database
        await database.close()
        return
    with request.getfixturevalue(request.param).database() as url:
        database = open_database(url)
        await fill(database)
        yield database
        await database.close()


async def fill(database: Database) -> None:
    await database.check()
    await migrations.upgrade(database)
    rows = Rows()
    flow = rows.flow()
    for number in range(RUNS):
        state = "SCHEDULED" if number % 10 else "RUNNING"
        due = ago(-100) if number % 10 else None
        run_id = rows.run("flow_run", ago(0), state=state, flow_id=flow, deadline=due)
        if not number % 10:
            task = rows.run("task_run", ago(0), state="RUNNING", flow_run_id=run_id)
            for kind, id_ in (("flow_run", run_id), ("task_run", task)):
                rows.add(f"{kind}_heartbeat", run_id=id_, deadline=ago(-1))
    await rows.put(database)
    if database.dialect == "postgresql":
        await database.read(lambda connection: connection.execute(text("ANALYZE")))


async def test_what_is_due_is_found_by_its_index(database: Database) -> None:
    watched = (
        StateType.SCHEDULED,
        StateType.PAUSED,
        StateType.CANCELLING,
        StateType.CANCELLED,
    )
    for type_ in watched:
        explained = Explained(database)
        found = await loop_queries.next_deadlines(explained, type_, 201)  # type: ignore[arg-type]
        assert len(found) == (201 if type_ is StateType.SCHEDULED else 0)
        assert "ix_flow_run__state_type_deadline" in explained.plan
        assert "Sort" not in explained.plan
        assert "TEMP B-TREE" not in explained.plan
    for kind in RunKind:
        explained = Explained(database)
        found = await loop_queries.next_heartbeats(explained, kind, 201)  # type: ignore[arg-type]
        assert len(found) == 201
        assert f"ix_{kind}_heartbeat__deadline" in explained.plan
