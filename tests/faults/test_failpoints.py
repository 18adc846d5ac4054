"""The server dies exactly where it hurts most, and comes back to find nothing amiss."""

import asyncio

import pytest
from interlock_server.storage import failpoints

from tests.faults import readback
from tests.faults.history import History
from tests.faults.load import Amount, Load
from tests.support.postgresql import ports
from tests.support.servers import ServerProcess

_FEW = Amount(setters=6, runs=8, batchers=1, task_runs=20, producers=2, batches=30)

_VISIT = 6
"""At which visit of a point the server dies: all kinds of clients have something under way then."""


async def test_a_crash_at_each_point_of_a_batch(database_url: str) -> None:
    history = History()
    port = ports.free()
    servers = [
        ServerProcess(
            database_url, port=port, environment={"INTERLOCK_FAILPOINTS": f"{point}=crash:{_VISIT}"}
        )
        for point in failpoints.POINTS
    ]
    last = ServerProcess(database_url, port=port)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(Load(last.target, history, _FEW).run())
            for dying in servers:
                await asyncio.to_thread(dying.start)
                await asyncio.to_thread(dying.wait_for_death)
            await asyncio.to_thread(last.start)
        assert not history.unanswered
        await readback.check(last.target, history)
    finally:
        for server in (*servers, last):
            await asyncio.to_thread(server.close)


def test_failpoints_are_read_from_text() -> None:
    assert failpoints.parse("") == {}
    assert failpoints.parse("pipeline.after_commit=crash:3,writer.before_commit=crash") == {
        failpoints.AFTER_COMMIT: 3,
        failpoints.BEFORE_COMMIT: 1,
    }
    with pytest.raises(ValueError, match="no failpoint"):
        failpoints.parse("pipeline.nowhere=crash")
