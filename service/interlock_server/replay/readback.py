"""Reads back from the server what a replay has left there."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from interlock import AsyncClient
from interlock.v1.state_pb2 import StateType, Transition
from interlock.v1.task_run_pb2 import TaskRunFilter

from interlock_server.replay.expectation import Seen, TaskRunSeen, WrittenState
from interlock_server.replay.proposer import state_name
from interlock_server.replay.script import Line

_PAGE = 1000
_AT_ONCE = 32
"""How many histories are read at once."""


async def read_back(client: AsyncClient, flow_run_id: str, run_ids: Mapping[str, str]) -> Seen:
    """Read all that there is of a replay.

    Args:
        client: asks the server.
        flow_run_id: the replay's flow run.
        run_ids: the ids of its task runs, by the ids of the trace's tasks.
    """
    of_flow_run = TaskRunFilter(flow_run_ids=[flow_run_id])
    runs = {run.id: run async for run in client.list_task_runs(of_flow_run, page_size=_PAGE)}
    lines = await _lines(client, flow_run_id)
    free = asyncio.Semaphore(_AT_ONCE)

    async def history(run_id: str) -> tuple[WrittenState, ...]:
        async with free:
            found = client.list_task_run_states(run_id)
            return _written([transition async for transition in found])

    histories = dict(
        zip(runs, await asyncio.gather(*(history(run_id) for run_id in runs)), strict=True)
    )
    flow_run = [each async for each in client.list_flow_run_states(flow_run_id)]
    counts = {}
    for kind in StateType.values()[1:]:
        condition = TaskRunFilter(flow_run_ids=[flow_run_id], state_types=[kind])
        word = StateType.Name(kind).removeprefix("STATE_TYPE_")
        counts[word] = await client.count_task_runs(condition)
    return Seen(
        flow_run=tuple((state.type, state.name) for state in _written(flow_run)),
        task_runs={
            task_id: TaskRunSeen(
                state=state_name(runs[run_id].state),
                run_count=runs[run_id].run_count,
                history=histories[run_id],
                lines=tuple(lines[run_id]),
            )
            for task_id, run_id in run_ids.items()
            if run_id in runs
        },
        state_counts=counts,
        other_lines=tuple(lines[""]),
    )


async def _lines(client: AsyncClient, flow_run_id: str) -> defaultdict[str, list[Line]]:
    """The log's lines by task run, put together again where they were too long for one record."""
    found: defaultdict[str, list[Line]] = defaultdict(list)
    begun: defaultdict[str, str] = defaultdict(str)
    async for record in client.list_logs(flow_run_id, page_size=_PAGE):
        text = begun.pop(record.task_run_id, "") + record.message
        if record.continued:
            begun[record.task_run_id] = text
        else:
            found[record.task_run_id].append(Line(record.level, text))
    return found


def _written(transitions: list[Transition]) -> tuple[WrittenState, ...]:
    """The states that were written: a history also tells of proposals that came to nothing."""
    return tuple(
        WrittenState(*state_name(each.state), each.state.timestamp.ToMicroseconds())
        for each in transitions
        if each.HasField("state")
    )
