"""Short ways to say what a run is like and what is proposed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from interlock_server.rules.frame import Transition
from interlock_server.rules.runs import FRESH, NEVER, Progress, RetryPolicy
from interlock_server.rules.states import (
    DEFAULT_NAMES,
    NO_DETAILS,
    ResultReference,
    State,
    StateDetails,
    StateDraft,
    StateType,
)

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND
KEPT = ResultReference("results/1")


def draft(type_: StateType, name: str = "", **details: object) -> StateDraft:
    """Make a proposed state."""
    known = StateDetails(**details) if details else NO_DETAILS  # type: ignore[arg-type]
    return StateDraft(type_, name or DEFAULT_NAMES[type_], details=known)


def state(type_: StateType, name: str = "", **details: object) -> State:
    """Make a current state, entered ten seconds ago."""
    made = draft(type_, name, **details)
    return State("s", made.type, made.name, NOW - 10 * SECOND, details=made.details)


def transition(
    current: State | StateType | None,
    proposed: StateDraft | StateType,
    *,
    result: bool = False,
    progress: Progress = FRESH,
    retry: RetryPolicy = NEVER,
    draw: float = 0.5,
    **facts: Any,
) -> Transition:
    """Make a proposed transition; `result`: the current state has a persisted one.

    `facts` are further ones of `Transition`.
    """
    if isinstance(current, StateType):
        current = state(current)
    if current is not None and result:
        current = replace(current, result=KEPT)
    if isinstance(proposed, StateType):
        proposed = draft(proposed)
    return Transition(current, proposed, progress, NOW, retry, draw=draw, **facts)
