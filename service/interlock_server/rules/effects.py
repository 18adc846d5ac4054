"""What a written state does to its run: times, run count, lateness (RULES.md, section 6)."""

from __future__ import annotations

from dataclasses import replace

from interlock_server.rules.runs import Progress
from interlock_server.rules.states import TERMINAL, Micros, State, StateDraft, StateType


def timestamp_after(current: State | None, now: Micros) -> Micros:
    """Answer the timestamp of a state written now: within a run they strictly grow."""
    return now if current is None or current.timestamp < now else current.timestamp + 1


def entered(
    progress: Progress, current: State | None, written: StateDraft, timestamp: Micros
) -> Progress:
    """Answer the run's progress after `written` has followed `current` at `timestamp`."""
    from_type = current.type if current else None
    was_over, is_over = from_type in TERMINAL, written.type in TERMINAL
    running = written.type is StateType.RUNNING
    scheduled = written.type is StateType.SCHEDULED
    due = None
    if scheduled:
        given = written.details.scheduled_time
        due = timestamp if given is None else given

    run_count, start_time, end_time = progress.run_count, progress.start_time, progress.end_time
    if running:
        if not (progress.resuming and run_count > 0):
            run_count += 1
        if start_time is None:
            start_time = timestamp
    if is_over and not was_over:
        end_time = timestamp
        if start_time is None:
            start_time = timestamp
    elif was_over and not is_over:
        end_time = None

    total_run_time = progress.total_run_time
    if current is not None and from_type is StateType.RUNNING:
        total_run_time += timestamp - current.timestamp

    expected = progress.expected_start_time
    if expected is None:
        expected = due if due is not None else timestamp

    return Progress(
        run_count,
        start_time,
        end_time,
        total_run_time,
        expected,
        due,
        progress.flow_run_run_count,
        progress.resuming and not (running or is_over),
        progress.pause_keys,
        progress.retry_type,
    )


def estimated_run_time(progress: Progress, current: State | None, now: Micros) -> Micros:
    """Answer how long the run has been in RUNNING, the stretch that goes on included."""
    if current is None or current.type is not StateType.RUNNING:
        return progress.total_run_time
    return progress.total_run_time + max(0, now - current.timestamp)


def lateness(progress: Progress, current: State | None, now: Micros) -> Micros:
    """Answer how late the run started, or is now; 0 where it ended without having started."""
    if progress.expected_start_time is None:
        return 0
    if progress.start_time is not None:
        return max(0, progress.start_time - progress.expected_start_time)
    if current is not None and current.type in TERMINAL:
        return 0
    return max(0, now - progress.expected_start_time)


def fresh_attempt(progress: Progress, **changes: object) -> Progress:
    """Answer the progress of a run whose attempt starts afresh: nothing is resuming or paused."""
    return replace(progress, resuming=False, pause_keys=(), **changes)  # type: ignore[arg-type]
