"""Each test names the rule that it is about (RULES.md, section 4)."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock_server.rules.frame import Verdict
from interlock_server.rules.runs import ParentFlowRun, Progress, RetryPolicy
from interlock_server.rules.states import TERMINAL, StateType
from interlock_server.rules.task_runs import MINIMAL_TASK_RUN_POLICY, TASK_RUN_POLICY, jittered

from tests.rules.transitions import KEPT, NOW, SECOND, draft, state, transition

S = StateType
DELAYS = RetryPolicy(5, (10 * SECOND, 20 * SECOND, 40 * SECOND))


@pytest.mark.parametrize("ended", sorted(TERMINAL))
@pytest.mark.parametrize("to", [S.PAUSED, S.CANCELLING, S.CRASHED])
def test_finished_stays_finished(ended: StateType, to: StateType) -> None:
    decision = TASK_RUN_POLICY.decide(transition(ended, to))
    assert (decision.verdict, decision.reason) == (Verdict.ABORT, "RUN_FINISHED")


@pytest.mark.parametrize("to", sorted(set(S) - {S.PAUSED, S.CANCELLING, S.CRASHED}))
def test_a_kept_result_is_kept_from_every_state(to: StateType) -> None:
    decision = TASK_RUN_POLICY.decide(transition(S.COMPLETED, to, result=True))
    assert (decision.verdict, decision.reason) == (Verdict.REJECT, "RESULT_PERSISTED")


def test_a_run_that_starts_again_counts_anew_and_bears_no_mark_of_it() -> None:
    decision = TASK_RUN_POLICY.decide(
        transition(S.FAILED, S.RUNNING, progress=Progress(run_count=3))
    )
    assert decision.progress.run_count == 0
    assert decision.write is not None
    assert decision.write.name == "Running"


def test_a_run_that_starts_again_with_its_flow_runs_new_attempt_is_retrying() -> None:
    parent = ParentFlowRun(state(S.RUNNING), run_count=2)
    again = transition(
        S.FAILED, S.RUNNING, progress=Progress(run_count=1, flow_run_run_count=1), parent=parent
    )
    decision = TASK_RUN_POLICY.decide(again)
    assert decision.write is not None
    assert decision.write.name == "Retrying"
    assert decision.progress.flow_run_run_count == 2


@pytest.mark.parametrize(("run_count", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 40), (5, 40)])
def test_the_last_delay_repeats(run_count: int, seconds: int) -> None:
    decision = TASK_RUN_POLICY.decide(
        transition(S.RUNNING, S.FAILED, retry=DELAYS, progress=Progress(run_count=run_count))
    )
    assert (decision.verdict, decision.rule) == (Verdict.REJECT, "retry")
    assert decision.write is not None
    assert decision.write.name == "AwaitingRetry"
    assert decision.write.details.scheduled_time == NOW + seconds * SECOND


def test_a_failure_stands_when_retries_are_spent_or_not_wanted() -> None:
    spent = transition(S.RUNNING, S.FAILED, retry=DELAYS, progress=Progress(run_count=6))
    assert TASK_RUN_POLICY.decide(spent).verdict is Verdict.ACCEPT
    unwanted = transition(
        S.RUNNING,
        draft(S.FAILED, retriable=False),
        retry=DELAYS,
        progress=Progress(run_count=1),
    )
    assert TASK_RUN_POLICY.decide(unwanted).verdict is Verdict.ACCEPT


def test_a_running_that_is_not_the_first_says_so_by_its_name() -> None:
    ran = Progress(run_count=1)
    for current, name in (
        (state(S.SCHEDULED, "AwaitingRetry"), "Retrying"),
        (state(S.RUNNING), "Rerunning"),
        (state(S.PENDING), "Rerunning"),
    ):
        proposed = transition(current, draft(S.RUNNING, "Mine"), progress=ran)
        written = TASK_RUN_POLICY.decide(proposed).write
        assert written is not None
        assert written.name == name
    first = TASK_RUN_POLICY.decide(transition(S.PENDING, draft(S.RUNNING, "Mine"))).write
    assert first is not None
    assert first.name == "Mine"


def test_a_run_does_not_start_before_its_time() -> None:
    current = state(S.SCHEDULED, "AwaitingRetry", scheduled_time=NOW + 30 * SECOND)
    decision = TASK_RUN_POLICY.decide(transition(current, S.RUNNING, progress=Progress(1)))
    assert (decision.verdict, decision.delay) == (Verdict.WAIT, 30 * SECOND)


def test_force_asks_nothing() -> None:
    forced = MINIMAL_TASK_RUN_POLICY.decide(transition(S.COMPLETED, S.CRASHED, result=True))
    assert forced.verdict is Verdict.ACCEPT


@given(
    delay=st.integers(1, 10**12),
    factor=st.floats(0, 10),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_jitter_stays_within_its_bounds(delay: int, factor: float, draw: float) -> None:
    assert 0 <= jittered(delay, factor, draw) <= delay * (1 + factor) + 1


@pytest.mark.parametrize("factor", [0.1, 0.3, 1.0, 5.0])
def test_the_mean_of_jittered_delays_is_the_delay(factor: float) -> None:
    draws = random.Random(4)
    delays = [jittered(60 * SECOND, factor, draws.random()) for _ in range(20_000)]
    assert mean(delays) == pytest.approx(60 * SECOND, rel=0.03)
    assert max(delays) - min(delays) > 60 * SECOND * factor / 2


def test_a_result_that_the_cache_holds_is_not_computed_again() -> None:
    found = replace(state(S.COMPLETED, cache_key="k"), message="42", result=KEPT)
    decision = TASK_RUN_POLICY.decide(transition(S.PENDING, S.RUNNING, cached=found))
    assert (decision.verdict, decision.rule) == (Verdict.REJECT, "cached")
    assert decision.reason == "CACHED"
    written = decision.write
    assert written is not None
    assert (written.type, written.name) == (S.COMPLETED, "Cached")
    assert (written.message, written.result) == ("42", KEPT)
    assert written.details.cache_key == "k"
    assert not decision.remember_result


def test_a_result_is_remembered_if_it_has_a_key_and_the_completion_stands() -> None:
    keyed = draft(S.COMPLETED, cache_key="k")
    assert TASK_RUN_POLICY.decide(transition(S.RUNNING, keyed)).remember_result
    assert not TASK_RUN_POLICY.decide(transition(S.RUNNING, S.COMPLETED)).remember_result
    kept = TASK_RUN_POLICY.decide(transition(S.COMPLETED, keyed, result=True))
    assert (kept.verdict, kept.remember_result) == (Verdict.REJECT, False)


def test_a_task_run_waits_with_its_paused_flow_run() -> None:
    paused = state(S.PAUSED, pause_timeout=NOW + SECOND, pause_reschedule=True)
    parent = ParentFlowRun(paused, run_count=1)
    decision = TASK_RUN_POLICY.decide(transition(S.PENDING, S.RUNNING, parent=parent))
    assert (decision.verdict, decision.reason) == (Verdict.REJECT, "FLOW_PAUSED")
    written = decision.write
    assert written is not None
    assert (written.type, written.name) == (S.PAUSED, "NotReady")
    assert written.details.pause_timeout == NOW + SECOND
    assert written.details.pause_reschedule


@pytest.mark.parametrize("flow", [None, *sorted(set(S) - {S.RUNNING, S.PAUSED})])
def test_a_task_run_does_not_run_without_its_flow_run(flow: StateType | None) -> None:
    parent = ParentFlowRun(state(flow) if flow else None, run_count=0)
    decision = TASK_RUN_POLICY.decide(transition(S.PENDING, S.RUNNING, parent=parent))
    assert (decision.verdict, decision.reason) == (Verdict.ABORT, "FLOW_NOT_RUNNING")
    forced = MINIMAL_TASK_RUN_POLICY.decide(transition(S.PENDING, S.RUNNING, parent=parent))
    assert forced.verdict is Verdict.ACCEPT
