"""What the service does by itself, at its time: dead runs, late runs, pauses, cancelling."""

from collections.abc import Iterator
from typing import Any

import pytest
from interlock.v1 import run_heartbeat_pb2, state_pb2, task_run_pb2

from tests.support.heartbeats import beat, beats
from tests.support.runs import (
    ACCEPT,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CRASHED,
    FAILED,
    PAUSED,
    PENDING,
    REJECT,
    RUNNING,
    SCHEDULED,
    FlowRuns,
    Runs,
    TaskRuns,
    make_deployment,
    make_flow_run,
    make_task_run,
    now,
    proposal,
    soon,
    until,
)
from tests.support.servers import server_on
from tests.support.stubs import Stubs, connected

SOON = 0.3
"""Seconds after which the runs of these tests are dead."""

NOT_SOON = 10.0
"""Seconds after which they would be where the machine is too busy to be heard in time."""

QUICK = {
    "INTERLOCK_LOOPS_PERIOD": "0.5",
    "INTERLOCK_LOOPS_LATE_AFTER": "0.2",
    "INTERLOCK_LOOPS_CANCELLING_TIMEOUT": "1.5",
}


@pytest.fixture(
    scope="module", params=["sqlite_memory", "sqlite_324", "postgresql_13", "postgresql_18"]
)
def stubs(request: pytest.FixtureRequest) -> Iterator[Stubs]:
    """Stubs of an impatient server of each dialect."""
    with (
        server_on(request, request.param, QUICK) as server,
        connected(server.target) as stubs,
    ):
        yield stubs


def started(stubs: Stubs, runs: Runs, *, timeout: float = SOON, **content: Any) -> str:
    """A run that runs, and of which one heartbeat came."""
    run_id: str = runs.make(**content).id
    move(runs, run_id, RUNNING)
    heard(stubs, runs, run_id, timeout=timeout)
    return run_id


def move(runs: Runs, run_id: str, *states: Any) -> None:
    for state in states:
        assert runs.propose(proposal(run_id, state)).verdict == ACCEPT


def heard(
    stubs: Stubs, runs: Runs, run_id: str, attempt: int = 1, *, timeout: float = SOON
) -> run_heartbeat_pb2.HeartbeatAnswer:
    (outcome,) = beats(stubs, beat(runs.kind, run_id, attempt, timeout=timeout))
    assert outcome.HasField("answer"), outcome
    return outcome.answer


def becomes(runs: Runs, run_id: str, type_: Any, name: str = "") -> state_pb2.Transition:
    """Wait until a run is in a state; answer the last line of its history."""

    def reached() -> bool:
        state = runs.get(run_id).state
        return bool(state.type == type_ and name in ("", state.name))

    until(reached)
    return runs.history(run_id)[-1]


# --- dead runs ------------------------------------------------------------------------------------


def test_a_run_that_falls_silent_crashes_and_one_that_is_heard_of_does_not(
    stubs: Stubs, runs: Runs
) -> None:
    silent = started(stubs, runs)
    deadline = heard(stubs, runs, silent).deadline_time
    alive = started(stubs, runs, timeout=NOT_SOON)
    unwatched = runs.make().id
    move(runs, unwatched, RUNNING)

    def crashed() -> bool:
        heard(stubs, runs, alive, timeout=NOT_SOON)
        return bool(runs.get(silent).state.type == CRASHED)

    until(crashed)
    assert runs.get(alive).state.type == runs.get(unwatched).state.type == RUNNING
    run, line = runs.get(silent), runs.history(silent)[-1]
    assert run.end_time == run.state.timestamp
    assert run.state.timestamp.ToMicroseconds() >= deadline.ToMicroseconds()
    assert "the last heartbeat came" in run.state.message
    assert (line.verdict, line.rule, line.reason) == (ACCEPT, "heartbeat_lost", "HEARTBEAT_LOST")
    assert (line.proposed_type, line.proposed_by) == (CRASHED, "interlock")
    assert "It has crashed." in line.explanation
    assert heard(stubs, runs, silent).advice == run_heartbeat_pb2.HEARTBEAT_ADVICE_FINISHED
    assert runs.get(silent) == run


