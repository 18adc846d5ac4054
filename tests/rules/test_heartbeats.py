"""What a heartbeat is answered, and what becomes of a run that nothing is heard of any more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock_server.rules.frame import Verdict
from interlock_server.rules.heartbeats import (
    Advice,
    advice,
    crash,
    flow_run_lost,
    is_carried,
    task_run_lost,
)
from interlock_server.rules.runs import ParentFlowRun, Progress, RetryPolicy, RetryType
from interlock_server.rules.states import TERMINAL, StateType

from tests.rules.transitions import NOW, SECOND, state, transition

RUNNING, PAUSED = StateType.RUNNING, StateType.PAUSED
CANCELLING, CANCELLED = StateType.CANCELLING, StateType.CANCELLED
SILENCE = 31 * SECOND
types = st.sampled_from(StateType)
LOST = [flow_run_lost, task_run_lost]


@pytest.mark.parametrize(
    ("type_", "attempt", "told"),
    [
        (RUNNING, 2, Advice.CONTINUE),
        (RUNNING, 1, Advice.SUPERSEDED),
        (RUNNING, 3, Advice.SUPERSEDED),
        (CANCELLING, 2, Advice.CANCEL),
        (CANCELLING, 1, Advice.SUPERSEDED),
        (PAUSED, 2, Advice.PAUSED),
        (StateType.SCHEDULED, 2, Advice.NOT_RUNNING),
        (StateType.SCHEDULED, 1, Advice.SUPERSEDED),
        (StateType.PENDING, 2, Advice.NOT_RUNNING),
        (StateType.COMPLETED, 2, Advice.FINISHED),
        (StateType.CRASHED, 1, Advice.FINISHED),
    ],
)
def test_advice_by_state_and_attempt(type_: StateType, attempt: int, told: Advice) -> None:
    assert advice(state(type_), 2, attempt, None) is told


def test_a_suspended_run_has_no_process_behind_it() -> None:
    suspended = state(PAUSED, "Suspended", pause_reschedule=True)
    assert not is_carried(suspended)
    assert advice(suspended, 1, 1, None) is Advice.NOT_RUNNING


def test_a_run_without_a_state_does_not_run() -> None:
    assert advice(None, 0, 1, None) is Advice.NOT_RUNNING


@given(types)
def test_a_task_stops_when_its_flow_run_does(type_: StateType) -> None:
    told = advice(state(RUNNING), 1, 1, ParentFlowRun(state(type_), 1))
    assert told is (Advice.CANCEL if type_ in (CANCELLING, CANCELLED) else Advice.CONTINUE)


@given(types, st.integers(0, 3), st.integers(1, 3))
def test_what_has_ended_is_finished_and_is_not_watched(
    type_: StateType, run_count: int, attempt: int
) -> None:
    told = advice(state(type_), run_count, attempt, None)
    assert (told is Advice.FINISHED) == (type_ in TERMINAL)
    assert not (type_ in TERMINAL and is_carried(state(type_)))


@pytest.mark.parametrize("lost", LOST)
def test_a_silent_run_crashes_and_says_when_it_was_heard_of(lost: type) -> None:
    progress = Progress(run_count=1, retry_type=RetryType.IN_PROCESS)
    decision = lost(transition(RUNNING, crash(SILENCE), progress=progress), SILENCE)
    assert decision.verdict is Verdict.ACCEPT
    assert decision.write is not None
    assert decision.write.type is StateType.CRASHED
    assert "31.0 s ago" in decision.write.message
    assert (decision.rule, decision.reason) == ("heartbeat_lost", "HEARTBEAT_LOST")


@pytest.mark.parametrize("lost", LOST)
def test_what_was_to_stop_has_stopped(lost: type) -> None:
    always = RetryPolicy(5, retry_crashes=True)
    decision = lost(transition(CANCELLING, crash(SILENCE), retry=always), SILENCE)
    assert decision.verdict is Verdict.REJECT
    assert decision.write is not None
    assert (decision.write.type, decision.write.name) == (CANCELLED, "Cancelled")


@pytest.mark.parametrize("lost", LOST)
@given(st.integers(1, 4), st.integers(0, 4), st.booleans())
def test_a_crash_is_tried_again_while_the_policy_has_retries_for_it(
    lost: type, run_count: int, retries: int, retry_crashes: bool
) -> None:
    policy = RetryPolicy(retries, (7 * SECOND,), retry_crashes=retry_crashes)
    progress = Progress(run_count=run_count)
    asked = transition(RUNNING, crash(SILENCE), progress=progress, retry=policy)
    decision = lost(asked, SILENCE)
    assert decision.write is not None
    again = retry_crashes and run_count <= retries
    assert (decision.verdict is Verdict.REJECT) == again
    assert (decision.write.name == "AwaitingRetry") == again
    if again:
        assert decision.write.details.scheduled_time == NOW + 7 * SECOND


def test_a_flow_run_is_taken_by_whoever_comes_next_afresh() -> None:
    progress = Progress(run_count=1, resuming=True, pause_keys=("a",))
    policy = RetryPolicy(1, retry_crashes=True)
    asked = transition(RUNNING, crash(SILENCE), progress=progress, retry=policy)
    after = flow_run_lost(asked, SILENCE).progress
    assert after.retry_type is RetryType.RESCHEDULE
    assert not after.resuming
    assert after.pause_keys == ()
