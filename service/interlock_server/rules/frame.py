"""The frame that carries the rules: what a rule is asked, what it may answer, and the order.

    proposal -> Transition -> rule, rule, rule, ... -> Decision

A rule is a pure function with a name, declared for the pairs of state types that it concerns. It
answers None (no objection), or a ruling. `Amend` changes the proposal or what becomes of the run
and lets the next rule look; `Reject`, `Wait` and `Abort` end the matter, but for a rejection that
leaves the run in a state of the type that was proposed: there the rules that follow may still delay
or abort. What rules amended is applied only if the proposal is accepted in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from interlock_server.rules.runs import NEVER, ParentFlowRun, Progress, RetryPolicy
from interlock_server.rules.states import Micros, State, StateDraft, StateType
from interlock_server.rules.values import value


class Verdict(StrEnum):
    """What was decided about a proposal."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    WAIT = "WAIT"
    ABORT = "ABORT"


@value
@dataclass(frozen=True, slots=True)
class Transition:
    """One proposal and the facts that decide it.

    `draw` is a random number of [0, 1), `now` the database's clock: rules know no other chance and
    no other time.
    """

    current: State | None
    proposed: StateDraft
    progress: Progress
    now: Micros
    retry: RetryPolicy = NEVER
    has_deployment: bool = False
    has_infrastructure: bool = False
    """Flow runs: whether it is known what carries the run, so that it can be stopped there."""
    is_subflow: bool = False
    parent: ParentFlowRun | None = None
    """Task runs: the flow run that it is part of."""
    cached: State | None = None
    """Task runs: the newest COMPLETED state under the proposal's cache key that has not expired."""
    draw: float = 0.0


@value
@dataclass(frozen=True, slots=True)
class Amend:
    """Go on, with another proposal or another progress of the run."""

    proposed: StateDraft | None = None
    progress: Progress | None = None
    remember_result: bool = False
    """Let other task runs find the result under its cache key."""


@value
@dataclass(frozen=True, slots=True)
class Reject:
    """Write `write` instead of what was proposed, or nothing where it is None.

    `progress` is what becomes of the run before the effects of `write`; None: it stays as it was
    before any rule was asked.
    """

    reason: str
    explanation: str
    write: StateDraft | None = None
    progress: Progress | None = None


@value
@dataclass(frozen=True, slots=True)
class Wait:
    """Write nothing; the proposal may come again after `delay` microseconds."""

    reason: str
    explanation: str
    delay: Micros


@value
@dataclass(frozen=True, slots=True)
class Abort:
    """Write nothing; the proposal will never be accepted as things stand."""

    reason: str
    explanation: str


Ruling = Amend | Reject | Wait | Abort
Judge = Callable[[Transition], Ruling | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A judge with its name and the pairs of state types that it is asked about.

    In `from_types`, None stands for a run that has no state yet.
    """

    name: str
    from_types: frozenset[StateType | None]
    to_types: frozenset[StateType]
    judge: Judge


def rule(
    from_types: Iterable[StateType | None], to_types: Iterable[StateType]
) -> Callable[[Judge], Rule]:
    """Make a rule of a judge; the rule's name is the function's."""

    def declare(judge: Judge) -> Rule:
        return Rule(judge.__name__, frozenset(from_types), frozenset(to_types), judge)

    return declare


@value
@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, and by which rule; without a rule where all let the proposal pass.

    `write` is the state to write, None for none; `progress` is the run's progress before the
    effects of that state.
    """

    verdict: Verdict
    progress: Progress
    write: StateDraft | None = None
    rule: str = ""
    reason: str = ""
    explanation: str = ""
    delay: Micros = 0
    remember_result: bool = False


class Policy:
    """Rules in the order in which they are asked."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules
        self._by_pair = {
            (from_type, to_type): tuple(
                rule for rule in rules if from_type in rule.from_types and to_type in rule.to_types
            )
            for from_type in (None, *StateType)
            for to_type in StateType
        }

    def decide(self, transition: Transition) -> Decision:
        """Ask the rules in turn until one ends the matter."""
        current, progress = transition.current, transition.progress
        from_type, to_type = current.type if current else None, transition.proposed.type
        rejected: Decision | None = None
        remember_result = False
        for rule in self._by_pair[from_type, to_type]:
            ruling = rule.judge(transition)
            match ruling:
                case None:
                    continue
                case Amend():
                    transition = replace(
                        transition,
                        proposed=ruling.proposed or transition.proposed,
                        progress=ruling.progress or transition.progress,
                    )
                    remember_result = remember_result or ruling.remember_result
                case Reject(write=None) if from_type is to_type:
                    rejected = rejected or _ended_by(rule, ruling, progress)
                case _:
                    return _ended_by(rule, ruling, progress)
        if rejected is not None:
            return rejected
        return Decision(
            Verdict.ACCEPT,
            transition.progress,
            transition.proposed,
            remember_result=remember_result,
        )


def _ended_by(rule: Rule, ruling: Reject | Wait | Abort, progress: Progress) -> Decision:
    verdict, write, delay = Verdict.ABORT, None, 0
    match ruling:
        case Reject():
            verdict, write = Verdict.REJECT, ruling.write
            progress = ruling.progress or progress
        case Wait():
            verdict, delay = Verdict.WAIT, ruling.delay
    return Decision(verdict, progress, write, rule.name, ruling.reason, ruling.explanation, delay)
