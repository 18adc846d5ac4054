import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock_server.replay import Attempt, Outcome, Trace, TraceError
from interlock_server.replay.nextflow import parse, parse_duration

DEFAULT = "task_id name status exit submit duration realtime"
DAY = "2021-02-17"


def table(*rows: str, header: str = DEFAULT) -> str:
    """A trace file; the rows are written with | between their columns."""
    lines = ["\t".join(header.split())]
    lines += ["\t".join(cell.strip() for cell in row.split("|")) for row in rows]
    return "\n".join(lines) + "\n"


def read(*rows: str, header: str = DEFAULT) -> Trace:
    return parse(table(*rows, header=header), "run/trace.txt")


def only(trace: Trace) -> Attempt:
    ((attempt,),) = (task.attempts for task in trace.tasks)
    return attempt


@pytest.mark.parametrize(
    ("word", "seconds"),
    [
        ("250ms", 0.25),
        ("0ms", 0.0),
        ("7.3s", 7.3),
        ("1m 19s", 79.0),
        ("1m", 60.0),
        ("2h 3m 4s", 7384.0),
        ("1d 1h", 90000.0),
        ("1m 19s 5ms", 79.005),
        ("0", 0.0),
        ("1500", 1.5),
        ("", None),
        ("-", None),
        ("-5s", None),
        ("5 parsecs", None),
        ("1m19", None),
        ("NaN", None),
        ("s", None),
    ],
)
def test_durations(word: str, seconds: float | None) -> None:
    assert parse_duration(word) == (seconds if seconds is None else pytest.approx(seconds))


