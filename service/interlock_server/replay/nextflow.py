"""Nextflow's trace file (`execution_trace.txt`, `trace.txt`), written by `-with-trace`.

A table with tabs between its columns and their names in its first line; which columns there are is
the user's choice (`trace.fields`, https://docs.seqera.io/nextflow/reports#trace-file). Needed are
`task_id`, `status`, and `duration` or `realtime`.

What its columns mean here: `submit` and `duration` (submission to completion) place the end,
`realtime` (execution) before it the start, unless there are `start` and `complete`. Durations are
rounded for people (`1m 19s`), so these times are as exact as the rounding; with `trace.raw`, they
are milliseconds. Without `realtime`, all of the time since submission counts as
execution. Times name no time zone: only their differences mean anything.

The file knows no dependencies. A retry is a row of its own, with its own task_id and the name of
the row that failed. Where there is an `attempt` column, it says so; else rows of one name are
taken for the attempts at one task only if each began after the one before it had failed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from interlock_server.replay.graph import validate
from interlock_server.replay.source import finite_number, numbered_lines, whole_number
from interlock_server.replay.trace import Attempt, Outcome, Trace, TraceError, TraceTask

SOURCE_FORMAT = "Nextflow trace file"

_NOT_AVAILABLE = "-"
_OUTCOMES = {
    "COMPLETED": Outcome.COMPLETED,
    "CACHED": Outcome.CACHED,
    "FAILED": Outcome.FAILED,
    "ABORTED": Outcome.CANCELLED,
    "NEW": Outcome.UNFINISHED,
    "SUBMITTED": Outcome.UNFINISHED,
    "RUNNING": Outcome.UNFINISHED,
}
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)(?:\s+|\Z))+\Z")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\b")


def parse(text: str, source: str) -> Trace:
    """Read a trace file.

    Args:
        text: the whole file.
        source: the file's name, for errors.

    Raises:
        TraceError: naming the line, and the column where one can not be read.
    """
    lines = list(numbered_lines(text))
    columns = _columns(lines[0][1] if lines else "", f"{source}:1")
    rows = [_row(line, columns, f"{source}:{number}") for number, line in lines[1:]]
    origin = min((t for row in rows for t in row.times()), default=0.0)
    tasks = _tasks(rows, has_attempts="attempt" in columns)
    end = max((t for row in rows for t in row.times()), default=origin)
    notes = ["the trace file records no dependencies"]
    cached = sum(row.outcome is Outcome.CACHED for row in rows)
    if cached:
        notes.append(f"{cached} tasks were cached: what they took, they took in an earlier run")
    trace = Trace(
        name=Path(source).stem,
        source_format=SOURCE_FORMAT,
        tasks=tuple(_task(rows_of_task, origin, end) for rows_of_task in tasks),
        makespan=round(end - origin, 6),
        notes=tuple(notes),
    )
    return validate(trace, source)


def parse_duration(word: str) -> float | None:
    """The seconds that a Nextflow duration stands for, such as `1m 19s`, `7.3s` or `250ms`.

    A bare number is milliseconds, as with `trace.raw`. None for anything else.
    """
    if word.isdecimal():
        milliseconds = finite_number(word)
        return None if milliseconds is None else milliseconds / 1000
    if not _DURATION.match(word):
        return None
    parts = _DURATION_PART.findall(word)
    return sum(float(amount) * _UNIT_SECONDS[unit] for amount, unit in parts)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line, with its times in epoch seconds as if they were UTC."""

    where: str
    task_id: str
    name: str
    outcome: Outcome
    attempt: int
    duration: float
    submitted: float | None
    started: float | None
    ended: float | None
    exit_code: int | None
    host: str | None
    status: str

    def times(self) -> list[float]:
        return [t for t in (self.submitted, self.started, self.ended) if t is not None]


def _columns(header: str, where: str) -> dict[str, int]:
    """Where each column is, by its name."""
    names = header.split("\t")
    columns = {name.strip(): position for position, name in enumerate(names)}
    if len(columns) != len(names):
        raise TraceError(where, "two columns have the same name", "name each column once")
    for needed in ("task_id", "status"):
        if needed not in columns:
            raise TraceError(
                where, f"there is no column {needed!r}", "add it to Nextflow's trace.fields"
            )
    if not {"duration", "realtime"} & columns.keys():
        raise TraceError(
            where,
            "there is neither a column 'duration' nor 'realtime'",
            "add one to Nextflow's trace.fields",
        )
    return columns


def _row(line: str, columns: dict[str, int], where: str) -> _Row:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) != len(columns):
        raise TraceError(
            where,
            f"has {len(cells)} columns, the first line {len(columns)}",
            "the line may be cut short: complete or remove it",
        )

    def cell(name: str) -> str:
        """The cell's text; empty where there is no such column or no value."""
        value = cells[columns[name]] if name in columns else ""
        return "" if value == _NOT_AVAILABLE else value

    status = cell("status")
    if status not in _OUTCOMES:
        raise TraceError(
            where, f"the status is {status!r}", f"it must be one of {', '.join(_OUTCOMES)}"
        )
    task_id = cell("task_id")
    if not task_id:
        raise TraceError(where, "the task_id is empty", "give every task one")
    return _timed(
        _Row(
            where=where,
            task_id=task_id,
            name=_name(cell) or task_id,
            outcome=_OUTCOMES[status],
            attempt=_whole(cell("attempt"), "attempt", where) or 1,
            duration=0.0,
            submitted=None,
            started=None,
            ended=None,
            exit_code=_whole(cell("exit"), "exit", where),
            host=cell("hostname") or None,
            status=status,
        ),
        cell,
    )


