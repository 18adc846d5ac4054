"""The server dies exactly where it hurts most, and comes back to find nothing amiss."""

import asyncio

import pytest
from interlock_server.storage import failpoints

from tests.faults import readback
from tests.faults.history import History
from tests.faults.load import Amount, Load
from tests.faults.log_fleet import small_fleet
from tests.support.servers import ServerProcess

_FEW = Amount(setters=6, runs=8, batchers=1, task_runs=20, producers=2, batches=30)


async def test_a_crash_at_each_point_of_a_batch(database_url: str) -> None:
    history, fleet = History(), small_fleet()
    server = ServerProcess(database_url)
    try:
        await asyncio.to_thread(server.start)
        async with asyncio.TaskGroup() as group:
            group.create_task(Load(server.target, history, _FEW).run())
            group.create_task(fleet.work(server.target))
            for place, point in enumerate(failpoints.POINTS):
                # All kinds of clients have something under way then.
                await fleet.reaches(0.1 + place * 0.2)
                await asyncio.to_thread(server.arm, f"{point}=crash")
                await asyncio.to_thread(server.wait_for_death)
                await asyncio.to_thread(server.start)
                await fleet.reaches(0.2 + place * 0.2)
        # At which of the points a batch of logs was under way depends on the machine.
        assert fleet.resent
        assert not history.unanswered
        await readback.check(server.target, history)
        await fleet.check(server)
    finally:
        await asyncio.to_thread(server.close)


def test_failpoints_are_read_from_text() -> None:
    assert failpoints.parse("") == {}
    assert failpoints.parse("pipeline.after_commit=crash:3,writer.before_commit=crash") == {
        failpoints.AFTER_COMMIT: 3,
        failpoints.BEFORE_COMMIT: 1,
    }
    with pytest.raises(ValueError, match="no failpoint"):
        failpoints.parse("pipeline.nowhere=crash")
