"""The rules of flow runs, in the order in which they are asked (RULES.md, section 3)."""

from __future__ import annotations

from dataclasses import replace

from interlock_server.rules.effects import fresh_attempt
from interlock_server.rules.frame import Abort, Amend, Policy, Reject, Transition, rule
from interlock_server.rules.runs import RetryType
from interlock_server.rules.shared import (
    awaiting_retry,
    copy_scheduled_time,
    finished_stays_finished,
    not_before_its_time,
)
from interlock_server.rules.states import (
    ANY,
    DEFAULT_NAMES,
    LATE,
    NOT_TERMINAL,
    RESUMING,
    TERMINAL,
    Micros,
    State,
    StateDetails,
    StateDraft,
    StateType,
)

_CANCELLED = DEFAULT_NAMES[StateType.CANCELLED]
_FAILED = DEFAULT_NAMES[StateType.FAILED]
_PENDING = DEFAULT_NAMES[StateType.PENDING]


@rule({StateType.COMPLETED}, NOT_TERMINAL | {StateType.COMPLETED})
def keep_the_result(transition: Transition) -> Reject | None:
    """A persisted result is not thrown away, neither by a new attempt nor by an end without one."""
    current, proposed = transition.current, transition.proposed
    assert current is not None
    if current.result is None:
        return None
    if proposed.type is StateType.COMPLETED and proposed.result is not None:
        return None
    return Reject("RESULT_PERSISTED", "The run has completed and its result is kept.")


@rule(TERMINAL, {StateType.SCHEDULED})
def no_way_to_reschedule(transition: Transition) -> Abort | None:
    """A run that has ended is scheduled again only if a deployment says how to run it."""
    if transition.has_deployment:
        return None
    return Abort("NO_DEPLOYMENT", "The run has no deployment that could run it again.")


@rule(TERMINAL, NOT_TERMINAL)
def manual_retry(transition: Transition) -> Amend:
    """A run that has ended and is let start again starts a fresh attempt."""
    again = RetryType.RESCHEDULE if transition.proposed.type is StateType.SCHEDULED else None
    return Amend(progress=fresh_attempt(transition.progress, retry_type=again))


@rule({StateType.CANCELLING}, frozenset(StateType) - {StateType.CANCELLED})
def cancelling_ends_in_cancelled(transition: Transition) -> Reject:
    """A run that was told to stop does nothing else any more."""
    return Reject("CANCELLING", "The run was told to stop; it can only become Cancelled.")


@rule({StateType.SCHEDULED, StateType.PAUSED}, {StateType.CANCELLING})
def nothing_to_cancel(transition: Transition) -> Reject | None:
    """A run that nothing carries is cancelled at once: nobody would say that it has stopped."""
    current = transition.current
    assert current is not None
    if current.type is StateType.SCHEDULED:
        idle = not transition.has_infrastructure or current.name == RESUMING
    else:
        idle = current.details.pause_reschedule
    if not idle:
        return None
    proposed = transition.proposed
    return Reject(
        "NOTHING_RUNNING",
        "Nothing ran that had to be stopped first.",
        replace(proposed, type=StateType.CANCELLED, name=_CANCELLED),
    )


@rule(
    {StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.CANCELLED},
    {StateType.PENDING},
)
def one_worker_takes_a_run(transition: Transition) -> Abort | Amend | None:
    """A run that someone has taken is not taken again; who has it may tell how far it is.

    That is a move between named sub-states of PENDING: the time that it is due goes along.
    """
    current, proposed = transition.current, transition.proposed
    assert current is not None
    if current.type is not StateType.PENDING or proposed.name in (_PENDING, current.name):
        return Abort("ALREADY_TAKEN", f"The run is {current.name}: someone else has taken it.")
    due = current.details.scheduled_time
    if due is None or proposed.details.scheduled_time is not None:
        return None
    return Amend(replace(proposed, details=replace(proposed.details, scheduled_time=due)))


@rule(StateType, {StateType.SCHEDULED})
def only_what_is_scheduled_is_late(transition: Transition) -> Reject | None:
    """A run is marked late once, and only while it waits for its time."""
    current = transition.current
    assert current is not None
    if transition.proposed.name != LATE:
        return None
    if current.type is not StateType.SCHEDULED:
        return Reject("NOT_SCHEDULED", f"The run is {current.name}, and so not late.")
    if current.name == LATE:
        return Reject("ALREADY_LATE", "The run is marked as late already.")
    return None


