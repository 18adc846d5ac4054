"""The rules of flow runs, in the order in which they are asked (RULES.md, section 3)."""

from __future__ import annotations

from dataclasses import replace

from interlock_server.rules.effects import fresh_attempt
from interlock_server.rules.frame import Abort, Amend, Policy, Reject, Transition, rule
from interlock_server.rules.runs import RetryType
from interlock_server.rules.shared import (
    copy_scheduled_time,
    finished_stays_finished,
    not_before_its_time,
)
from interlock_server.rules.states import (
    AWAITING_RETRY,
    NOT_TERMINAL,
    TERMINAL,
    StateDetails,
    StateDraft,
    StateType,
)


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


@rule({StateType.RUNNING}, {StateType.FAILED})
def retry(transition: Transition) -> Reject | Amend | None:
    """A run that fails waits for its next attempt while it has retries left."""
    progress, policy, failed = transition.progress, transition.retry, transition.proposed
    if policy.max_retries == 0:
        return None
    if progress.run_count > policy.max_retries:
        return Amend(progress=replace(progress, retry_type=None))
    due = transition.now + policy.delay_before(progress.run_count)
    awaiting = StateDraft(
        StateType.SCHEDULED,
        AWAITING_RETRY,
        failed.message,
        StateDetails(scheduled_time=due),
        failed.result,
    )
    return Reject(
        "RETRYING",
        f"Retry {progress.run_count} of {policy.max_retries}.",
        awaiting,
        fresh_attempt(progress, retry_type=RetryType.IN_PROCESS),
    )


FLOW_RUN_POLICY = Policy(
    finished_stays_finished,
    keep_the_result,
    no_way_to_reschedule,
    manual_retry,
    copy_scheduled_time,
    not_before_its_time,
    retry,
)


@rule({StateType.COMPLETED}, {StateType.COMPLETED})
def keep_the_result_by_force(transition: Transition) -> Reject | None:
    """Not even by force is a persisted result thrown away by another COMPLETED."""
    return keep_the_result.judge(transition)  # type: ignore[return-value]


MINIMAL_FLOW_RUN_POLICY = Policy(keep_the_result_by_force)
"""What is asked when a proposal is forced (RULES.md, section 2)."""