def test_a_finished_run_is_never_touched(stubs: Stubs, runs: Runs) -> None:
    finished = started(stubs, runs)
    move(runs, finished, COMPLETED)
    before = runs.get(finished)
    becomes(runs, started(stubs, runs), CRASHED)
    assert runs.get(finished) == before
    assert [line.proposed_type for line in runs.history(finished)] == [PENDING, RUNNING, COMPLETED]


def test_of_an_end_and_a_death_that_race_the_death_is_never_the_second(
    stubs: Stubs, runs: Runs
) -> None:
    ids = [runs.make(state={"type": RUNNING}).id for _ in range(60)]
    # From those that die long before they are done to those that are done long before they die.
    beats(stubs, *(beat(runs.kind, id_, 1, timeout=0.1 + 0.005 * i) for i, id_ in enumerate(ids)))
    for id_ in ids:
        runs.propose(proposal(id_, COMPLETED))
    becomes(runs, started(stubs, runs), CRASHED)
    for id_ in ids:
        assert runs.get(id_).state.type == COMPLETED
        types = [line.state.type for line in runs.history(id_)]
        assert types in ([RUNNING, COMPLETED], [RUNNING, CRASHED, COMPLETED])


def test_a_crash_is_tried_again_where_the_policy_says_so(stubs: Stubs, runs: Runs) -> None:
    policy: dict[str, Any] = {"max_retries": 1, "retry_crashes": True}
    policy |= (
        {"delay": {"seconds": 60}} if runs.kind == "flow_run" else {"delays": [{"seconds": 60}]}
    )
    run_id = started(stubs, runs, retry_policy=policy)
    line = becomes(runs, run_id, SCHEDULED)
    assert (line.verdict, line.rule, line.reason) == (REJECT, "heartbeat_lost", "HEARTBEAT_LOST")
    assert line.proposed_type == CRASHED
    assert line.explanation.endswith("Retry 1 of 1.")
    state = runs.get(run_id).state
    assert state.name == "AwaitingRetry"
    due = state.details.scheduled_time.ToMicroseconds() - state.timestamp.ToMicroseconds()
    assert due == pytest.approx(60_000_000, abs=1000)
    late = heard(stubs, runs, run_id)
    assert late.advice == run_heartbeat_pb2.HEARTBEAT_ADVICE_NOT_RUNNING

    runs.propose(proposal(run_id, SCHEDULED, details={"scheduled_time": now()}))
    move(runs, run_id, RUNNING)
    assert heard(stubs, runs, run_id, 1).advice == run_heartbeat_pb2.HEARTBEAT_ADVICE_SUPERSEDED
    assert heard(stubs, runs, run_id, 2).advice == run_heartbeat_pb2.HEARTBEAT_ADVICE_CONTINUE
    line = becomes(runs, run_id, CRASHED)
    assert runs.get(run_id).run_count == 2
    assert line.verdict == ACCEPT


def test_a_run_that_was_to_stop_and_falls_silent_has_stopped(stubs: Stubs, runs: Runs) -> None:
    run_id = started(stubs, runs)
    move(runs, run_id, CANCELLING)
    heard(stubs, runs, run_id)
    line = becomes(runs, run_id, CANCELLED)
    assert (line.rule, line.reason) == ("heartbeat_lost", "HEARTBEAT_LOST")


def test_a_paused_run_does_not_die_but_when_it_goes_on(stubs: Stubs) -> None:
    runs = FlowRuns(stubs)
    paused = started(stubs, runs)
    move(runs, paused, PAUSED)
    becomes(runs, started(stubs, runs), CRASHED)
    assert runs.get(paused).state.type == PAUSED
    # Nobody has sent a heartbeat since; someone else says that it goes on.
    move(runs, paused, RUNNING)
    assert becomes(runs, paused, CRASHED).reason == "HEARTBEAT_LOST"
    # It had all of its timeout to be heard of again.
    running, crashed = (line.state.timestamp.ToMicroseconds() for line in runs.history(paused)[-2:])
    assert crashed - running >= SOON * 1_000_000


