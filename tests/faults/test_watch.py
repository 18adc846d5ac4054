"""Watches through `kill -9` of the server: nothing committed is missed, nothing told twice."""

import asyncio
from collections import defaultdict

from interlock import AsyncClient
from interlock.v1.run_event_pb2 import RunEvent
from interlock.v1.state_pb2 import State

from tests.support.servers import ServerProcess

_RUNS = 6
_STEPS = 40
"""How often each run is set going, under way while the server is killed."""

_KILLED_AT = (0.3, 0.6)
"""After which parts of the work."""


async def test_a_watch_that_is_taken_up_after_a_kill_is_whole(database_url: str) -> None:
    server = ServerProcess(database_url)
    try:
        await asyncio.to_thread(server.start)
        async with AsyncClient(server.target) as client, AsyncClient(server.target) as other:
            flow = await client.create_flow("watched")
            watch = other.watch_runs()
            await watch.start()
            runs = [await client.create_flow_run(flow) for _ in range(_RUNS)]
            told: list[RunEvent] = []
            done = 0

            async def see() -> None:
                last = {run.id for run in runs}
                async for event in watch:
                    told.append(event)
                    if event.state.name == "Last":
                        last.discard(event.run_id)
                    if not last:
                        return

            async def drive(run_id: str) -> None:
                nonlocal done
                for _ in range(_STEPS):
                    await client.set_flow_run_state(run_id, "running")
                    done += 1
                await client.set_flow_run_state(run_id, "failed", name="Last")

            async with asyncio.timeout(120), asyncio.TaskGroup() as group:
                group.create_task(see())
                for run in runs:
                    group.create_task(drive(run.id))
                for part in _KILLED_AT:
                    while done < part * _RUNS * _STEPS:  # noqa: ASYNC110 - the work has no events
                        await asyncio.sleep(0.01)
                    server.kill()
                    await asyncio.to_thread(server.start)

            by_run: defaultdict[str, list[State]] = defaultdict(list)
            for event in told:
                by_run[event.run_id].append(event.state)
            for run in runs:
                written = [
                    each.state
                    async for each in client.list_flow_run_states(run)
                    if each.HasField("state")
                ]
                assert by_run[run.id] == written
    finally:
        await asyncio.to_thread(server.close)
