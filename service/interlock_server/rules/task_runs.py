"""The rules of task runs, in the order in which they are asked (RULES.md, section 4)."""

from __future__ import annotations

import math
from dataclasses import replace

from interlock_server.rules.frame import Abort, Amend, Policy, Reject, Transition, rule
from interlock_server.rules.shared import (
    awaiting_retry,
    copy_scheduled_time,
    finished_stays_finished,
    not_before_its_time,
)
from interlock_server.rules.states import (
    ANY,
    AWAITING_RETRY,
    CACHED,
    NOT_READY,
    NOT_TERMINAL,
    RERUNNING,
    RETRYING,
    TERMINAL,
    Micros,
    StateDetails,
    StateDraft,
    StateType,
)


@rule(ANY, {StateType.RUNNING})
def cached(transition: Transition) -> Reject | None:
    """What another task run has computed under the same cache key is not computed again."""
    found = transition.cached
    if found is None:
        return None
    again = StateDraft(StateType.COMPLETED, CACHED, found.message, found.details, found.result)
    key = found.details.cache_key
    return Reject("CACHED", f"The cache has a result under the key {key}.", again)


@rule({StateType.COMPLETED}, StateType)
def keep_the_result(transition: Transition) -> Reject | None:
    """A task run whose result is kept is not run again."""
    assert transition.current is not None
    if transition.current.result is None:
        return None
    return Reject("RESULT_PERSISTED", "The run has completed and its result is kept.")


@rule(TERMINAL, NOT_TERMINAL)
def run_again(transition: Transition) -> Amend:
    """A task run that starts again counts its runs anew; it retries if its flow run does."""
    progress, proposed, parent = transition.progress, transition.proposed, transition.parent
    newer_attempt = parent is not None and parent.run_count > progress.flow_run_run_count
    if proposed.type is StateType.RUNNING and newer_attempt:
        proposed = replace(proposed, name=RETRYING)
    return Amend(proposed, replace(progress, run_count=0))


@rule(ANY, {StateType.RUNNING})
def the_flow_runs(transition: Transition) -> Reject | Abort | None:
    """A task run runs only while its flow run does; while that is paused, so is the task run."""
    parent = transition.parent
    if parent is None:
        return None
    flow_state = parent.state
    if flow_state is not None and flow_state.type is StateType.RUNNING:
        return None
    if flow_state is None or flow_state.type is not StateType.PAUSED:
        found = "has no state" if flow_state is None else f"is {flow_state.name}"
        return Abort("FLOW_NOT_RUNNING", f"The flow run {found}; its task runs can not run.")
    details = StateDetails(
        pause_timeout=flow_state.details.pause_timeout,
        pause_reschedule=flow_state.details.pause_reschedule,
    )
    return Reject(
        "FLOW_PAUSED",
        "The flow run is paused; its task runs wait with it.",
        StateDraft(StateType.PAUSED, NOT_READY, "The flow run is paused.", details),
    )


@rule({StateType.RUNNING}, {StateType.FAILED})
def retry(transition: Transition) -> Reject | None:
    """A task run that fails waits for its next attempt while it has retries left."""
    progress, policy = transition.progress, transition.retry
    if transition.proposed.details.retriable is False or policy.max_retries == 0:
        return None
    if progress.run_count > policy.max_retries:
        return None
    delay = jittered(policy.delay_before(progress.run_count), policy.jitter_factor, transition.draw)
    return Reject(
        "RETRYING",
        f"Retry {progress.run_count} of {policy.max_retries}.",
        awaiting_retry(transition, delay),
    )


@rule(ANY, {StateType.RUNNING})
def rename(transition: Transition) -> Amend | None:
    """A RUNNING that is not the first says so by its name."""
    if transition.progress.run_count == 0:
        return None
    current = transition.current
    name = RETRYING if current is not None and current.name == AWAITING_RETRY else RERUNNING
    return Amend(proposed=replace(transition.proposed, name=name))


@rule(ANY, {StateType.RUNNING})
def follow_the_flows_attempt(transition: Transition) -> Amend | None:
    """A task run notes in which attempt of its flow run it ran."""
    if transition.parent is None:
        return None
    count = transition.parent.run_count
    return Amend(progress=replace(transition.progress, flow_run_run_count=count))


@rule(ANY, {StateType.COMPLETED})
def remember_the_result(transition: Transition) -> Amend | None:
    """The result of a task run with a cache key is found by others that have the same key."""
    if transition.proposed.details.cache_key is None:
        return None
    return Amend(remember_result=True)


TASK_RUN_POLICY = Policy(
    cached,
    finished_stays_finished,
    keep_the_result,
    run_again,
    the_flow_runs,
    copy_scheduled_time,
    not_before_its_time,
    retry,
    rename,
    follow_the_flows_attempt,
    remember_the_result,
)

MINIMAL_TASK_RUN_POLICY = Policy()
"""What is asked when a proposal is forced: nothing (RULES.md, section 4)."""


def jittered(delay: Micros, factor: float, draw: float) -> Micros:
    """Spread a delay: a clamped exponential draw whose mean is the delay.

    No draw is longer than delay x (1 + factor). `draw` is uniform in [0, 1).
    """
    if factor <= 0 or delay <= 0:
        return delay
    upper = 1 + factor
    low, high = (1 - math.exp(-bound) for bound in (_lower_bound(upper), upper))
    return round(delay * min(upper, -math.log(1 - (low + draw * (high - low)))))


def _lower_bound(upper: float) -> float:
    """Answer where to cut off the exponential distribution of mean 1 that is cut off at `upper`.

    Between a and b its mean is 1 + (a e^-a - b e^-b) / (e^-a - e^-b): it stays 1 where the two
    products are equal. x e^-x grows up to 1, so the equation is solved by halving [0, 1].
    """
    target, low, high = upper * math.exp(-upper), 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if middle * math.exp(-middle) < target:
            low = middle
        else:
            high = middle
    return low
