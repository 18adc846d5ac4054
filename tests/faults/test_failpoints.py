"""The server dies exactly where it hurts most, and comes back to find nothing amiss."""

import asyncio

import pytest
from interlock_server.storage import failpoints

from tests.faults import readback
from tests.faults.history import History
from tests.faults.load import Amount, Load
from tests.support.servers import ServerProcess

_FEW = Amount(setters=6, runs=4, batchers=1, task_runs=20, producers=2, batches=10)


@pytest.mark.parametrize("point", failpoints.POINTS)
async def test_a_crash_at_each_point_of_a_batch(database_url: str, point: str) -> None:
    # At the eighth visit all kinds of clients have something under way.
    dying = ServerProcess(database_url, environment={"INTERLOCK_FAILPOINTS": f"{point}=crash:8"})
    history = History()
    following = ServerProcess(database_url, port=dying.port)
    try:
        await asyncio.to_thread(dying.start)
        async with asyncio.TaskGroup() as group:
            group.create_task(Load(dying.target, history, _FEW).run())
            await asyncio.to_thread(dying.wait_for_death)
            await asyncio.to_thread(following.start)
        assert not history.unanswered
        await readback.check(following.target, history)
    finally:
        await asyncio.to_thread(dying.close)
        await asyncio.to_thread(following.close)


def test_failpoints_are_read_from_text() -> None:
    assert failpoints.parse("") == {}
    assert failpoints.parse("pipeline.after_commit=crash:3,writer.before_commit=crash") == {
        failpoints.AFTER_COMMIT: 3,
        failpoints.BEFORE_COMMIT: 1,
    }
    with pytest.raises(ValueError, match="no failpoint"):
        failpoints.parse("pipeline.nowhere=crash")
