"""What a heartbeat is answered, and what becomes of a run whose heartbeats have ceased.

A run is watched from the first heartbeat of an attempt on, for as long as something carries it:
while it runs, while it is being cancelled, and while it is paused and its process lives on. It dies
only in the first two of these; a pause ends by its own time.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from interlock_server.rules.effects import fresh_attempt
from interlock_server.rules.frame import Decision, Transition, Verdict
from interlock_server.rules.runs import ParentFlowRun, Progress, RetryType
from interlock_server.rules.shared import awaiting_retry
from interlock_server.rules.states import (
    DEFAULT_NAMES,
    TERMINAL,
    Micros,
    State,
    StateDraft,
    StateType,
)
from interlock_server.rules.task_runs import jittered

_SECOND = 1_000_000
_STOPS = frozenset({StateType.CANCELLING, StateType.CANCELLED})


class Advice(StrEnum):
    """What whoever carries a run is told to do."""

    CONTINUE = "CONTINUE"
    PAUSED = "PAUSED"
    CANCEL = "CANCEL"
    SUPERSEDED = "SUPERSEDED"
    FINISHED = "FINISHED"
    NOT_RUNNING = "NOT_RUNNING"


def is_carried(state: State | None) -> bool:
    """Answer whether a process may be behind a run in this state, so that it can be watched."""
    match state:
        case State(type=StateType.RUNNING | StateType.CANCELLING):
            return True
        case State(type=StateType.PAUSED):
            return not state.details.pause_reschedule
    return False


def advice(
    state: State | None, run_count: int, attempt: int, parent: ParentFlowRun | None
) -> Advice:
    """Answer what the one who sends a heartbeat is to do; `attempt` is the one that it carries."""
    if state is not None and state.type in TERMINAL:
        return Advice.FINISHED
    carried = state is not None and is_carried(state)
    # A task run that starts again counts its runs anew, so that an old attempt may be beyond it.
    if attempt < run_count or (carried and attempt != run_count):
        return Advice.SUPERSEDED
    if state is None or not carried:
        return Advice.NOT_RUNNING
    parent_state = None if parent is None else parent.state
    parent_stops = parent_state is not None and parent_state.type in _STOPS
    if state.type is StateType.CANCELLING or parent_stops:
        return Advice.CANCEL
    return Advice.PAUSED if state.type is StateType.PAUSED else Advice.CONTINUE


def flow_run_lost(transition: Transition, silence: Micros) -> Decision:
    """Decide about a flow run that was last heard of `silence` ago; see `_lost`."""
    progress = transition.progress
    return _lost(
        transition,
        silence,
        transition.retry.delay_before(progress.run_count),
        fresh_attempt(progress, retry_type=RetryType.RESCHEDULE),
        replace(progress, retry_type=None),
    )


def task_run_lost(transition: Transition, silence: Micros) -> Decision:
    """Decide about a task run that was last heard of `silence` ago; see `_lost`."""
    progress, policy = transition.progress, transition.retry
    delay = policy.delay_before(progress.run_count)
    spread = jittered(delay, policy.jitter_factor, transition.draw)
    return _lost(transition, silence, spread, progress, progress)


def crash(silence: Micros) -> StateDraft:
    """Make the state of a run that was last heard of `silence` ago."""
    return StateDraft(
        StateType.CRASHED,
        DEFAULT_NAMES[StateType.CRASHED],
        f"Nothing was heard of the run any more; the last heartbeat came {_seconds(silence)} ago.",
    )


def _lost(
    transition: Transition, silence: Micros, delay: Micros, again: Progress, over: Progress
) -> Decision:
    """Decide about a run whose crash is proposed since its heartbeats have ceased.

    What was told to stop has stopped. What may be tried again after a crash, and has retries left,
    waits for its next attempt, as after a failure. All else has crashed.
    """
    current, proposed, policy = transition.current, transition.proposed, transition.retry
    assert current is not None
    run_count = transition.progress.run_count
    verdict, progress, write = Verdict.ACCEPT, over, proposed
    then = "It has crashed."
    if current.type is StateType.CANCELLING:
        verdict, progress, then = Verdict.REJECT, transition.progress, "It was to stop anyway."
        write = replace(proposed, type=StateType.CANCELLED, name=DEFAULT_NAMES[StateType.CANCELLED])
    elif policy.retry_crashes and run_count <= policy.max_retries:
        verdict, progress, then = (
            Verdict.REJECT,
            again,
            f"Retry {run_count} of {policy.max_retries}.",
        )
        write = awaiting_retry(transition, delay)
    return Decision(
        verdict,
        progress,
        write,
        rule="heartbeat_lost",
        reason="HEARTBEAT_LOST",
        explanation=f"The run's last heartbeat came {_seconds(silence)} ago. {then}",
    )


def _seconds(length: Micros) -> str:
    return f"{length / _SECOND:.1f} s"
