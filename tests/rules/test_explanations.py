"""Each row: what a run is like, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from interlock_server.rules.circumstances import (
    Circumstances,
    Heartbeat,
    Refused,
    Relative,
    Written,
)
from interlock_server.rules.explanations import Cause, explain
from interlock_server.rules.frame import Verdict
from interlock_server.rules.overdue import Patience
from interlock_server.rules.runs import Progress, RetryPolicy, RetryType
from interlock_server.rules.states import State, StateType

from tests.rules.transitions import NOW, SECOND, state

S = StateType
MINUTE = 60 * SECOND
BY_ADA = Written(Verdict.ACCEPT, proposed_by="ada")
TWICE = RetryPolicy(2)


def run(current: State | StateType | None, message: str = "", **facts: Any) -> Circumstances:
    """A flow run in a state that it entered ten seconds ago."""
    if isinstance(current, StateType):
        current = state(current)
    if current is not None:
        current = replace(current, message=message)
    return Circumstances("r", current, NOW, **facts)


def task_run(current: State | StateType, flow: State | StateType, **facts: Any) -> Circumstances:
    """A task run in a flow run that is in another state."""
    flow = state(flow) if isinstance(flow, StateType) else flow
    return run(current, is_task_run=True, flow_run=Relative("f", "nightly", flow), **facts)


def paused(**details: Any) -> State:
    return state(S.PAUSED, pause_timeout=NOW + 5 * MINUTE, **details)


def ended(reason: str, rule: str = "", explanation: str = "", **content: Any) -> Written:
    return Written(Verdict.REJECT, rule, reason, explanation, **content)


ROWS: list[tuple[Circumstances, list[Cause]]] = [
    (
        run(None),
        [Cause("NO_STATE", "The run has no state yet.", "It waits for a first proposal.")],
    ),
    # --- scheduled ---
    (
        run(state(S.SCHEDULED, scheduled_time=NOW + 5 * MINUTE)),
        [Cause("NOT_DUE", "It is due in 5 minutes.", until=NOW + 5 * MINUTE)],
    ),
    (
        run(state(S.SCHEDULED, "Late", scheduled_time=NOW - 3 * MINUTE)),
        [
            Cause(
                "DUE_NOT_TAKEN",
                "It has been due for 3 minutes and nobody has taken it.",
                "It waits for someone to run it: see that a worker is there.",
            )
        ],
    ),
    (
        run(S.SCHEDULED),
        [
            Cause(
                "DUE_NOT_TAKEN",
                "It has been due for 10 seconds and nobody has taken it.",
                "It waits for someone to run it: see that a worker is there.",
            )
        ],
    ),
    (
        run(
            state(S.SCHEDULED, "AwaitingRetry", scheduled_time=NOW + SECOND),
            "ValueError: no space",
            progress=Progress(run_count=1, retry_type=RetryType.IN_PROCESS),
            retry=TWICE,
        ),
        [
            Cause(
                "RETRYING",
                "Retry 1 of 2 begins in 1 second: ValueError: no space.",
                until=NOW + SECOND,
            )
        ],
    ),
    (
        run(
            state(S.SCHEDULED, "AwaitingRetry", scheduled_time=NOW - MINUTE),
            progress=Progress(run_count=2, retry_type=RetryType.IN_PROCESS),
            retry=TWICE,
        ),
        [
            Cause(
                "DUE_NOT_TAKEN",
                "It has been due for 1 minute: retry 2 of 2 has not begun.",
                "The process that ran it before is to run it again.",
            )
        ],
    ),
    (
        run(state(S.SCHEDULED, "Resuming", scheduled_time=NOW - SECOND)),
        [
            Cause(
                "DUE_NOT_TAKEN",
                "It has been due for 1 second, since it was resumed, and nobody has taken it.",
                "It waits for someone to run it.",
            )
        ],
    ),
    # --- pending ---
    (
        run(S.PENDING, created=NOW - 10 * SECOND, written=BY_ADA),
        [
            Cause(
                "NOT_STARTED",
                "It was made 10 seconds ago by ada and has not been started.",
                "It waits for whoever made it to run it.",
            )
        ],
    ),
    (
        run(state(S.PENDING, "Submitting"), written=BY_ADA),
        [
            Cause(
                "TAKEN",
                "It was taken 10 seconds ago by ada and is being prepared: Submitting.",
                "It goes on when its code begins to run.",
            )
        ],
    ),
    (
        run(state(S.PENDING, scheduled_time=NOW + MINUTE)),
        [
            Cause("NOT_DUE", "It is due in 1 minute.", until=NOW + MINUTE),
            Cause(
                "TAKEN",
                "It was taken 10 seconds ago and is being prepared: Pending.",
                "It goes on when its code begins to run.",
            ),
        ],
    ),
    # --- running ---
    (
        run(S.RUNNING, progress=Progress(run_count=2)),
        [
            Cause("RUNNING", "It has been running for 10 seconds.", "This is run number 2."),
            Cause(
                "NO_HEARTBEATS",
                "It sends no heartbeats.",
                "If its process dies, nobody will notice by themselves.",
            ),
        ],
    ),
    (
        run(S.RUNNING, heartbeat=Heartbeat(NOW - 5 * SECOND, NOW + 25 * SECOND)),
        [
            Cause("RUNNING", "It has been running for 10 seconds."),
            Cause(
                "HEARTBEATS",
                "Its last heartbeat came 5 seconds ago.",
                "Without another one it counts as dead in 25 seconds.",
                NOW + 25 * SECOND,
            ),
        ],
    ),
    (
        run(S.RUNNING, heartbeat=Heartbeat(NOW - MINUTE, NOW - SECOND)),
        [
            Cause("RUNNING", "It has been running for 10 seconds."),
            Cause(
                "HEARTBEATS_CEASED",
                "Its last heartbeat came 1 minute ago: it counts as dead.",
                "The service is about to end it.",
            ),
        ],
    ),
    # --- paused ---
    (
        run(paused(), "May I?", written=BY_ADA),
        [
            Cause(
                "PAUSED",
                "It was paused 10 seconds ago by ada: May I?",
                "Resume it to go on: `interlock flow-run resume r`. "
                "It fails in 5 minutes unless that is done.",
                NOW + 5 * MINUTE,
            )
        ],
    ),
    (
        run(paused(pause_reschedule=True, pause_key="gate", input_schema='{"type": "string"}')),
        [
            Cause(
                "SUSPENDED",
                "It was suspended 10 seconds ago.",
                "Resume it with the input that it asks for: `interlock flow-run resume r`. "
                "It fails in 5 minutes unless that is done.",
                NOW + 5 * MINUTE,
            ),
            Cause(
                "INPUT_AWAITED",
                "It waits for input under the key gate.",
                'The input is JSON that meets this schema: {"type": "string"}',
                NOW + 5 * MINUTE,
            ),
        ],
    ),
    (
        run(state(S.PAUSED, pause_timeout=NOW - SECOND)),
        [
            Cause(
                "PAUSE_OVER",
                "It was paused 10 seconds ago. The time of its pause was over 1 second ago.",
                "It fails as soon as the service or someone who resumes it finds that.",
            )
        ],
    ),
    # --- task runs and their flow run ---
    (
        task_run(state(S.PAUSED, "NotReady"), paused()),
        [
            Cause(
                "FLOW_PAUSED",
                "Its flow run nightly is Paused.",
                "It can run once the flow run was resumed.",
                NOW + 5 * MINUTE,
                "flow_run",
                "f",
            )
        ],
    ),
    (
        task_run(state(S.PAUSED, "NotReady"), S.RUNNING),
        [
            Cause(
                "FLOW_RESUMED",
                "It is paused, while its flow run runs again.",
                "It goes on when its process proposes to run it.",
            )
        ],
    ),
    (
        task_run(state(S.SCHEDULED, scheduled_time=NOW + MINUTE), S.CANCELLED),
        [
            Cause(
                "FLOW_NOT_RUNNING",
                "Its flow run nightly is Cancelled.",
                "A task run runs only while its flow run does.",
                resource_type="flow_run",
                resource_id="f",
            ),
            Cause("NOT_DUE", "It is due in 1 minute.", until=NOW + MINUTE),
        ],
    ),
    (task_run(S.COMPLETED, S.FAILED), [Cause("COMPLETED", "It completed 10 seconds ago.")]),
    # --- cancelling and cancelled ---
    (
        run(S.CANCELLING, "too slow", written=BY_ADA),
        [
            Cause(
                "CANCELLING",
                "It was told to stop 10 seconds ago by ada: too slow.",
                "It ends when what carries it says that it has stopped, "
                "in 4 minutes at the latest.",
                NOW + 290 * SECOND,
            )
        ],
    ),
    (
        run(
            S.CANCELLING,
            heartbeat=Heartbeat(NOW - MINUTE, NOW - SECOND),
            patience=Patience(cancelling=10 * SECOND),
        ),
        [
            Cause(
                "CANCELLING",
                "It was told to stop 10 seconds ago.",
                "It ends when what carries it says that it has stopped, or at any moment now.",
                NOW,
            ),
            Cause(
                "HEARTBEATS_CEASED",
                "Its last heartbeat came 1 minute ago: it counts as dead.",
                "The service is about to end it.",
            ),
        ],
    ),
    (
        run(S.CANCELLING, is_task_run=True),
        [
            Cause(
                "CANCELLING",
                "It was told to stop 10 seconds ago.",
                "It ends when what carries it says that it has stopped.",
            )
        ],
    ),
    (
        run(
            S.CANCELLED,
            "not needed",
            written=ended(
                "NOTHING_RUNNING", "nothing_to_cancel", "Nothing ran.", proposed_by="ada"
            ),
        ),
        [
            Cause(
                "NOTHING_RUNNING",
                "It was cancelled 10 seconds ago by ada: not needed.",
                "The rule nothing_to_cancel decided so: Nothing ran.",
            )
        ],
    ),
    # --- ended ---
    (
        run(S.FAILED, "ValueError: boom", written=BY_ADA),
        [Cause("FAILED", "It failed 10 seconds ago: ValueError: boom.", "ada said so.")],
    ),
    (
        run(S.FAILED, retry=TWICE, progress=Progress(run_count=3)),
        [
            Cause("FAILED", "It failed 10 seconds ago."),
            Cause("RETRIES_EXHAUSTED", "It was tried again 2 times, as often as it may be."),
        ],
    ),
    (
        run(state(S.FAILED, retriable=False), retry=TWICE, progress=Progress(run_count=1)),
        [
            Cause("FAILED", "It failed 10 seconds ago."),
            Cause("NOT_RETRIABLE", "Whoever ran it said that this failure is not to be retried."),
        ],
    ),
    (
        run(S.FAILED, retry=TWICE, written=Written(Verdict.ACCEPT, force=True)),
        [
            Cause("FAILED", "It failed 10 seconds ago.", "It was proposed with force."),
            Cause("FORCED", "It was ended by force, without a look at its retries."),
        ],
    ),
    (
        run(
            S.CRASHED,
            retry=TWICE,
            progress=Progress(run_count=1),
            written=ended("HEARTBEAT_LOST", "heartbeats_ceased", "It was silent for 30 seconds."),
        ),
        [
            Cause(
                "HEARTBEAT_LOST",
                "It crashed 10 seconds ago.",
                "The rule heartbeats_ceased decided so: It was silent for 30 seconds.",
            ),
            Cause(
                "CRASHES_NOT_RETRIED",
                "Its retries are for failures; it is not tried again after it crashed.",
            ),
        ],
    ),
    (
        run(
            S.FAILED,
            failed_task_runs=(
                Relative("a", "load-1", replace(state(S.FAILED), message="no space")),
                Relative("b", "load-2", state(S.CRASHED)),
            ),
            more_failed=True,
        ),
        [
            Cause("FAILED", "It failed 10 seconds ago."),
            Cause(
                "TASK_RUN_FAILED",
                "Its task run load-1 is Failed: no space.",
                resource_type="task_run",
                resource_id="a",
            ),
            Cause(
                "TASK_RUN_FAILED",
                "Its task run load-2 is Crashed.",
                resource_type="task_run",
                resource_id="b",
            ),
            Cause("TASK_RUN_FAILED", "More of its task runs failed or crashed."),
        ],
    ),
    (
        run(state(S.COMPLETED, "Cached", cache_key="k"), is_task_run=True, cached_from="other"),
        [
            Cause(
                "CACHED",
                "It did not run: 10 seconds ago its result was found in the cache.",
                "It stands under the key k.",
                resource_type="task_run",
                resource_id="other",
            )
        ],
    ),
    # --- what was refused ---
    (
        run(
            S.COMPLETED,
            refused=(
                Refused(
                    NOW - SECOND, "Running", Verdict.REJECT, "RESULT_PERSISTED", "It is kept.", "bo"
                ),
                Refused(NOW - MINUTE, "Paused", Verdict.ABORT, "RUN_FINISHED", "It has ended."),
            ),
        ),
        [
            Cause("COMPLETED", "It completed 10 seconds ago."),
            Cause(
                "RESULT_PERSISTED",
                "1 second ago bo proposed Running in vain (REJECT): It is kept.",
            ),
            Cause(
                "RUN_FINISHED",
                "1 minute ago someone proposed Paused in vain (ABORT): It has ended.",
            ),
        ],
    ),
]


@pytest.mark.parametrize(("circumstances", "causes"), ROWS)
def test_what_is_said(circumstances: Circumstances, causes: list[Cause]) -> None:
    made = explain(circumstances)
    assert list(made.causes) == causes
    assert made.summary == causes[0].words


@pytest.mark.parametrize("is_task_run", [False, True])
@pytest.mark.parametrize("type_", list(StateType))
def test_there_is_something_to_say_of_every_state(type_: StateType, is_task_run: bool) -> None:
    assert explain(run(type_, is_task_run=is_task_run)).summary


def test_long_texts_are_cut() -> None:
    assert len(explain(run(S.FAILED, "x" * 65_536)).summary) < 400


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (0, "less than a second"),
        (59 * SECOND, "59 seconds"),
        (60 * SECOND, "1 minute"),
        (90 * SECOND, "1 minute 30 seconds"),
        (119 * MINUTE, "1 hour 59 minutes"),
        (4 * 60 * MINUTE - SECOND, "3 hours"),
        (60 * MINUTE + SECOND, "1 hour"),
        (48 * 60 * MINUTE, "2 days"),
    ],
)
def test_times_are_told_as_precisely_as_it_matters(length: int, words: str) -> None:
    due = state(S.SCHEDULED, scheduled_time=NOW + length)
    expected = f"It is due in {words}." if length else f"It has been due for {words} and nobody"
    assert explain(run(due)).summary.startswith(expected)
