"""A resume whose input was checked by the schema of another pause than the run is in by now."""

import pytest
from interlock.ids import uuid7
from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.pauses import CheckedInput, ResumeFlowRun
from interlock_server.core.transitions import Proposal
from interlock_server.rules.frame import Verdict
from interlock_server.rules.runs import FRESH, NEVER
from interlock_server.rules.states import State, StateDetails, StateDraft, StateType
from interlock_server.storage.facts import Facts
from interlock_server.storage.records import RunFacts, RunKind

RUN = uuid7()
WRONG = InvalidArgumentError("input_json", "It is wrong.", reason="INPUT_INVALID")


def facts(schema: str | None, timeout: int = 2_000) -> Facts:
    """What a batch knows of a paused run, at the time 1,000."""
    details = StateDetails(pause_timeout=timeout, input_schema=schema)
    paused = State(uuid7(), StateType.PAUSED, "Paused", 500, details=details)
    known = Facts(1_000)
    known.runs[RunKind.FLOW_RUN][RUN] = RunFacts(RUN, None, b"", 1, NEVER, paused, FRESH)
    known.states[RunKind.FLOW_RUN][paused.id] = paused
    return known


def resume(given: CheckedInput) -> ResumeFlowRun:
    draft = StateDraft(StateType.RUNNING, "Running")
    return ResumeFlowRun(Proposal(uuid7(), RUN, draft, b""), given)


def test_it_is_to_be_checked_again_and_nothing_is_changed() -> None:
    for error in (None, WRONG):
        known = facts("new")
        assert resume(CheckedInput("1", "old", error)).decide(known) is None
        assert known.changes == 0


def test_input_that_is_wrong_changes_nothing() -> None:
    known = facts("same")
    with pytest.raises(InvalidArgumentError):
        resume(CheckedInput("1", "same", WRONG)).decide(known)
    assert known.changes == 0


def test_where_the_run_can_not_go_on_the_input_does_not_matter() -> None:
    known = facts("new", timeout=900)
    answer = resume(CheckedInput("1", "old", WRONG)).decide(known)
    assert answer is not None
    assert (answer.verdict, answer.reason) == (Verdict.REJECT, "PAUSE_EXPIRED")
    assert known.new_flow_run_inputs == {}


def test_input_is_kept_with_the_state_that_it_leads_to() -> None:
    known = facts("same")
    answer = resume(CheckedInput("[1]", "same", None)).decide(known)
    assert answer is not None
    assert answer.verdict is Verdict.ACCEPT
    (given,) = known.new_flow_run_inputs.values()
    assert (given.run_id, given.value) == (RUN, "[1]")
