"""Batches and other transactions on PostgreSQL: what is decided is decided behind the locks."""

import asyncio

import asyncpg
import pytest
from interlock import AsyncClient
from sqlalchemy import make_url

from tests.support.servers import ServerProcess

_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_WAITERS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture(params=["interlock_on_postgresql_13", "interlock_on_postgresql_18"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    server: ServerProcess = request.getfixturevalue(request.param)
    return server


async def _connect(server: ServerProcess) -> asyncpg.Connection:
    url = make_url(server.database_url).set(drivername="postgresql")
    return await asyncpg.connect(url.render_as_string(hide_password=False))


async def test_a_states_time_is_read_after_the_wait_for_its_run(server: ServerProcess) -> None:
    other, watcher = await _connect(server), await _connect(server)
    async with AsyncClient(server.target) as client:
        run = await client.create_flow_run(await client.create_flow("flow"))
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM flow_run WHERE id = $1 FOR UPDATE", run.id)
        proposing = asyncio.create_task(client.set_flow_run_state(run.id, "running"))
        # Another session's wait sets no event here.
        while not await watcher.fetchval(_WAITERS):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        released = await other.fetchval(_CLOCK)
        await transaction.commit()
        decision = await proposing
    assert decision.state.timestamp.ToMicroseconds() >= released
    await other.close()
    await watcher.close()
