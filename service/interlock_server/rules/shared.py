"""Rules that flow runs and task runs share."""

from __future__ import annotations

from dataclasses import replace

from interlock_server.rules.frame import Abort, Amend, Transition, Wait, rule
from interlock_server.rules.states import (
    AWAITING_RETRY,
    TERMINAL,
    Micros,
    StateDetails,
    StateDraft,
    StateType,
)

_SECOND = 1_000_000


@rule(TERMINAL, {StateType.PAUSED, StateType.CANCELLING, StateType.CRASHED})
def finished_stays_finished(transition: Transition) -> Abort:
    """A run that has ended can not be paused, be cancelled or crash."""
    assert transition.current is not None
    return Abort("RUN_FINISHED", f"The run has ended: it is {transition.current.name}.")


@rule({StateType.SCHEDULED}, {StateType.PENDING})
def copy_scheduled_time(transition: Transition) -> Amend | None:
    """A run keeps its time when it is taken before it is due."""
    current, proposed = transition.current, transition.proposed
    assert current is not None
    if proposed.details.scheduled_time is not None or current.details.scheduled_time is None:
        return None
    details = replace(proposed.details, scheduled_time=current.details.scheduled_time)
    return Amend(proposed=replace(proposed, details=details))


@rule({StateType.SCHEDULED, StateType.PENDING}, {StateType.RUNNING})
def not_before_its_time(transition: Transition) -> Wait | None:
    """A run does not start before it is due; the wait is rounded to whole seconds."""
    assert transition.current is not None
    due = transition.current.details.scheduled_time
    if due is None or due <= transition.now:
        return None
    seconds = round((due - transition.now) / _SECOND)
    if seconds == 0:
        return None
    return Wait("NOT_DUE", f"The run is due in {seconds} seconds.", seconds * _SECOND)


def awaiting_retry(transition: Transition, delay: Micros) -> StateDraft:
    """Make the state of a run that waits for its next attempt, in place of its failure."""
    failed = transition.proposed
    return StateDraft(
        StateType.SCHEDULED,
        AWAITING_RETRY,
        failed.message,
        StateDetails(scheduled_time=transition.now + delay),
        failed.result,
    )
