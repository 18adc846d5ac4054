"""Each row names the rule that it is about (RULES.md, section 3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from interlock_server.rules.effects import entered
from interlock_server.rules.flow_runs import (
    FLOW_RUN_POLICY,
    LATE_FLOW_RUN_POLICY,
    MINIMAL_FLOW_RUN_POLICY,
    RESUME_FLOW_RUN_POLICY,
    resumed,
)
from interlock_server.rules.frame import Transition, Verdict
from interlock_server.rules.runs import Progress, RetryPolicy, RetryType
from interlock_server.rules.states import TERMINAL, StateType

from tests.rules.transitions import KEPT, NOW, SECOND, draft, state, transition

S = StateType
RETRIES = RetryPolicy(2, (30 * SECOND,))
LATE = draft(S.SCHEDULED, "Late")
SUSPEND = draft(S.PAUSED, "Suspended", pause_reschedule=True)

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
    *[
        ("cancelling_ends_in_cancelled", transition(S.CANCELLING, to), Verdict.REJECT, "CANCELLING")
        for to in S
        if to is not S.CANCELLED
    ],
    *[
        ("nothing_to_cancel", transition(current, S.CANCELLING), Verdict.REJECT, "NOTHING_RUNNING")
        for current in (state(S.SCHEDULED), state(S.PAUSED, pause_reschedule=True))
    ],
    (
        "nothing_to_cancel",
        transition(state(S.SCHEDULED, "Resuming"), S.CANCELLING, has_infrastructure=True),
        Verdict.REJECT,
        "NOTHING_RUNNING",
    ),
    *[
        ("one_worker_takes_a_run", transition(current, to), Verdict.ABORT, "ALREADY_TAKEN")
        for current, to in (
            (state(S.PENDING), draft(S.PENDING)),
            (state(S.PENDING, "Submitting"), draft(S.PENDING)),
            (state(S.PENDING, "Submitting"), draft(S.PENDING, "Submitting")),
            (state(S.RUNNING), draft(S.PENDING, "Submitting")),
            (state(S.CANCELLED), draft(S.PENDING)),
        )
    ],
    *[
        ("only_what_is_scheduled_is_late", transition(current, LATE), Verdict.REJECT, reason)
        for current, reason in (
            (state(S.PENDING), "NOT_SCHEDULED"),
            (state(S.RUNNING), "NOT_SCHEDULED"),
            (state(S.SCHEDULED, "Late"), "ALREADY_LATE"),
        )
    ],
    ("pausing", transition(None, S.PAUSED), Verdict.ABORT, "NO_STATE"),
    *[
        ("pausing", transition(current, S.PAUSED), Verdict.REJECT, "NOT_RUNNING")
        for current in (S.SCHEDULED, S.PENDING, S.PAUSED)
    ],
    (
        "pausing",
        transition(
            S.RUNNING, draft(S.PAUSED, pause_key="gate"), progress=Progress(pause_keys=("gate",))
        ),
        Verdict.REJECT,
        "PAUSE_FIRED",
    ),
    (
        "pausing",
        transition(S.RUNNING, SUSPEND, is_subflow=True, has_deployment=True),
        Verdict.ABORT,
        "SUBFLOW",
    ),
    ("pausing", transition(S.RUNNING, SUSPEND), Verdict.ABORT, "NO_DEPLOYMENT"),
    ("resuming", transition(S.PAUSED, S.PENDING), Verdict.REJECT, "NOT_RESUMABLE"),
    (
        "resuming",
        transition(state(S.PAUSED, pause_reschedule=True), S.RUNNING),
        Verdict.REJECT,
        "NO_DEPLOYMENT",
    ),
    *[
        (
            "resuming",
            transition(state(S.PAUSED, pause_timeout=NOW - 1), to),
            Verdict.REJECT,
            "PAUSE_EXPIRED",
        )
        for to in (S.RUNNING, S.SCHEDULED, S.COMPLETED)
    ],
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
    transition(S.CANCELLING, S.CANCELLED),
    transition(S.RUNNING, S.CANCELLING),
    transition(S.PAUSED, S.CANCELLING),
    # Someone has to stop what carries it.
    transition(S.SCHEDULED, S.CANCELLING, has_infrastructure=True),
    transition(S.PENDING, draft(S.PENDING, "Submitting")),
    transition(state(S.PENDING, "Submitting"), draft(S.PENDING, "InfrastructurePending")),
    transition(S.COMPLETED, S.PENDING),
    transition(S.SCHEDULED, LATE),
    transition(S.RUNNING, S.PAUSED),
    transition(S.RUNNING, SUSPEND, has_deployment=True),
    transition(S.PAUSED, S.RUNNING),
    transition(state(S.PAUSED, pause_timeout=NOW + 1), S.RUNNING),
    transition(state(S.PAUSED, pause_timeout=NOW - 1), S.CANCELLING),
    transition(state(S.PAUSED, pause_reschedule=True), S.SCHEDULED, has_deployment=True),
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


def test_force_passes_all_rules_but_the_persisted_result_and_that_nothing_runs() -> None:
    for rule, proposed, _, _ in ROWS:
        keeps = rule == "keep_the_result" and proposed.proposed.type is S.COMPLETED
        expected = Verdict.REJECT if keeps or rule == "nothing_to_cancel" else Verdict.ACCEPT
        assert MINIMAL_FLOW_RUN_POLICY.decide(proposed).verdict is expected


def test_what_was_not_running_is_cancelled_with_the_cancellers_words() -> None:
    asked = replace(draft(S.CANCELLING), message="not needed any more")
    written = FLOW_RUN_POLICY.decide(transition(S.SCHEDULED, asked)).write
    assert written == replace(draft(S.CANCELLED), message="not needed any more")


def test_who_has_taken_a_run_keeps_its_time_as_it_tells_how_far_it_is() -> None:
    taken = state(S.PENDING, "Submitting", scheduled_time=NOW + SECOND)
    moved = FLOW_RUN_POLICY.decide(transition(taken, draft(S.PENDING, "InfrastructurePending")))
    assert moved.write is not None
    assert moved.write.details.scheduled_time == NOW + SECOND


def test_a_pause_remembers_its_key_and_a_resume_counts_as_no_new_run() -> None:
    running = Progress(run_count=1, pause_keys=("first",))
    gate = draft(S.PAUSED, pause_key="gate")
    paused = FLOW_RUN_POLICY.decide(transition(S.RUNNING, gate, progress=running)).progress
    assert paused.pause_keys == ("first", "gate")
    resumed = FLOW_RUN_POLICY.decide(transition(S.PAUSED, S.RUNNING, progress=paused))
    assert resumed.progress.resuming
    assert resumed.write is not None
    after = entered(resumed.progress, state(S.PAUSED), resumed.write, NOW)
    assert (after.run_count, after.resuming) == (1, False)


def test_a_refused_resume_leaves_no_trace() -> None:
    before = Progress(run_count=1)
    for current, to in (
        (state(S.PAUSED), S.PENDING),
        (state(S.PAUSED, pause_reschedule=True), S.RUNNING),
    ):
        decision = FLOW_RUN_POLICY.decide(transition(current, to, progress=before))
        assert (decision.write, decision.progress) == (None, before)


def test_a_pause_that_is_over_ends_in_failure() -> None:
    over = transition(state(S.PAUSED, pause_timeout=NOW - 1), S.RUNNING)
    written = FLOW_RUN_POLICY.decide(over).write
    assert written is not None
    assert (written.type, written.name) == (S.FAILED, "Failed")
    assert written.message


def test_late_runs_are_marked_whatever_else_is_so() -> None:
    late = LATE_FLOW_RUN_POLICY.decide(transition(S.SCHEDULED, LATE))
    assert late.verdict is Verdict.ACCEPT
    again = LATE_FLOW_RUN_POLICY.decide(transition(state(S.SCHEDULED, "Late"), LATE))
    assert (again.verdict, again.reason, again.write) == (Verdict.REJECT, "ALREADY_LATE", None)


T, R, W, A = Verdict.ACCEPT, Verdict.REJECT, Verdict.WAIT, Verdict.ABORT
GLANCE = {
    # To SCHEDULED, PENDING, RUNNING, PAUSED, CANCELLING, CANCELLED, COMPLETED, FAILED, CRASHED:
    None: (T, T, T, A, T, T, T, T, T),
    S.SCHEDULED: (T, T, T, R, R, T, T, T, T),
    S.PENDING: (T, A, T, R, T, T, T, T, T),
    S.RUNNING: (T, A, T, T, T, T, T, T, T),
    S.PAUSED: (T, R, T, R, T, T, T, T, T),
    S.CANCELLING: (R, R, R, R, R, T, R, R, R),
    S.CANCELLED: (A, A, T, A, A, T, T, T, A),
    S.COMPLETED: (A, T, T, A, A, T, T, T, A),
    S.FAILED: (A, T, T, A, A, T, T, T, A),
    S.CRASHED: (A, T, T, A, A, T, T, T, A),
}


@pytest.mark.parametrize("from_type", [None, *S])
def test_the_types_at_a_glance(from_type: StateType | None) -> None:
    found = [FLOW_RUN_POLICY.decide(transition(from_type, to)).verdict for to in S]
    assert tuple(found) == GLANCE[from_type]


@pytest.mark.parametrize("current", [None, *sorted(set(StateType) - {S.PAUSED})])
def test_only_what_is_paused_resumes(current: StateType | None) -> None:
    for to in (S.RUNNING, S.SCHEDULED):
        decision = RESUME_FLOW_RUN_POLICY.decide(transition(current, to))
        assert (decision.verdict, decision.reason) == (Verdict.ABORT, "NOT_PAUSED")
        assert decision.rule == "only_what_is_paused_resumes"


def test_a_resume_of_what_is_paused_is_decided_by_the_rules_for_all() -> None:
    over = state(S.PAUSED, pause_timeout=NOW - SECOND)
    for current in (state(S.PAUSED), over):
        asked = transition(current, S.RUNNING)
        assert RESUME_FLOW_RUN_POLICY.decide(asked) == FLOW_RUN_POLICY.decide(asked)


def test_a_suspended_run_goes_on_by_being_scheduled_for_now() -> None:
    blocking, suspended = state(S.PAUSED), state(S.PAUSED, "Suspended", pause_reschedule=True)
    assert resumed(blocking, NOW) == draft(S.RUNNING)
    assert resumed(None, NOW) == draft(S.RUNNING)
    assert resumed(suspended, NOW) == draft(S.SCHEDULED, "Resuming", scheduled_time=NOW)
