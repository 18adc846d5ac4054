"""What is proposed for a task, and what the server is to write: the rows name the trace."""

import logging

import pytest
from interlock_server.replay import Attempt, Outcome, TraceTask
from interlock_server.replay.script import Line, Script, write_script

C, F, X, K = Outcome.COMPLETED, Outcome.FAILED, Outcome.CRASHED, Outcome.CANCELLED
CACHED, U = Outcome.CACHED, Outcome.UNFINISHED


def ran(outcome: Outcome, started: float = 0.0, duration: float = 1.0) -> Attempt:
    """An attempt that was executed, with times."""
    ended = None if outcome is U else started + duration
    return Attempt(
        outcome=outcome, duration=duration, submitted=started, started=started, ended=ended
    )


def never(outcome: Outcome) -> Attempt:
    """An attempt that was submitted and never executed."""
    return Attempt(outcome=outcome, duration=0.0, submitted=0.0)


def script(*attempts: Attempt) -> Script:
    return write_script(TraceTask(id="t", name="t", attempts=attempts))


def names(played: Script) -> str:
    return " ".join(name for _, name in played.states)


@pytest.mark.parametrize(
    ("attempts", "expected", "retries", "run_count"),
    [
        ([], "Scheduled", 0, 0),
        ([ran(C)], "Scheduled Pending Running Completed", 0, 1),
        ([Attempt(outcome=C, duration=0)], "Scheduled Pending Running Completed", 0, 1),
        ([ran(F)], "Scheduled Pending Running Failed", 0, 1),
        ([ran(X)], "Scheduled Pending Running Crashed", 0, 1),
        ([ran(K)], "Scheduled Pending Running Cancelled", 0, 1),
        ([ran(U)], "Scheduled Pending Running", 0, 1),
        ([never(U)], "Scheduled Pending", 0, 0),
        ([never(F)], "Scheduled Pending Failed", 0, 0),
        ([never(X)], "Scheduled Pending Crashed", 0, 0),
        ([Attempt(outcome=CACHED, duration=9)], "Scheduled Pending Cached", 0, 0),
        ([ran(F), ran(C)], "Scheduled Pending Running AwaitingRetry Retrying Completed", 1, 2),
        ([ran(F), ran(F)], "Scheduled Pending Running AwaitingRetry Retrying Failed", 1, 2),
        (
            [ran(F), ran(F), ran(C)],
            "Scheduled Pending Running AwaitingRetry Retrying AwaitingRetry Retrying Completed",
            2,
            3,
        ),
        ([ran(X), ran(C)], "Scheduled Pending Running Crashed Pending Running Completed", 0, 1),
        ([ran(K), ran(C)], "Scheduled Pending Running Cancelled Pending Running Completed", 0, 1),
        ([never(X), ran(C)], "Scheduled Pending Crashed Pending Running Completed", 0, 1),
        ([never(F), ran(C)], "Scheduled Pending Failed Pending Running Completed", 0, 1),
        (
            [ran(F), ran(X), ran(C)],
            "Scheduled Pending Running AwaitingRetry Retrying Crashed Pending Running Completed",
            1,
            1,
        ),
        (
            [ran(F), never(X), ran(C)],
            "Scheduled Pending Running AwaitingRetry Crashed Pending Running Completed",
            1,
            1,
        ),
        ([ran(U), ran(C)], "Scheduled Pending Running Pending Rerunning Completed", 0, 2),
        (
            [ran(X), ran(F), ran(C)],
            "Scheduled Pending Running Crashed Pending Running AwaitingRetry Retrying Completed",
            2,
            2,
        ),
    ],
)
def test_attempts_become_states(
    attempts: list[Attempt], expected: str, retries: int, run_count: int
) -> None:
    played = script(*attempts)
    assert (names(played), played.retries, played.run_count) == (expected, retries, run_count)


def test_a_failure_that_the_policy_would_retry_and_the_trace_did_not_is_not_retriable() -> None:
    played = script(ran(F), ran(X), ran(F))
    assert names(played).endswith("Retrying Crashed Pending Running Failed")
    retriable = [s.move.retriable for s in played.steps if s.move and s.move.type == "FAILED"]
    assert (played.retries, retriable) == (1, [True, False])


def test_the_time_between_attempts_is_waited_and_is_the_retry_delay() -> None:
    played = script(ran(F, started=2, duration=3), ran(C, started=12, duration=1))
    assert played.retry_delays == (7,)
    assert [step.wait for step in played.steps] == [0, 3, 7, 1]


def test_what_goes_on_when_the_trace_ends_is_waited_for_and_not_ended() -> None:
    played = script(ran(U, duration=40))
    last = played.steps[-1]
    assert (last.wait, last.move) == (40, None)


def test_a_task_says_that_it_starts_and_ends() -> None:
    attempts = [
        Attempt(outcome=F, duration=1, host="node7", message="returned 2"),
        Attempt(outcome=C, duration=1),
    ]
    assert script(*attempts).lines == (
        Line(logging.INFO, "attempt 1 starts on node7"),
        Line(logging.ERROR, "attempt 1 ends: Failed (returned 2)"),
        Line(logging.INFO, "attempt 2 starts"),
        Line(logging.INFO, "attempt 2 ends: Completed"),
    )


def test_a_task_whose_lines_were_kept_says_those_alone() -> None:
    played = script(Attempt(outcome=C, duration=1, logs=("one", "two")))
    assert played.lines == (Line(logging.INFO, "one"), Line(logging.INFO, "two"))
