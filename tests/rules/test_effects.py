"""What written states do to a run (RULES.md, section 6), as properties of any history."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from interlock_server.rules.effects import (
    entered,
    estimated_run_time,
    lateness,
    timestamp_after,
)
from interlock_server.rules.runs import FRESH, Progress
from interlock_server.rules.states import DEFAULT_NAMES, TERMINAL, State, StateDraft, StateType

from tests.rules.transitions import NOW, SECOND, draft

S = StateType
Step = tuple[State, Progress]


def history(steps: list[tuple[StateType, int]]) -> list[Step]:
    """Write states one after another, each that many microseconds after the one before it."""
    current, progress, now = None, FRESH, NOW
    written = []
    for number, (type_, pause) in enumerate(steps):
        now += pause
        timestamp = timestamp_after(current, now)
        made = StateDraft(type_, DEFAULT_NAMES[type_])
        progress = entered(progress, current, made, timestamp)
        current = State(str(number), type_, made.name, timestamp)
        written.append((current, progress))
    return written


# A clock may stand still between two states, and may be set back.
STEPS = st.lists(
    st.tuples(st.sampled_from(list(S)), st.integers(-5 * SECOND, 60 * SECOND)), min_size=1
)


@given(STEPS)
def test_timestamps_grow_whatever_the_clock_does(steps: list[tuple[StateType, int]]) -> None:
    times = [state.timestamp for state, _ in history(steps)]
    assert all(before < after for before, after in itertools.pairwise(times))


@given(STEPS)
def test_the_run_count_is_how_often_running_was_written(
    steps: list[tuple[StateType, int]],
) -> None:
    _, progress = history(steps)[-1]
    assert progress.run_count == sum(type_ is S.RUNNING for type_, _ in steps)


@given(STEPS)
def test_a_run_has_an_end_exactly_while_it_is_over(steps: list[tuple[StateType, int]]) -> None:
    for state, progress in history(steps):
        assert (progress.end_time is not None) == (state.type in TERMINAL)
        if progress.end_time is not None:
            assert progress.start_time is not None
            assert progress.start_time <= progress.end_time


@given(STEPS)
def test_the_start_and_the_expected_start_are_set_once(
    steps: list[tuple[StateType, int]],
) -> None:
    written = history(steps)
    for (_, before), (_, after) in itertools.pairwise(written):
        assert after.expected_start_time == before.expected_start_time
        if before.start_time is not None:
            assert after.start_time == before.start_time


@given(STEPS)
def test_the_run_time_is_what_was_spent_in_running(steps: list[tuple[StateType, int]]) -> None:
    written = history(steps)
    spent = sum(
        after.timestamp - before.timestamp
        for (before, _), (after, _) in itertools.pairwise(written)
        if before.type is S.RUNNING
    )
    current, progress = written[-1]
    assert progress.total_run_time == spent
    going_on = 7 * SECOND if current.type is S.RUNNING else 0
    now = current.timestamp + 7 * SECOND
    assert estimated_run_time(progress, current, now) == spent + going_on


def test_a_scheduled_run_is_expected_at_its_time_and_late_after_it() -> None:
    due = NOW + 60 * SECOND
    progress = entered(FRESH, None, draft(S.SCHEDULED, scheduled_time=due), NOW)
    waiting = State("s", S.SCHEDULED, "Scheduled", NOW)
    assert progress.expected_start_time == progress.next_scheduled_start_time == due
    assert lateness(progress, waiting, due - 1) == 0
    assert lateness(progress, waiting, due + 5) == 5
    started = entered(progress, waiting, draft(S.RUNNING), due + 9)
    assert started.next_scheduled_start_time is None
    assert lateness(started, State("r", S.RUNNING, "Running", due + 9), due + 100) == 9


def test_a_run_that_ended_without_a_start_is_not_late() -> None:
    progress = entered(FRESH, None, draft(S.SCHEDULED, scheduled_time=NOW), NOW)
    cancelled = State("c", S.CANCELLED, "Cancelled", NOW)
    assert lateness(Progress(expected_start_time=NOW), cancelled, NOW + SECOND) == 0
    assert progress.start_time is None


def test_a_resumed_run_counts_no_new_run_unless_it_never_ran() -> None:
    resuming = Progress(run_count=2, resuming=True)
    paused = State("p", S.PAUSED, "Paused", NOW)
    resumed = entered(resuming, paused, draft(S.RUNNING), NOW + 1)
    assert (resumed.run_count, resumed.resuming) == (2, False)
    never_ran = entered(Progress(resuming=True), paused, draft(S.RUNNING), NOW + 1)
    assert never_ran.run_count == 1
