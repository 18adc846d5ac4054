"""The graph of a trace: is it sound, in which order can it run, when could each task start?

Pure functions over `Trace`; nothing here knows a file format.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from interlock_server.replay.trace import Attempt, Outcome, Trace, TraceError, TraceTask

_CYCLE_NODES_SHOWN = 8
"""A cycle of thousands of tasks is no help to read in full."""


def validate(trace: Trace, source: str) -> Trace:
    """Return the trace as it is, once it is known to be sound.

    Sound means: it has tasks; ids are there and unique; parents exist, are named once, and form no
    cycle; durations are finite and not negative; times are finite.

    Args:
        trace: what a parser built.
        source: the file's name, for the error's text.

    Raises:
        TraceError: naming the task, or the cycle as parent -> child -> ... -> parent.
    """
    if not trace.tasks:
        raise TraceError(
            source, f"this {trace.source_format} trace has no tasks", "give one of a run that had"
        )
    known: set[str] = set()
    for task in trace.tasks:
        if not task.id:
            raise TraceError(source, "a task has an empty id", "give every task an id")
        if task.id in known:
            raise TraceError(
                source, f"two tasks have the id {task.id!r}", "give each task its own id"
            )
        known.add(task.id)
    for task in trace.tasks:
        _check_parents(task, known, source)
        for attempt in task.attempts:
            _check_numbers(task, attempt, source)
    if not math.isfinite(trace.makespan) or trace.makespan < 0:
        raise TraceError(
            source,
            f"the whole run took {trace.makespan} seconds",
            "a makespan must be finite and not negative",
        )
    topological_order(trace, source)
    return trace


def topological_order(trace: Trace, source: str | None = None) -> tuple[TraceTask, ...]:
    """The trace's tasks, parents before children; the same order for the same trace.

    Args:
        trace: with unique ids and known parents.
        source: the file's name for the error's text; the trace's name if not given.

    Raises:
        TraceError: the graph has a cycle, which is named.
    """
    tasks = {task.id: task for task in trace.tasks}
    sorter = TopologicalSorter({task.id: task.parents for task in trace.tasks})
    try:
        return tuple(tasks[task_id] for task_id in sorter.static_order())
    except CycleError as error:
        raise TraceError(
            source or trace.name,
            f"tasks wait for each other in a cycle: {_describe_cycle(error.args[1])}",
            "remove one of these dependencies",
        ) from None


def with_synthetic_starts(trace: Trace) -> Trace:
    """The trace with a start for every attempt, made up where the source recorded no time.

    A made-up start is the earliest possible: the first attempt starts when the last parent has
    ended (at 0 without parents), each later attempt when the one before it has ended; as if there
    were always a free worker. Tasks of which the source recorded any time keep exactly those.

    Returns:
        The same trace if nothing was missing; else a new one whose `starts_are_synthetic` is true.

    Raises:
        TraceError: the graph has a cycle.
    """
    ends: dict[str, float] = {}
    filled: dict[str, TraceTask] = {}
    for task in topological_order(trace):
        ready = max((ends[parent] for parent in task.parents), default=0.0)
        timed = task
        if task.attempts and not any(attempt.has_times for attempt in task.attempts):
            timed = replace(task, attempts=tuple(_back_to_back(task.attempts, ready)))
            filled[task.id] = timed
        ends[task.id] = max([ready, *(a.ended for a in timed.attempts if a.ended is not None)])
    if not filled:
        return trace
    tasks = tuple(filled.get(task.id, task) for task in trace.tasks)
    return replace(trace, tasks=tasks, starts_are_synthetic=True)


def _back_to_back(attempts: tuple[Attempt, ...], ready: float) -> Iterator[Attempt]:
    now = ready
    for attempt in attempts:
        end = now + attempt.duration
        unfinished = attempt.outcome is Outcome.UNFINISHED
        yield replace(attempt, submitted=now, started=now, ended=None if unfinished else end)
        now = end


def _check_parents(task: TraceTask, known: set[str], source: str) -> None:
    for parent in task.parents:
        if parent not in known:
            raise TraceError(
                source,
                f"task {task.id!r} has the parent {parent!r}, which is not in the trace",
                "add that task or remove the dependency",
            )
    if len(set(task.parents)) != len(task.parents):
        raise TraceError(
            source, f"task {task.id!r} names a parent twice", "name each of its parents once"
        )


def _check_numbers(task: TraceTask, attempt: Attempt, source: str) -> None:
    if not math.isfinite(attempt.duration) or attempt.duration < 0:
        raise TraceError(
            source,
            f"task {task.id!r} has a duration of {attempt.duration} seconds",
            "durations must be finite and not negative",
        )
    for moment in (attempt.submitted, attempt.started, attempt.ended):
        if moment is not None and not math.isfinite(moment):
            raise TraceError(
                source, f"task {task.id!r} has the time {moment}", "times must be finite"
            )


def _describe_cycle(nodes: list[str]) -> str:
    shown = [node if node.isprintable() else repr(node) for node in nodes]
    if len(nodes) > _CYCLE_NODES_SHOWN + 1:
        left_out = len(nodes) - _CYCLE_NODES_SHOWN - 1
        shown = [*shown[:_CYCLE_NODES_SHOWN], f"({left_out} more)", shown[-1]]
    return " -> ".join(shown)
