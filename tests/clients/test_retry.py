from __future__ import annotations

import grpc
import pytest
from interlock.errors import InterlockError
from interlock.retry import Attempts, Backoff, RetryPolicy, may_retry

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "told", "reason", "replayed", "changed"),
    [
        (Code.UNAVAILABLE, None, "", True, False),
        (Code.UNAVAILABLE, 1.0, "DATABASE_AWAY", True, True),
        (Code.UNAVAILABLE, 1.0, "OUTCOME_UNKNOWN", True, False),
        (Code.DEADLINE_EXCEEDED, None, "", True, False),
        (Code.DEADLINE_EXCEEDED, 1.0, "", True, False),
        (Code.RESOURCE_EXHAUSTED, None, "", False, False),
        (Code.RESOURCE_EXHAUSTED, 1.0, "", True, True),
        (Code.ABORTED, None, "ETAG_MISMATCH", False, False),
        (Code.ABORTED, 1.0, "", True, True),
        (Code.INTERNAL, 1.0, "", False, False),
        (Code.NOT_FOUND, None, "", False, False),
    ],
)
def test_what_is_sent_again(
    code: grpc.StatusCode, told: float | None, reason: str, replayed: bool, changed: bool
) -> None:
    error = InterlockError("no", code=code, reason=reason, retry_after=told)
    assert may_retry(error, replay=True) is replayed
    assert may_retry(error, replay=False) is changed


def test_waits_grow_up_to_a_bound_and_begin_again() -> None:
    backoff = Backoff(1.0, 8.0)
    for bound in (1, 2, 4, 8, 8):
        assert 5 <= backoff.next(5.0) <= 5 + bound
    backoff.reset()
    assert backoff.next() <= 1


def test_attempts_stay_within_the_budget() -> None:
    error = InterlockError("no", code=Code.UNAVAILABLE)
    attempts = Attempts(RetryPolicy(attempt_timeout=2), 10, replay=True)
    assert attempts.begin() == 2
    assert attempts.delay_after(error) is not None
    late = InterlockError("no", code=Code.UNAVAILABLE, retry_after=11)
    assert attempts.delay_after(late) is None
    # What may not be sent again has all the time for its one attempt.
    assert Attempts(RetryPolicy(attempt_timeout=2), 10, replay=False).begin() > 9


def test_attempts_can_be_counted() -> None:
    error = InterlockError("no", code=Code.UNAVAILABLE)
    attempts = Attempts(RetryPolicy(max_attempts=2), 10, replay=True)
    attempts.begin()
    assert attempts.delay_after(error) is not None
    attempts.begin()
    assert attempts.delay_after(error) is None