@given(st.integers(0, 9), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_add_up(days: int, hours: int, minutes: int, seconds: int) -> None:
    word = f"{days}d {hours}h {minutes}m {seconds}s"
    assert parse_duration(word) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_none(word: str) -> None:
    seconds = parse_duration(word)
    assert seconds is None or seconds >= 0


def test_the_end_follows_from_submission_and_the_start_from_the_end() -> None:
    trace = read(
        f"2 | P (x) | COMPLETED | 0 | {DAY} 10:00:05.000 | 10s | 4s",
        f"1 | P (y) | FAILED | 127 | {DAY} 10:00:00.500 | 1s | 900ms",
    )
    assert (trace.name, trace.source_format, trace.makespan) == (
        "trace",
        "Nextflow trace file",
        14.5,
    )
    assert trace.notes == ("the trace file records no dependencies",)
    first, second = trace.tasks
    assert (first.id, first.name, first.parents) == ("2", "P (x)", ())
    assert first.attempts == (
        Attempt(
            outcome=Outcome.COMPLETED,
            submitted=4.5,
            started=10.5,
            ended=14.5,
            duration=4,
            exit_code=0,
        ),
    )
    assert second.attempts == (
        Attempt(
            outcome=Outcome.FAILED,
            submitted=0,
            started=0.1,
            ended=1,
            duration=0.9,
            exit_code=127,
            message="returned 127",
        ),
    )


def test_start_and_complete_are_preferred_where_they_are() -> None:
    trace = read(
        f"1 | P | T | COMPLETED | {DAY} 10:00:00.000 | {DAY} 10:00:02.000 | {DAY} 10:00:05.000"
        " | 9s | h",
        header="task_id process tag status submit start complete duration hostname",
    )
    attempt = only(trace)
    assert trace.tasks[0].name == "P (T)"
    assert (attempt.started, attempt.ended, attempt.duration, attempt.host) == (2, 5, 3, "h")


def test_raw_values_are_milliseconds() -> None:
    attempt = only(read("1 | P | COMPLETED | 0 | 1613580000500 | 1500 | 1000"))
    assert (attempt.submitted, attempt.started, attempt.ended) == (0, 0.5, 1.5)


def test_rounding_never_puts_the_start_before_submission() -> None:
    attempt = only(read(f"1 | P | COMPLETED | 0 | {DAY} 10:00:00.000 | 1m 20s | 1m 21s"))
    assert (attempt.started, attempt.ended, attempt.duration) == (0, 80, 81)


def test_without_realtime_all_time_since_submission_counts() -> None:
    attempt = only(read(f"1 | P | COMPLETED | 0 | {DAY} 10:00:00.000 | 5s | -"))
    assert (attempt.started, attempt.ended, attempt.duration) == (0, 5, 5)


def test_a_cached_task_took_no_time_in_this_run() -> None:
    trace = read(
        "1 | P | CACHED | 0 | 2019-01-01 00:00:00.000 | 1h | 1h",
        f"2 | Q | COMPLETED | 0 | {DAY} 10:00:00.000 | 2s | 1s",
    )
    cached = trace.tasks[0].attempts[0]
    assert (cached.outcome, cached.duration, cached.has_times) == (Outcome.CACHED, 0, False)
    assert trace.makespan == 2
    assert "1 tasks were cached: what they took, they took in an earlier run" in trace.notes


def test_an_aborted_task_was_cancelled() -> None:
    attempt = only(read(f"1 | P | ABORTED | - | {DAY} 10:00:00.000 | - | -"))
    assert (attempt.outcome, attempt.exit_code) == (Outcome.CANCELLED, None)
    assert (attempt.submitted, attempt.started, attempt.duration) == (0, None, 0)


def test_a_running_task_is_unfinished() -> None:
    trace = read(
        f"1 | P | RUNNING | - | {DAY} 10:00:00.000 | {DAY} 10:00:01.000 | -",
        f"2 | Q | COMPLETED | 0 | {DAY} 10:00:00.000 | {DAY} 10:00:00.000 | 8s",
        header="task_id name status exit submit start duration",
    )
    attempt = trace.tasks[0].attempts[0]
    assert (attempt.outcome, attempt.ended, attempt.duration) == (Outcome.UNFINISHED, None, 7)


def test_a_retry_is_told_by_the_attempt_column() -> None:
    trace = read(
        f"1 | P (x) | FAILED | 1 | {DAY} 10:00:00.000 | 2s | 1s | 1",
        f"2 | P (x) | FAILED | 1 | {DAY} 10:00:00.000 | 2s | 1s | 1",
        f"4 | P (x) | COMPLETED | 0 | {DAY} 10:00:09.000 | 2s | 1s | 3",
        f"3 | P (x) | FAILED | 1 | {DAY} 10:00:03.000 | 2s | 1s | 2",
        f"5 | P (y) | COMPLETED | 0 | {DAY} 10:00:03.000 | 2s | 1s | 1",
        header=DEFAULT + " attempt",
    )
    assert [(task.id, len(task.attempts)) for task in trace.tasks] == [("1", 3), ("2", 1), ("5", 1)]
    assert [a.outcome for a in trace.tasks[0].attempts] == [
        Outcome.FAILED,
        Outcome.FAILED,
        Outcome.COMPLETED,
    ]


def test_without_that_column_a_name_that_failed_and_came_again_was_retried() -> None:
    trace = read(
        f"7 | P (x) | COMPLETED | 0 | {DAY} 10:00:09.000 | 2s | 1s",
        f"1 | P (x) | FAILED | 1 | {DAY} 10:00:00.000 | 2s | 1s",
    )
    (task,) = trace.tasks
    assert (task.id, task.retries, task.outcome) == ("1", 1, Outcome.COMPLETED)


@pytest.mark.parametrize(
    "rows",
    [
        # Both succeeded, or they overlap: two tasks that share a name.
        (
            "1 | P | COMPLETED | 0 | {d} 10:00:00 | 2s | 1s",
            "2 | P | FAILED | 1 | {d} 10:01:00 | 2s | 1s",
        ),
        (
            "1 | P | FAILED | 1 | {d} 10:00:00 | 5s | 1s",
            "2 | P | COMPLETED | 0 | {d} 10:00:04 | 2s | 1s",
        ),
        ("1 | P | FAILED | 1 | - | 5s | 1s", "2 | P | COMPLETED | 0 | - | 2s | 1s"),
    ],
)
def test_rows_that_share_a_name_without_being_retries(rows: tuple[str, str]) -> None:
    trace = read(*(row.format(d=DAY) for row in rows))
    assert [task.retries for task in trace.tasks] == [0, 0]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1 | P | COMPLETED", "has 3 columns, the first line 7"),
        ("- | P | COMPLETED | 0 | - | 1s | 1s", "the task_id is empty"),
        ("0 | P | COMPLETED | 0 | - | 1s | 1s", "repeats the task_id '0' of run/trace.txt:2"),
        ("1 | P | DONE | 0 | - | 1s | 1s", "the status is 'DONE'"),
        ("1 | P | FAILED | x | - | 1s | 1s", "column 'exit' has 'x'"),
        ("1 | P | FAILED | 1 | noon | 1s | 1s", "column 'submit' has 'noon'"),
        ("1 | P | FAILED | 1 | - | -1s | 1s", "column 'duration' has '-1s'"),
        ("1 | P | FAILED | 1 | - | 1s | NaN", "column 'realtime' has 'NaN'"),
    ],
)
def test_a_broken_row_is_named(row: str, problem: str) -> None:
    with pytest.raises(TraceError) as raised:
        read("0 | P | COMPLETED | 0 | - | 1s | 1s", row)
    assert raised.value.where == "run/trace.txt:3"
    assert raised.value.problem == problem


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("task_id duration", "there is no column 'status'"),
        ("status duration", "there is no column 'task_id'"),
        ("task_id status", "there is neither a column 'duration' nor 'realtime'"),
        ("task_id status status duration", "two columns have the same name"),
    ],
)
def test_a_header_without_what_is_needed_is_refused(header: str, problem: str) -> None:
    with pytest.raises(TraceError) as raised:
        read(header=header)
    assert (raised.value.where, raised.value.problem) == ("run/trace.txt:1", problem)


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(TraceError, match="this Nextflow trace file trace has no tasks"):
        read()