def test_a_subflow_that_dies_takes_its_tracker_along(stubs: Stubs) -> None:
    flow_runs, task_runs = FlowRuns(stubs), TaskRuns(stubs)
    parent = make_flow_run(stubs, state={"type": RUNNING})
    tracker = make_task_run(stubs, flow_run_id=parent.id)
    subflow = started(stubs, flow_runs, parent_task_run_id=tracker.id)
    becomes(flow_runs, subflow, CRASHED)
    assert task_runs.get(tracker.id).state.type == CRASHED


# --- what lasts too long --------------------------------------------------------------------------


def test_a_pause_ends_in_failure_when_its_time_is_over(stubs: Stubs) -> None:
    runs, run = FlowRuns(stubs), make_flow_run(stubs, state={"type": RUNNING})
    for_ever = make_flow_run(stubs, state={"type": RUNNING})
    over = soon(SOON)
    runs.propose(proposal(run.id, PAUSED, details={"pause_timeout": over}))
    move(runs, for_ever.id, PAUSED)
    line = becomes(runs, run.id, FAILED)
    assert (line.reason, line.proposed_by) == ("PAUSE_EXPIRED", "interlock")
    assert line.decide_time.ToMicroseconds() >= over.ToMicroseconds()
    assert runs.get(for_ever.id).state.type == PAUSED


def test_a_run_that_nobody_takes_becomes_late(stubs: Stubs) -> None:
    runs, due = FlowRuns(stubs), soon(0.1)
    details = {"scheduled_time": due}
    run = make_flow_run(stubs, state={"type": SCHEDULED, "details": details})
    taken = make_flow_run(stubs, state={"type": SCHEDULED, "details": details})
    move(runs, taken.id, PENDING)
    line = becomes(runs, run.id, SCHEDULED, "Late")
    assert (line.verdict, line.rule, line.reason) == (ACCEPT, "mark_late", "LATE")
    late = runs.get(run.id)
    assert late.state.details.scheduled_time == late.next_scheduled_start_time == due
    assert late.state.timestamp.ToMicroseconds() >= due.ToMicroseconds() + 200_000
    assert runs.get(taken.id).state.type == PENDING


def test_what_does_not_stop_counts_as_stopped_after_a_while(stubs: Stubs) -> None:
    runs, run = FlowRuns(stubs), make_flow_run(stubs, state={"type": RUNNING})
    move(runs, run.id, CANCELLING)
    told = runs.get(run.id).state.timestamp
    line = becomes(runs, run.id, CANCELLED)
    assert (line.verdict, line.reason) == (ACCEPT, "CANCELLING_TIMEOUT")
    assert line.decide_time.ToMicroseconds() >= told.ToMicroseconds() + 1_500_000


# --- what is part of a cancelled flow run ---------------------------------------------------------


def test_task_runs_are_cancelled_with_their_flow_run(stubs: Stubs) -> None:
    flow_runs, task_runs = FlowRuns(stubs), TaskRuns(stubs)
    parent = make_flow_run(stubs, state={"type": RUNNING})
    other = make_task_run(stubs, state={"type": RUNNING})
    live = [
        make_task_run(stubs, flow_run_id=parent.id, state={"type": type_})
        for type_ in (PENDING, RUNNING, PAUSED, CANCELLING, SCHEDULED)
    ]
    done = make_task_run(stubs, flow_run_id=parent.id, state={"type": COMPLETED})
    move(flow_runs, parent.id, CANCELLED)
    for run in live:
        line = becomes(task_runs, run.id, CANCELLED)
        assert line.rule == "cancelled_with_its_flow_run"
        assert (line.reason, line.proposed_by) == ("FLOW_RUN_CANCELLED", "interlock")
    assert task_runs.get(done.id).state.type == COMPLETED
    assert task_runs.get(other.id).state.type == RUNNING


