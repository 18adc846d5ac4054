"""What becomes of states that last too long, and of the parts of a cancelled flow run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock_server.rules.frame import Decision, Verdict
from interlock_server.rules.overdue import Patience, overdue, overdue_since, successor
from interlock_server.rules.states import TERMINAL, State, StateType
from interlock_server.rules.with_their_flow_run import cancelled_with_its_flow_run, stop

from tests.rules.transitions import NOW, SECOND, state, transition

SCHEDULED, PAUSED = StateType.SCHEDULED, StateType.PAUSED
CANCELLING, CANCELLED = StateType.CANCELLING, StateType.CANCELLED
PATIENCE = Patience()
ENTERED = NOW - 10 * SECOND
DUE = NOW - 20 * SECOND
not_terminal = st.sampled_from([type_ for type_ in StateType if type_ not in TERMINAL])


def decided(current: State) -> Decision:
    return overdue(transition(current, successor(current, NOW)))


@pytest.mark.parametrize(
    ("current", "since"),
    [
        (state(SCHEDULED, scheduled_time=DUE), DUE + 15 * SECOND),
        (state(SCHEDULED), ENTERED + 15 * SECOND),
        (state(SCHEDULED, "Late", scheduled_time=DUE), None),
        (state(SCHEDULED, "AwaitingRetry", scheduled_time=DUE), None),
        (state(PAUSED, pause_timeout=DUE), DUE),
        (state(PAUSED), None),
        (state(CANCELLING), ENTERED + 300 * SECOND),
        (state(StateType.PENDING), None),
        (state(StateType.RUNNING), None),
        (state(StateType.COMPLETED), None),
        (None, None),
    ],
)
def test_how_long_a_state_may_last(current: State | None, since: int | None) -> None:
    assert overdue_since(current, PATIENCE) == since


def test_a_late_run_keeps_its_time() -> None:
    decision = decided(state(SCHEDULED, scheduled_time=DUE))
    assert decision.verdict is Verdict.ACCEPT
    assert decision.write is not None
    assert (decision.write.type, decision.write.name) == (SCHEDULED, "Late")
    assert decision.write.details.scheduled_time == DUE
    assert (decision.rule, decision.reason) == ("mark_late", "LATE")
    assert "20 s ago" in decision.explanation


def test_a_run_that_is_late_is_not_marked_again() -> None:
    late = state(SCHEDULED, "Late", scheduled_time=DUE)
    decision = overdue(transition(late, successor(late, NOW)))
    assert (decision.verdict, decision.reason) == (Verdict.REJECT, "ALREADY_LATE")
    assert decision.write is None


def test_a_pause_ends_in_failure() -> None:
    decision = decided(state(PAUSED, pause_timeout=DUE))
    assert decision.write is not None
    assert decision.write.type is StateType.FAILED
    assert (decision.rule, decision.reason) == ("pause_expired", "PAUSE_EXPIRED")


def test_what_does_not_stop_is_cancelled() -> None:
    decision = decided(state(CANCELLING))
    assert decision.write is not None
    assert decision.write.type is CANCELLED
    assert "10 s ago" in decision.write.message
    assert decision.reason == "CANCELLING_TIMEOUT"


def test_what_may_last_for_ever_has_no_successor() -> None:
    with pytest.raises(ValueError, match="Running"):
        successor(state(StateType.RUNNING), NOW)


@given(not_terminal, st.booleans())
def test_a_part_of_a_cancelled_flow_run_is_cancelled_or_told_to_stop(
    type_: StateType, has_deployment: bool
) -> None:
    if has_deployment and type_ is CANCELLING:
        return  # it is told already
    asked = transition(type_, stop(has_deployment), has_deployment=has_deployment)
    decision = cancelled_with_its_flow_run(asked)
    assert decision.write is not None
    assert decision.write.type in ({CANCELLED, CANCELLING} if has_deployment else {CANCELLED})
    if decision.verdict is Verdict.ACCEPT:
        assert decision.reason == "FLOW_RUN_CANCELLED"
