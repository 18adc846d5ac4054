"""How rules are asked."""

from __future__ import annotations

from dataclasses import replace

from interlock_server.rules.frame import (
    Abort,
    Amend,
    Policy,
    Reject,
    Rule,
    Transition,
    Verdict,
    rule,
)
from interlock_server.rules.runs import Progress
from interlock_server.rules.states import StateType

from tests.rules.transitions import transition

S = StateType


@rule(S, {S.RUNNING})
def rename(asked: Transition) -> Amend:
    return Amend(proposed=replace(asked.proposed, name="Renamed"), progress=Progress(run_count=7))


@rule({S.PENDING}, {S.RUNNING})
def refuse_the_renamed(asked: Transition) -> Abort | None:
    return Abort("RENAMED", "It was renamed.") if asked.proposed.name == "Renamed" else None


def test_a_rule_is_named_by_its_function_and_asked_only_about_its_pairs() -> None:
    assert isinstance(rename, Rule)
    assert rename.name == "rename"
    assert Policy(refuse_the_renamed, rename).decide(transition(S.PENDING, S.FAILED)).rule == ""


def test_rules_are_asked_in_order_and_see_what_those_before_amended() -> None:
    last = Policy(refuse_the_renamed, rename).decide(transition(S.PENDING, S.RUNNING))
    assert last.verdict is Verdict.ACCEPT
    assert last.write is not None
    assert last.write.name == "Renamed"
    first = Policy(rename, refuse_the_renamed).decide(transition(S.PENDING, S.RUNNING))
    assert (first.verdict, first.rule, first.reason) == (
        Verdict.ABORT,
        "refuse_the_renamed",
        "RENAMED",
    )


def test_what_rules_amended_comes_to_nothing_when_the_proposal_is_refused() -> None:
    decision = Policy(rename, refuse_the_renamed).decide(transition(S.PENDING, S.RUNNING))
    assert decision.write is None


def test_a_run_without_a_state_is_asked_about_as_none() -> None:
    everything = rule({None}, {S.PENDING})(lambda _: Abort("NO", "No."))
    assert Policy(everything).decide(transition(None, S.PENDING)).verdict is Verdict.ABORT
    assert Policy(everything).decide(transition(S.FAILED, S.PENDING)).verdict is Verdict.ACCEPT


def test_a_rejection_that_writes_does_not_keep_what_rules_before_it_amended() -> None:
    write = transition(S.PENDING, S.PAUSED).proposed
    pause = rule({S.PENDING}, {S.RUNNING})(lambda _: Reject("PAUSED", "It is paused.", write))
    decision = Policy(rename, pause).decide(transition(S.PENDING, S.RUNNING))
    assert decision.write is write
    assert decision.progress.run_count == 0