def test_more_task_runs_than_one_step_cancels_are_all_cancelled(stubs: Stubs) -> None:
    flow_runs = FlowRuns(stubs)
    parent = make_flow_run(stubs, state={"type": RUNNING})
    requests = [TaskRuns(stubs).creation(flow_run_id=parent.id) for _ in range(450)]
    stubs.task_runs.BatchCreateTaskRuns(task_run_pb2.BatchCreateTaskRunsRequest(requests=requests))
    move(flow_runs, parent.id, CANCELLED)

    def left() -> int:
        return TaskRuns(stubs).count(flow_run_ids=[parent.id], state_types=[PENDING])

    until(lambda: left() == 0)


def test_subflows_are_cancelled_with_their_flow_run_and_theirs_with_them(stubs: Stubs) -> None:
    flow_runs, task_runs = FlowRuns(stubs), TaskRuns(stubs)
    outer = make_flow_run(stubs, state={"type": RUNNING})
    tracker = make_task_run(stubs, flow_run_id=outer.id, state={"type": RUNNING})
    inner = make_flow_run(stubs, parent_task_run_id=tracker.id, state={"type": RUNNING})
    innermost = make_task_run(stubs, flow_run_id=inner.id, state={"type": RUNNING})
    move(flow_runs, outer.id, CANCELLED)
    assert becomes(flow_runs, inner.id, CANCELLED).reason == "FLOW_RUN_CANCELLED"
    assert becomes(task_runs, tracker.id, CANCELLED).reason == "SUBFLOW_MOVED"
    assert becomes(task_runs, innermost.id, CANCELLED).reason == "FLOW_RUN_CANCELLED"


def test_subflows_of_a_deployment_are_told_to_stop(stubs: Stubs) -> None:
    flow_runs, task_runs = FlowRuns(stubs), TaskRuns(stubs)
    outer = make_flow_run(stubs, state={"type": RUNNING})
    tracker = make_task_run(stubs, flow_run_id=outer.id, state={"type": RUNNING})
    inner = make_flow_run(
        stubs,
        outer.flow_id,
        parent_task_run_id=tracker.id,
        deployment_id=make_deployment(stubs, outer.flow_id).id,
        state={"type": RUNNING},
    )
    move(flow_runs, outer.id, CANCELLED)
    # It has a process of its own, of which nobody says that it has stopped.
    until(lambda: len(flow_runs.history(inner.id)) == 3)
    told, stopped = flow_runs.history(inner.id)[1:]
    assert (told.state.type, told.reason) == (CANCELLING, "FLOW_RUN_CANCELLED")
    assert (stopped.state.type, stopped.reason) == (CANCELLED, "CANCELLING_TIMEOUT")
    assert becomes(task_runs, tracker.id, CANCELLED).reason == "SUBFLOW_MOVED"


def test_a_cancelled_run_that_starts_again_keeps_its_new_task_runs(stubs: Stubs) -> None:
    flow_runs, task_runs = FlowRuns(stubs), TaskRuns(stubs)
    parent = make_flow_run(stubs, state={"type": RUNNING})
    first = make_task_run(stubs, flow_run_id=parent.id, state={"type": RUNNING})
    move(flow_runs, parent.id, CANCELLED)
    becomes(task_runs, first.id, CANCELLED)
    move(flow_runs, parent.id, RUNNING)
    second = make_task_run(stubs, flow_run_id=parent.id, state={"type": RUNNING})
    third = make_flow_run(stubs, state={"type": RUNNING})
    part = make_task_run(stubs, flow_run_id=third.id)
    move(flow_runs, third.id, CANCELLED)
    becomes(task_runs, part.id, CANCELLED)
    assert task_runs.get(second.id).state.type == RUNNING
