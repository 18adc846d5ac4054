"""Reads back what the service has stored of what a history tells, and compares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from interlock import AsyncClient, NotFound
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.state_pb2 import StateType, Transition
from interlock.v1.task_run_pb2 import TaskRun

from tests.faults.history import History, StoredLine, StoredRun, StoredTransition
from tests.faults.load import verdict_word
from tests.support.operators import maintenance_of
from tests.support.servers import ServerProcess

_AT_ONCE = 8
"""How many runs are read at the same time."""


async def check(target: str, history: History) -> None:
    """Fail if the service has not stored exactly what clients were told."""
    async with AsyncClient(target) as client:
        turn = asyncio.Semaphore(_AT_ONCE)

        async def read(run_id: str) -> StoredRun:
            async with turn:
                return await _read_run(client, run_id)

        runs = await asyncio.gather(*map(read, history.run_ids))
        logs = {
            run_id: [StoredLine(it.ordinal, it.message) async for it in client.list_logs(run_id)]
            for run_id in history.log_ids
        }
    problems = history.problems(runs, logs)
    assert not problems, "\n".join(problems[:20])


async def check_database(server: ServerProcess) -> None:
    """Fail if the server's own check of what is stored finds anything."""

    def found() -> dict[str, list[str]]:
        with maintenance_of(server) as maintenance:
            return {check: all_ for check, all_ in maintenance.check().items() if all_}

    assert not (problems := await asyncio.to_thread(found)), problems


async def _read_run(client: AsyncClient, run_id: str) -> StoredRun:
    run: FlowRun | TaskRun
    transitions: AsyncIterator[Transition]
    try:
        run = await client.get_flow_run(run_id)
        transitions = client.list_flow_run_states(run_id)
    except NotFound:
        run = await client.get_task_run(run_id)
        transitions = client.list_task_run_states(run_id)
    stored = [_stored(transition) async for transition in transitions]
    return StoredRun(run.id, run.run_count, run.state.id, stored)


def _stored(transition: Transition) -> StoredTransition:
    verdict = verdict_word(transition.verdict)
    if not transition.HasField("state"):
        return StoredTransition(transition.id, verdict)
    state = transition.state
    type_ = StateType.Name(state.type).removeprefix("STATE_TYPE_")
    return StoredTransition(transition.id, verdict, state.id, type_, state.timestamp.ToDatetime())
