"""The rules of task runs, in the order in which they are asked (RULES.md, section 4)."""

from __future__ import annotations

import math
from dataclasses import replace

from interlock_server.rules.frame import Amend, Policy, Reject, Transition, rule
from interlock_server.rules.shared import (
    copy_scheduled_time,
    finished_stays_finished,
    not_before_its_time,
)
from interlock_server.rules.states import (
    AWAITING_RETRY,
    NOT_TERMINAL,
    RERUNNING,
    RETRYING,
    TERMINAL,
    Micros,
    StateDetails,
    StateDraft,
    StateType,
)

_ANY = frozenset({None, *StateType})


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


@rule({StateType.RUNNING}, {StateType.FAILED})
def retry(transition: Transition) -> Reject | None:
    """A task run that fails waits for its next attempt while it has retries left."""
    progress, policy, failed = transition.progress, transition.retry, transition.proposed
    if failed.details.retriable is False or policy.max_retries == 0:
        return None
    if progress.run_count > policy.max_retries:
        return None
    delay = jittered(policy.delay_before(progress.run_count), policy.jitter_factor, transition.draw)
    awaiting = StateDraft(
        StateType.SCHEDULED,
        AWAITING_RETRY,
        failed.message,
        StateDetails(scheduled_time=transition.now + delay),
        failed.result,
    )
    return Reject("RETRYING", f"Retry {progress.run_count} of {policy.max_retries}.", awaiting)


@rule(_ANY, {StateType.RUNNING})
def rename(transition: Transition) -> Amend | None:
    """A RUNNING that is not the first says so by its name."""
    if transition.progress.run_count == 0:
        return None
    current = transition.current
    name = RETRYING if current is not None and current.name == AWAITING_RETRY else RERUNNING
    return Amend(proposed=replace(transition.proposed, name=name))


@rule(_ANY, {StateType.RUNNING})
def follow_the_flows_attempt(transition: Transition) -> Amend | None:
    """A task run notes in which attempt of its flow run it ran."""
    if transition.parent is None:
        return None
    count = transition.parent.run_count
    return Amend(progress=replace(transition.progress, flow_run_run_count=count))


TASK_RUN_POLICY = Policy(
    finished_stays_finished,
    keep_the_result,
    run_again,
    copy_scheduled_time,
    not_before_its_time,
    retry,
    rename,
    follow_the_flows_attempt,
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
