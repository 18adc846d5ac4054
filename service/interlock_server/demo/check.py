"""Compares what the processes reported with what the server says when it is asked afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from interlock import Client
from interlock.v1 import TaskRunFilter, Transition

from interlock_server.demo.witness import Seen, SeenLog, SeenState


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of the comparison."""

    states: int
    """How many states were read back."""
    lines: int
    """How many lines of the log were read back."""
    differences: tuple[str, ...]
    """Each in words; none: all is as it was reported."""


def read_back(client: Client, flow_run_id: str) -> Seen:
    """Ask the server for all states and lines of a flow run and its task runs."""
    seen = Seen()
    seen.states[flow_run_id] = [_entry(each) for each in client.list_flow_run_states(flow_run_id)]
    for run in client.list_task_runs(TaskRunFilter(flow_run_ids=[flow_run_id])):
        seen.states[run.id] = [_entry(each) for each in client.list_task_run_states(run.id)]
    for record in client.list_logs(flow_run_id, page_size=1_000):
        seen.log(record.task_run_id or flow_run_id).add_record(record)
    return seen


def compare(reported: Seen, kept: Seen) -> Verification:
    """Compare run by run: every state in its order, every line in its order."""
    differences: list[str] = []
    for run_id in sorted(reported.states.keys() | kept.states.keys()):
        pairs = zip_longest(reported.states.get(run_id, ()), kept.states.get(run_id, ()))
        for number, (ours, theirs) in enumerate(pairs, 1):
            if ours != theirs:
                differences.append(f"run {run_id}, state {number}: {_words(ours, theirs)}")
    for run_id in sorted(reported.logs.keys() | kept.logs.keys()):
        ours_log = reported.logs.get(run_id, SeenLog())
        theirs_log = kept.logs.get(run_id, SeenLog())
        if ours_log.lines != theirs_log.lines:
            differences.append(
                f"run {run_id}: {ours_log.lines:,} log lines were reported, "
                f"{theirs_log.lines:,} were read back"
            )
        elif ours_log.sha256 != theirs_log.sha256:
            differences.append(
                f"run {run_id}: its {ours_log.lines:,} log lines were read back changed, "
                "or in another order"
            )
    return Verification(
        states=sum(map(len, kept.states.values())),
        lines=sum(log.lines for log in kept.logs.values()),
        differences=tuple(differences),
    )


def _entry(transition: Transition) -> SeenState:
    return SeenState.of(transition.id, transition.verdict, transition.state)


def _words(ours: SeenState | None, theirs: SeenState | None) -> str:
    if ours is None:
        return f"{theirs} was read back, and nobody reported it"
    if theirs is None:
        return f"{ours} was reported, and is missing"
    fields = SeenState.__slots__
    changed = [f for f in fields if getattr(ours, f) != getattr(theirs, f)]
    return f"{ours} was reported, {theirs} was read back (different: {', '.join(changed)})"
