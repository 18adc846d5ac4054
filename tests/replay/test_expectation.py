"""The check after a replay sees each kind of difference, and says which task and what."""

import logging
from collections import Counter
from dataclasses import replace

import pytest
from interlock_server.replay import Attempt, Outcome, Trace, TraceTask
from interlock_server.replay.expectation import (
    Check,
    Seen,
    TaskRunSeen,
    WrittenState,
    compare,
)
from interlock_server.replay.outcome import end_of, flow_run_states
from interlock_server.replay.script import Line, write_script

FAILED_THEN_DONE = (
    Attempt(outcome=Outcome.FAILED, duration=1),
    Attempt(outcome=Outcome.COMPLETED, duration=1),
)
TRACE = Trace(
    name="two",
    source_format="test",
    tasks=(
        TraceTask(id="a", name="a", attempts=FAILED_THEN_DONE),
        TraceTask(id="b", name="b", parents=("a",), attempts=FAILED_THEN_DONE[1:]),
    ),
    makespan=3,
)
SCRIPTS = {task.id: write_script(task) for task in TRACE.tasks}
OWN_LINES = (Line(logging.INFO, "replay"),)


def told(task_id: str, first_time: int) -> TaskRunSeen:
    """What a server tells that did all as it should."""
    script = SCRIPTS[task_id]
    states = [WrittenState(*each, first_time + i) for i, each in enumerate(script.states)]
    # Created before any parent had ended.
    states[0] = replace(states[0], time=0)
    return TaskRunSeen(
        state=script.states[-1],
        run_count=script.run_count,
        history=tuple(states),
        lines=script.lines,
    )


SEEN = Seen(
    flow_run=flow_run_states(TRACE),
    task_runs={"a": told("a", 100), "b": told("b", 200)},
    state_counts=Counter({"COMPLETED": 2, "FAILED": 0}),
    other_lines=OWN_LINES,
)


def check(seen: Seen, *, logs: bool = True) -> list[Check]:
    return compare(TRACE, SCRIPTS, seen, own_lines=OWN_LINES, logs=logs)


def differences(seen: Seen) -> list[str]:
    return [each for check_ in check(seen) for each in check_.differences]


def with_b(**changes: object) -> Seen:
    changed = replace(SEEN.task_runs["b"], **changes)  # type: ignore[arg-type]
    return replace(SEEN, task_runs={**SEEN.task_runs, "b": changed})


def test_all_agrees_where_the_server_tells_what_the_trace_says() -> None:
    checks = check(SEEN)
    assert all(each.agrees for each in checks)
    assert {each.what: each.found for each in checks} == {
        "states of the flow run": "Pending -> Running -> Completed",
        "exact sequences of states": "2",
        "children after their parents": "1",
        "task runs Completed": "2",
        "task runs by type, as counted": "COMPLETED 2",
        "task runs that ran once": "1",
        "task runs that ran twice": "1",
        "log lines": "7",
    }


HISTORY = SEEN.task_runs["b"].history


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(SEEN, flow_run=(("FAILED", "Failed"),)), ["states of the flow run", "Failed"]),
        (replace(SEEN, task_runs={"a": SEEN.task_runs["a"]}), ["task b", "found nothing"]),
        (with_b(history=HISTORY[:-1]), ["task b", "found Scheduled -> Pending -> Running"]),
        (with_b(history=(*HISTORY, HISTORY[-1])), ["task b", "Completed -> Completed"]),
        (
            with_b(history=(*HISTORY[:3], WrittenState("COMPLETED", "Cached", 203))),
            ["task b", "COMPLETED/Cached"],
        ),
        (
            with_b(history=(HISTORY[0], replace(HISTORY[1], time=104), *HISTORY[2:])),
            ["task b", "began 1 µs before its parent a ended"],
        ),
        (with_b(state=("FAILED", "Failed")), ["task runs Failed", "expected 0, found 1"]),
        (with_b(run_count=2), ["task b", "expected a run count of 1, found 2"]),
        (with_b(lines=()), ["task b", "expected 2 log lines, found 0"]),
        (with_b(lines=SEEN.task_runs["b"].lines[::-1]), ["task b", "log line 1: expected"]),
        (replace(SEEN, other_lines=()), ["the flow run: expected 1 log lines, found 0"]),
        (replace(SEEN, state_counts={"COMPLETED": 1}), ["as counted", "found COMPLETED 1"]),
    ],
)
def test_a_difference_is_told(seen: Seen, words: list[str]) -> None:
    assert any(all(word in told for word in words) for told in differences(seen))


def test_two_differences_that_leave_the_counts_as_they_are_are_told() -> None:
    runs = {**with_b(run_count=2).task_runs, "a": replace(SEEN.task_runs["a"], run_count=1)}
    told = differences(replace(SEEN, task_runs=runs))
    assert "task a: expected a run count of 2, found 1" in told
    assert "task b: expected a run count of 1, found 2" in told


def test_logs_that_were_not_written_are_not_asked_for() -> None:
    silent = replace(SEEN, other_lines=())
    assert all(each.agrees for each in check(silent, logs=False))


@pytest.mark.parametrize(
    ("outcomes", "end"),
    [
        ([Outcome.COMPLETED, Outcome.CACHED], ("COMPLETED", "all 2 tasks completed")),
        ([Outcome.COMPLETED, Outcome.FAILED], ("FAILED", "of 2 tasks 1 failed")),
        ([Outcome.CANCELLED, None], ("FAILED", "of 2 tasks 1 was cancelled, 1 never ran")),
        ([Outcome.UNFINISHED], ("FAILED", "of 1 tasks 1 had not ended when the trace does")),
    ],
)
def test_the_flow_runs_end_says_why(outcomes: list[Outcome | None], end: tuple[str, str]) -> None:
    tasks = tuple(
        TraceTask(
            id=str(number),
            name="t",
            attempts=() if outcome is None else (Attempt(outcome=outcome, duration=1),),
        )
        for number, outcome in enumerate(outcomes)
    )
    assert end_of(replace(TRACE, tasks=tasks)) == end