@rule(ANY, {StateType.PAUSED})
def pausing(transition: Transition) -> Abort | Reject | Amend | None:
    """A run pauses while it runs, and once at each key of an attempt."""
    current, details = transition.current, transition.proposed.details
    if current is None:
        return Abort("NO_STATE", "The run has no state yet: there is nothing to pause.")
    if current.type is not StateType.RUNNING:
        return Reject("NOT_RUNNING", f"The run is {current.name}; only what runs can pause.")
    key, fired = details.pause_key, transition.progress.pause_keys
    if key is not None and key in fired:
        return Reject("PAUSE_FIRED", f"The pause {key} has fired in this attempt already.")
    if details.pause_reschedule:
        if transition.is_subflow:
            return Abort("SUBFLOW", "A subflow runs within its parent and can not be suspended.")
        if not transition.has_deployment:
            return Abort("NO_DEPLOYMENT", "The run has no deployment that could run it again.")
    if key is None:
        return None
    return Amend(progress=replace(transition.progress, pause_keys=(*fired, key)))


@rule({StateType.PAUSED}, StateType)
def resuming(transition: Transition) -> Reject | Amend | None:
    """A pause ends by going on or by an end, in time, and where the run can be run."""
    current, to_type = transition.current, transition.proposed.type
    assert current is not None
    if to_type in (StateType.PENDING, StateType.PAUSED):
        return Reject("NOT_RESUMABLE", "The run is paused; resume it first.")
    if current.details.pause_reschedule and not transition.has_deployment:
        return Reject("NO_DEPLOYMENT", "The run has no deployment that could run it again.")
    timeout = current.details.pause_timeout
    over = timeout is not None and timeout < transition.now
    if over and to_type is not StateType.CANCELLING:
        return pause_expired()
    return Amend(progress=replace(transition.progress, resuming=True))


def pause_expired() -> Reject:
    """Answer the ruling about a pause whose time is over."""
    message = "The time of the pause was over before the run was resumed."
    return Reject("PAUSE_EXPIRED", message, StateDraft(StateType.FAILED, _FAILED, message))


@rule({StateType.RUNNING}, {StateType.FAILED})
def retry(transition: Transition) -> Reject | Amend | None:
    """A run that fails waits for its next attempt while it has retries left."""
    progress, policy = transition.progress, transition.retry
    if policy.max_retries == 0:
        return None
    if progress.run_count > policy.max_retries:
        return Amend(progress=replace(progress, retry_type=None))
    return Reject(
        "RETRYING",
        f"Retry {progress.run_count} of {policy.max_retries}.",
        awaiting_retry(transition, policy.delay_before(progress.run_count)),
        fresh_attempt(progress, retry_type=RetryType.IN_PROCESS),
    )


FLOW_RUN_POLICY = Policy(
    finished_stays_finished,
    keep_the_result,
    no_way_to_reschedule,
    manual_retry,
    cancelling_ends_in_cancelled,
    nothing_to_cancel,
    one_worker_takes_a_run,
    only_what_is_scheduled_is_late,
    pausing,
    resuming,
    copy_scheduled_time,
    not_before_its_time,
    retry,
)


@rule(ANY - {StateType.PAUSED}, StateType)
def only_what_is_paused_resumes(transition: Transition) -> Abort:
    """Only a run that is paused can be resumed."""
    current = transition.current
    found = "has no state" if current is None else f"is {current.name}"
    return Abort("NOT_PAUSED", f"The run {found}: there is no pause to resume it from.")


RESUME_FLOW_RUN_POLICY = Policy(only_what_is_paused_resumes, *FLOW_RUN_POLICY.rules)
"""What is asked when a flow run is told to resume."""


def resumed(current: State | None, now: Micros) -> StateDraft:
    """Answer the state in which a flow run goes on: Running, or scheduled if it was suspended."""
    if current is not None and current.details.pause_reschedule:
        return StateDraft(StateType.SCHEDULED, RESUMING, details=StateDetails(scheduled_time=now))
    return StateDraft(StateType.RUNNING, DEFAULT_NAMES[StateType.RUNNING])


LATE_FLOW_RUN_POLICY = Policy(only_what_is_scheduled_is_late)
"""What is asked when the service marks a run as late."""


@rule({StateType.COMPLETED}, {StateType.COMPLETED})
def keep_the_result_by_force(transition: Transition) -> Reject | None:
    """Not even by force is a persisted result thrown away by another COMPLETED."""
    return keep_the_result.judge(transition)  # type: ignore[return-value]


MINIMAL_FLOW_RUN_POLICY = Policy(keep_the_result_by_force, nothing_to_cancel)
"""What is asked when a proposal is forced (RULES.md, section 2)."""
