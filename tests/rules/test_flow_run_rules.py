"""Each row names the rule that it is about (RULES.md, section 3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from interlock_server.rules.flow_runs import FLOW_RUN_POLICY, MINIMAL_FLOW_RUN_POLICY
from interlock_server.rules.frame import Transition, Verdict
from interlock_server.rules.runs import Progress, RetryPolicy, RetryType
from interlock_server.rules.states import TERMINAL, StateType

from tests.rules.transitions import KEPT, NOW, SECOND, draft, state, transition

S = StateType
RETRIES = RetryPolicy(2, (30 * SECOND,))

ROWS: list[tuple[str, Transition, Verdict, str]] = [
    *[
        ("finished_stays_finished", transition(ended, to), Verdict.ABORT, "RUN_FINISHED")
        for ended in TERMINAL
        for to in (S.PAUSED, S.CANCELLING, S.CRASHED)
    ],
    (
        "keep_the_result",
        transition(S.COMPLETED, S.RUNNING, result=True),
        Verdict.REJECT,
        "RESULT_PERSISTED",
    ),
    (
        "keep_the_result",
        transition(S.COMPLETED, S.COMPLETED, result=True),
        Verdict.REJECT,
        "RESULT_PERSISTED",
    ),
    ("no_way_to_reschedule", transition(S.FAILED, S.SCHEDULED), Verdict.ABORT, "NO_DEPLOYMENT"),
    (
        "not_before_its_time",
        transition(state(S.SCHEDULED, scheduled_time=NOW + 90 * SECOND), S.RUNNING),
        Verdict.WAIT,
        "NOT_DUE",
    ),
    (
        "not_before_its_time",
        transition(state(S.PENDING, scheduled_time=NOW + 90 * SECOND), S.RUNNING),
        Verdict.WAIT,
        "NOT_DUE",
    ),
    (
        "retry",
        transition(S.RUNNING, S.FAILED, retry=RETRIES, progress=Progress(run_count=1)),
        Verdict.REJECT,
        "RETRYING",
    ),
    (
        "retry",
        transition(S.RUNNING, S.FAILED, retry=RETRIES, progress=Progress(run_count=2)),
        Verdict.REJECT,
        "RETRYING",
    ),
]


@pytest.mark.parametrize(("rule", "proposed", "verdict", "reason"), ROWS)
def test_a_rule_decides_and_says_so(
    rule: str, proposed: Transition, verdict: Verdict, reason: str
) -> None:
    decision = FLOW_RUN_POLICY.decide(proposed)
    assert (decision.verdict, decision.rule, decision.reason) == (verdict, rule, reason)
    assert decision.explanation


ACCEPTED = [
    transition(None, S.PENDING),
    transition(S.PENDING, S.RUNNING),
    transition(S.RUNNING, S.COMPLETED),
    transition(S.RUNNING, S.FAILED),
    transition(S.RUNNING, S.RUNNING),
    transition(S.COMPLETED, S.RUNNING),
    transition(S.FAILED, S.COMPLETED),
    transition(S.FAILED, S.SCHEDULED, has_deployment=True),
    transition(S.COMPLETED, replace(draft(S.COMPLETED), result=KEPT), result=True),
    # Half a second counts as due.
    transition(state(S.SCHEDULED, scheduled_time=NOW + SECOND // 2 - 1), S.RUNNING),
    transition(S.RUNNING, S.FAILED, retry=RETRIES, progress=Progress(run_count=3)),
    # Only what runs is tried again.
    transition(S.PENDING, S.FAILED, retry=RETRIES, progress=Progress(run_count=1)),
]


@pytest.mark.parametrize("proposed", ACCEPTED)
def test_what_no_rule_objects_to_is_accepted(proposed: Transition) -> None:
    decision = FLOW_RUN_POLICY.decide(proposed)
    assert (decision.verdict, decision.rule, decision.reason) == (Verdict.ACCEPT, "", "")
    assert decision.write is not None
    assert decision.write.type is proposed.proposed.type


def test_a_run_keeps_its_time_when_it_is_taken_early() -> None:
    due = NOW + 90 * SECOND
    current = state(S.SCHEDULED, scheduled_time=due)
    taken = FLOW_RUN_POLICY.decide(transition(current, S.PENDING)).write
    assert taken is not None
    assert taken.details.scheduled_time == due
    chosen = draft(S.PENDING, scheduled_time=NOW)
    kept = FLOW_RUN_POLICY.decide(transition(current, chosen)).write
    assert kept is not None
    assert kept.details.scheduled_time == NOW


def test_the_wait_is_rounded_to_the_nearest_second() -> None:
    for ahead, wait in ((1.4, 1), (1.6, 2), (90.2, 90)):
        current = state(S.SCHEDULED, scheduled_time=NOW + round(ahead * SECOND))
        assert FLOW_RUN_POLICY.decide(transition(current, S.RUNNING)).delay == wait * SECOND


def test_a_retry_waits_for_the_delay_with_the_failures_words_and_result() -> None:
    failed = replace(draft(S.FAILED), message="no space left", result=KEPT)
    paused = Progress(run_count=1, resuming=True, pause_keys=("gate",))
    decision = FLOW_RUN_POLICY.decide(transition(S.RUNNING, failed, retry=RETRIES, progress=paused))
    written = decision.write
    assert written is not None
    assert (written.type, written.name) == (S.SCHEDULED, "AwaitingRetry")
    assert (written.message, written.result) == ("no space left", KEPT)
    assert written.details.scheduled_time == NOW + 30 * SECOND
    assert decision.progress.retry_type is RetryType.IN_PROCESS
    assert not decision.progress.resuming
    assert decision.progress.pause_keys == ()


def test_starting_again_by_hand_starts_a_fresh_attempt() -> None:
    before = Progress(run_count=3, pause_keys=("gate",), retry_type=RetryType.IN_PROCESS)
    again = FLOW_RUN_POLICY.decide(transition(S.FAILED, S.RUNNING, progress=before)).progress
    assert (again.pause_keys, again.retry_type, again.run_count) == ((), None, 3)
    scheduled = transition(S.FAILED, S.SCHEDULED, progress=before, has_deployment=True)
    assert FLOW_RUN_POLICY.decide(scheduled).progress.retry_type is RetryType.RESCHEDULE


def test_force_passes_all_rules_but_the_persisted_result() -> None:
    for rule, proposed, _, _ in ROWS:
        keeps = rule == "keep_the_result" and proposed.proposed.type is S.COMPLETED
        expected = Verdict.REJECT if keeps else Verdict.ACCEPT
        assert MINIMAL_FLOW_RUN_POLICY.decide(proposed).verdict is expected
