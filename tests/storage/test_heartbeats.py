"""Heartbeats: what each of them is answered, by the state that its run is in."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from interlock.ids import uuid7
from interlock.v1 import run_heartbeat_pb2 as pb

from tests.support.heartbeats import beat, beats
from tests.support.runs import (
    ACCEPT,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    FAILED,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    FlowRuns,
    Runs,
    make_flow_run,
    make_task_run,
    proposal,
)
from tests.support.stubs import Stubs

CONTINUE = pb.HEARTBEAT_ADVICE_CONTINUE
STAY_PAUSED = pb.HEARTBEAT_ADVICE_PAUSED
CANCEL = pb.HEARTBEAT_ADVICE_CANCEL
SUPERSEDED = pb.HEARTBEAT_ADVICE_SUPERSEDED
FINISHED = pb.HEARTBEAT_ADVICE_FINISHED
NOT_RUNNING = pb.HEARTBEAT_ADVICE_NOT_RUNNING


def move(runs: Runs, run_id: str, *states: Any) -> None:
    for state in states:
        assert runs.propose(proposal(run_id, state)).verdict == ACCEPT


def heard(stubs: Stubs, runs: Runs, run_id: str, attempt: int = 1) -> pb.HeartbeatAnswer:
    (outcome,) = beats(stubs, beat(runs.kind, run_id, attempt))
    assert outcome.HasField("answer"), outcome
    return outcome.answer


def test_a_running_run_goes_on_and_counts_as_alive_for_its_timeout(
    stubs: Stubs, runs: Runs
) -> None:
    run = runs.make()
    move(runs, run.id, RUNNING)
    (outcome,) = beats(stubs, beat(runs.kind, run.id, 1, timeout=60))
    answer = outcome.answer
    assert answer.advice == CONTINUE
    assert (answer.state_type, answer.state_name, answer.run_count) == (RUNNING, "Running", 1)
    since = runs.get(run.id).state.timestamp
    assert 60 <= answer.deadline_time.ToSeconds() - since.ToSeconds() < 90


def test_a_heartbeat_changes_nothing_of_its_run(stubs: Stubs, runs: Runs) -> None:
    run = runs.make()
    move(runs, run.id, RUNNING)
    before, history = runs.get(run.id), runs.history(run.id)
    heard(stubs, runs, run.id)
    after = runs.get(run.id)
    before.ClearField("estimated_run_time")
    after.ClearField("estimated_run_time")
    assert after == before
    assert runs.history(run.id) == history


@pytest.mark.parametrize("state", [SCHEDULED, PENDING])
def test_what_does_not_run_is_not_watched(stubs: Stubs, runs: Runs, state: Any) -> None:
    run = runs.make(state={"type": state})
    answer = heard(stubs, runs, run.id)
    assert answer.advice == NOT_RUNNING
    assert not answer.HasField("deadline_time")


@pytest.mark.parametrize("state", [COMPLETED, FAILED, CANCELLED])
def test_what_has_ended_stays_so(stubs: Stubs, runs: Runs, state: Any) -> None:
    run = runs.make()
    move(runs, run.id, RUNNING)
    heard(stubs, runs, run.id)
    move(runs, run.id, state)
    before, history = runs.get(run.id), runs.history(run.id)
    for attempt in (1, 2):
        answer = heard(stubs, runs, run.id, attempt)
        assert answer.advice == FINISHED
        assert answer.state_type == state
        assert not answer.HasField("deadline_time")
    assert runs.get(run.id) == before
    assert runs.history(run.id) == history


def test_an_old_attempt_is_superseded_by_a_newer_one(stubs: Stubs, runs: Runs) -> None:
    run = runs.make()
    move(runs, run.id, RUNNING, RUNNING)
    assert runs.get(run.id).run_count == 2
    answer = heard(stubs, runs, run.id, attempt=1)
    assert answer.advice == SUPERSEDED
    assert not answer.HasField("deadline_time")
    assert heard(stubs, runs, run.id, attempt=2).advice == CONTINUE


def test_who_is_to_stop_is_told(stubs: Stubs, runs: Runs) -> None:
    run = runs.make()
    move(runs, run.id, RUNNING, CANCELLING)
    answer = heard(stubs, runs, run.id)
    assert answer.advice == CANCEL
    assert answer.HasField("deadline_time")


@pytest.mark.parametrize("state", [CANCELLING, CANCELLED])
def test_tasks_are_told_when_their_flow_run_stops(stubs: Stubs, state: Any) -> None:
    flow_run = make_flow_run(stubs)
    flow_runs = FlowRuns(stubs)
    move(flow_runs, flow_run.id, RUNNING)
    task_run = make_task_run(stubs, flow_run_id=flow_run.id, state={"type": RUNNING})
    (outcome,) = beats(stubs, beat("task_run", task_run.id, 1))
    assert outcome.answer.advice == CONTINUE
    move(flow_runs, flow_run.id, state)
    (outcome,) = beats(stubs, beat("task_run", task_run.id, 1))
    assert outcome.answer.advice == CANCEL


def test_a_paused_run_stays_paused_and_is_watched_while_its_process_lives(stubs: Stubs) -> None:
    runs, run = FlowRuns(stubs), make_flow_run(stubs)
    move(runs, run.id, RUNNING, PAUSED)
    answer = heard(stubs, runs, run.id)
    assert answer.advice == STAY_PAUSED
    assert answer.HasField("deadline_time")


def test_each_heartbeat_of_a_batch_is_answered_by_itself(stubs: Stubs) -> None:
    flow_run = make_flow_run(stubs)
    task_run = make_task_run(stubs, state={"type": RUNNING})
    deleted = make_flow_run(stubs)
    FlowRuns(stubs).delete(deleted.id)
    move(FlowRuns(stubs), flow_run.id, RUNNING)
    unknown, gone, first, twice, other = beats(
        stubs,
        beat("task_run", uuid7(), 1),
        beat("flow_run", deleted.id, 1),
        beat("flow_run", flow_run.id, 1, timeout=10),
        beat("flow_run", flow_run.id, 1, timeout=20),
        beat("task_run", task_run.id, 1),
    )
    assert (unknown.error.code, unknown.error.reason) == (5, "TASK_RUN_NOT_FOUND")
    assert (gone.error.code, gone.error.reason) == (5, "DELETED")
    assert gone.error.field == "heartbeats[1]"
    assert {each.answer.advice for each in (first, twice, other)} == {CONTINUE}
    assert first.answer.deadline_time.ToSeconds() < twice.answer.deadline_time.ToSeconds()


def test_a_run_of_one_kind_is_none_of_the_other(stubs: Stubs, runs: Runs) -> None:
    run = runs.make()
    other = "task_run" if runs.kind == "flow_run" else "flow_run"
    (outcome,) = beats(stubs, beat(other, run.id, 1))
    assert outcome.error.reason == f"{other.upper()}_NOT_FOUND"


def test_a_run_that_is_watched_can_be_deleted(stubs: Stubs, runs: Runs) -> None:
    run = runs.make()
    move(runs, run.id, RUNNING)
    heard(stubs, runs, run.id)
    runs.delete(run.id)
    (outcome,) = beats(stubs, beat(runs.kind, run.id, 1))
    assert outcome.error.reason == "DELETED"


def test_the_timeout_is_a_duration_of_any_unit(stubs: Stubs, runs: Runs) -> None:
    run = runs.make()
    move(runs, run.id, RUNNING)
    for timeout in (Duration(nanos=100_000_000), Duration(seconds=86_400)):
        heartbeat = beat(runs.kind, run.id, 1)
        heartbeat.timeout.CopyFrom(timeout)
        (outcome,) = beats(stubs, heartbeat)
        assert outcome.answer.advice == CONTINUE
