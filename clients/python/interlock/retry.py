"""When a failed call is sent again, and how long to wait before: decided here, without any I/O.

A call is sent again only if that can do no harm. Reads can be repeated; so can creations and
proposals, whose ids the client makes, since the server answers the second one as the first. All
else (updates, deletions) is sent again only if the server says that it did nothing.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import grpc

from interlock.errors import InterlockError

OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"

_ALWAYS_TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_TRANSIENT_IF_TOLD = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after how long, a call that failed is sent again. Times are in seconds."""

    initial_delay: float = 0.1
    """The bound of the wait before the first retry; it doubles with each."""
    max_delay: float = 5.0
    """The most that the bound grows to."""
    attempt_timeout: float = 15.0
    """How long one attempt may take, where another may follow."""
    max_attempts: int = 0
    """How many attempts there may be; 0: as many as fit into the time budget."""


class Backoff:
    """Waits that grow: full jitter, a random time between nothing and a bound that doubles."""

    def __init__(self, initial: float, maximum: float) -> None:
        self._initial = self._bound = initial
        self._maximum = maximum

    def reset(self) -> None:
        """Begin again from the initial bound."""
        self._bound = self._initial

    def next(self, at_least: float = 0.0) -> float:
        """Answer how many seconds to wait now: `at_least`, and a random time beyond it."""
        bound = self._bound
        self._bound = min(bound * 2, self._maximum)
        return at_least + random.uniform(0, bound)


class Attempts:
    """The attempts of one call within its time budget."""

    def __init__(self, policy: RetryPolicy, budget: float, *, replay: bool) -> None:
        """Start the clock. `replay`: sending the call again does no harm."""
        self._policy = policy
        self._replay = replay
        self._deadline = time.monotonic() + budget
        self._backoff = Backoff(policy.initial_delay, policy.max_delay)
        self.count = 0
        """How many attempts were begun."""

    def begin(self) -> float:
        """Begin an attempt; answer its time-out in seconds."""
        self.count += 1
        left = max(0.001, self._deadline - time.monotonic())
        # A call that may not be sent again has no use for the time behind its first attempt.
        return min(left, self._policy.attempt_timeout) if self._replay else left

    def delay_after(self, error: InterlockError) -> float | None:
        """Answer how many seconds to wait before the next attempt; None: give up."""
        if not may_retry(error, replay=self._replay):
            return None
        if self._policy.max_attempts and self.count >= self._policy.max_attempts:
            return None
        delay = self._backoff.next(error.retry_after or 0.0)
        return delay if time.monotonic() + delay < self._deadline else None


def may_retry(error: InterlockError, *, replay: bool) -> bool:
    """Tell whether a call that failed so may be sent again."""
    told = error.retry_after is not None
    transient = error.code in _ALWAYS_TRANSIENT or (told and error.code in _TRANSIENT_IF_TOLD)
    if replay:
        return transient
    nothing_done = told and error.reason != OUTCOME_UNKNOWN
    return transient and nothing_done and error.code is not grpc.StatusCode.DEADLINE_EXCEEDED