def _timed(row: _Row, cell: Callable[[str], str]) -> _Row:
    """The row with its times and its duration."""
    if row.outcome is Outcome.CACHED:
        # Its times are those of the run that did the work, perhaps years ago.
        return row
    submitted = _moment(cell("submit"), "submit", row.where)
    started = _moment(cell("start"), "start", row.where)
    if row.outcome is Outcome.UNFINISHED:
        return replace(row, submitted=submitted, started=started)
    ended = _moment(cell("complete"), "complete", row.where)
    since_submission = _seconds(cell("duration"), "duration", row.where)
    execution = _seconds(cell("realtime"), "realtime", row.where)
    if ended is None and submitted is not None and since_submission is not None:
        ended = submitted + since_submission
    if started is None and ended is not None and execution is not None:
        started = ended - execution
        if submitted is not None:
            # The two durations are rounded apart from each other.
            started = max(started, submitted)
    if execution is None:
        if started is not None and ended is not None:
            execution = max(0.0, ended - started)
        elif started is None:
            execution = since_submission or 0.0
            started = submitted if execution else None
        else:
            execution = 0.0
    return replace(row, submitted=submitted, started=started, ended=ended, duration=execution)


def _tasks(rows: list[_Row], *, has_attempts: bool) -> list[list[_Row]]:
    """The rows of each task, oldest attempt first; tasks in the order of their first rows."""
    seen: dict[str, str] = {}
    for row in rows:
        if row.task_id in seen:
            raise TraceError(
                row.where,
                f"repeats the task_id {row.task_id!r} of {seen[row.task_id]}",
                "keep one of these lines",
            )
        seen[row.task_id] = row.where
    tasks: list[list[_Row]] = []
    by_name: dict[str, list[list[_Row]]] = {}
    chains = set() if has_attempts else _names_of_chains(rows)
    for row in sorted(rows, key=lambda r: r.attempt) if has_attempts else rows:
        candidates = by_name.setdefault(row.name, [])
        earlier = None
        if has_attempts:
            earlier = next((c for c in candidates if _is_retry(c, row)), None)
        elif row.name in chains and candidates:
            earlier = candidates[0]
        if earlier is None:
            candidates.append([row])
            tasks.append(candidates[-1])
        else:
            earlier.append(row)
    order = {row.task_id: position for position, row in enumerate(rows)}
    for attempts in tasks:
        attempts.sort(key=lambda r: (r.attempt, r.submitted or 0.0, order[r.task_id]))
    return sorted(tasks, key=lambda attempts: order[attempts[0].task_id])


def _is_retry(earlier: list[_Row], row: _Row) -> bool:
    return (
        earlier[-1].attempt == row.attempt - 1
        and earlier[-1].outcome in (Outcome.FAILED, Outcome.CANCELLED)
        and _follows(earlier[-1], row)
    )


def _follows(earlier: _Row, later: _Row) -> bool:
    """Whether the later row was submitted when the earlier one had ended, so far as is known."""
    if earlier.ended is None or later.submitted is None:
        return True
    # Durations are rounded, to a tenth of a second below a minute and to a second above it.
    rounding = 0.1 if earlier.duration < 60 else 1.0
    return later.submitted >= earlier.ended - rounding


def _names_of_chains(rows: list[_Row]) -> set[str]:
    """The names whose rows can only be the attempts at one task: each follows one that failed."""
    by_name: dict[str, list[_Row]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    chains = set()
    for name, found in by_name.items():
        if any(row.submitted is None for row in found):
            continue
        ordered = sorted(found, key=lambda r: r.submitted or 0.0)
        if all(a.outcome is Outcome.FAILED and _follows(a, b) for a, b in pairwise(ordered)):
            chains.add(name)
    return chains


def _task(rows: list[_Row], origin: float, end: float) -> TraceTask:
    """One task of the trace, under the id of its first attempt."""
    return TraceTask(
        id=rows[0].task_id,
        name=rows[0].name,
        attempts=tuple(_attempt(row, origin, end) for row in rows),
    )


def _attempt(row: _Row, origin: float, end: float) -> Attempt:
    def relative(time: float | None) -> float | None:
        return None if time is None else round(time - origin, 6)

    duration = row.duration
    if row.outcome is Outcome.UNFINISHED and row.started is not None:
        duration = round(end - row.started, 6)
    failed = row.outcome is Outcome.FAILED and row.exit_code is not None
    return Attempt(
        outcome=row.outcome,
        duration=duration,
        submitted=relative(row.submitted),
        started=relative(row.started),
        ended=relative(row.ended),
        exit_code=row.exit_code,
        host=row.host,
        message=f"returned {row.exit_code}" if failed else "",
    )


def _name(cell: Callable[[str], str]) -> str:
    """The full name: as given, else put together as Nextflow does, "process (tag)"."""
    process, tag = cell("process"), cell("tag")
    return cell("name") or (f"{process} ({tag})" if process and tag else process)


def _whole(value: str, column: str, where: str) -> int | None:
    if not value:
        return None
    number = whole_number(value)
    if number is None:
        raise TraceError(
            where, f"column {column!r} has {value!r}", "it must be a whole number or '-'"
        )
    return number


def _seconds(value: str, column: str, where: str) -> float | None:
    if not value:
        return None
    seconds = parse_duration(value)
    if seconds is None:
        raise TraceError(
            where, f"column {column!r} has {value!r}", "a duration looks like '1m 19s' or '250ms'"
        )
    return seconds


def _moment(value: str, column: str, where: str) -> float | None:
    """Epoch seconds as if the time were UTC; with `trace.raw`, the value is epoch milliseconds."""
    if not value:
        return None
    if value.isdecimal():
        milliseconds = finite_number(value)
        return None if milliseconds is None else milliseconds / 1000
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise TraceError(
            where, f"column {column!r} has {value!r}", "a time looks like '2021-02-17 17:03:21.800'"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
