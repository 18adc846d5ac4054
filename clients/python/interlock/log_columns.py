"""Log records to columns and back: pure functions, made for millions of records.

`LogColumns` is how the contract carries records in; see its comments for what each column means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import sub
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from interlock.v1.log_pb2 import LogColumns, LogRecord

DEFAULT_LEVEL = 20
MAX_LEVEL = 100


class Line(NamedTuple):
    """One log record, as plain values. `pack` takes plain tuples of this shape, too."""

    time_us: int
    """When it was made, in microseconds since 1970 in UTC."""
    level: int = DEFAULT_LEVEL
    """The level: 10 debug, 20 info, 30 warning, 40 error, 50 critical; 0 to 100."""
    logger: str = ""
    """The name of the logger; empty: not known."""
    message: str = ""
    """The message; any text without lone surrogates."""
    task_run_id: str = ""
    """The task run that it belongs to; empty: the flow run itself."""
    continued: bool = False
    """Whether the message goes on in the next record."""


class MalformedColumns(ValueError):
    """Columns that do not fit together."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"{column}: {problem}")
        self.column = column
        """The name of the column at fault."""


def pack(lines: Sequence[tuple[int, int, str, str, str, bool]]) -> LogColumns:
    """Make columns of at least one record. A column that would say nothing is left out."""
    if not lines:
        raise ValueError("There is nothing to pack")
    times, levels, loggers, messages, task_runs, continued = zip(*lines, strict=True)
    base = times[0]
    seconds, micros = divmod(base, 1_000_000)
    columns = LogColumns(
        messages=messages, base_time=Timestamp(seconds=seconds, nanos=micros * 1000)
    )
    if times.count(base) != len(times):
        columns.time_offsets_us.extend(map(sub, times, repeat(base)))
    if levels.count(DEFAULT_LEVEL) != len(levels):
        columns.levels.extend(levels)
    if loggers.count(loggers[0]) != len(loggers):
        numbers = {name: number for number, name in enumerate(dict.fromkeys(loggers))}
        columns.loggers.extend(numbers)
        columns.logger_indexes.extend(map(numbers.__getitem__, loggers))
    elif loggers[0]:
        columns.loggers.append(loggers[0])
    if task_runs.count(task_runs[0]) != len(task_runs):
        ids = dict.fromkeys(task_runs)
        ids.pop("", None)
        numbers = {"": 0} | {task_run: number for number, task_run in enumerate(ids, 1)}
        columns.task_run_ids.extend(ids)
        columns.task_run_indexes.extend(map(numbers.__getitem__, task_runs))
    elif task_runs[0]:
        columns.task_run_ids.append(task_runs[0])
    if True in continued:
        columns.continued.extend([i for i, goes_on in enumerate(continued) if goes_on])
    return columns


def join(parts: Sequence[LogColumns]) -> LogColumns:
    """Make one of the columns of records that follow each other; there is at least one part.

    Column by column, since that is far cheaper than record by record. A task run that no record
    names is left out. Raises MalformedColumns.
    """
    for part in parts:
        validate(part)
    counts = [len(part.messages) for part in parts]
    joined = LogColumns()
    for part in parts:
        joined.messages.extend(part.messages)
    _join_times(joined, parts, counts)
    if any(part.levels for part in parts):
        for part, count in zip(parts, counts, strict=True):
            joined.levels.extend(part.levels or [DEFAULT_LEVEL] * count)
    names = [list(part.loggers) or [""] for part in parts]
    indexes = [part.logger_indexes or [0] * n for part, n in zip(parts, counts, strict=True)]
    loggers, logger_indexes = _join_names(names, indexes, ())
    if len(loggers) > 1:
        joined.logger_indexes.extend(logger_indexes)
    if loggers != [""]:
        joined.loggers.extend(loggers)
    names = [["", *part.task_run_ids] for part in parts]
    indexes = [
        part.task_run_indexes or [min(1, len(part.task_run_ids))] * count
        for part, count in zip(parts, counts, strict=True)
    ]
    task_runs, task_run_indexes = _join_names(names, indexes, ("",))
    joined.task_run_ids.extend(task_runs[1:])
    if len(task_runs) > 1 and (len(task_runs) > 2 or 0 in task_run_indexes):
        joined.task_run_indexes.extend(task_run_indexes)
    start = 0
    for part, count in zip(parts, counts, strict=True):
        joined.continued.extend([start + mark for mark in part.continued])
        start += count
    return joined


def _join_times(joined: LogColumns, parts: Sequence[LogColumns], counts: Sequence[int]) -> None:
    bases = [_micros(part.base_time) for part in parts]
    joined.base_time.CopyFrom(parts[0].base_time)
    if bases.count(bases[0]) == len(bases) and not any(part.time_offsets_us for part in parts):
        return
    for part, base, count in zip(parts, bases, counts, strict=True):
        later = base - bases[0]
        offsets = part.time_offsets_us
        joined.time_offsets_us.extend(map(later.__add__, offsets) if offsets else [later] * count)


def _join_names(
    names: Sequence[Sequence[str]], indexes: Sequence[Sequence[int]], first: Iterable[str]
) -> tuple[list[str], list[int]]:
    """Answer the names that are used, those of `first` in any case, and the index of each record's
    name, given for each part its names and its records' indexes into them."""
    numbers = {name: number for number, name in enumerate(first)}
    joined: list[int] = []
    for own, of_records in zip(names, indexes, strict=True):
        # In order of first use, each number once.
        new = {
            number: numbers.setdefault(own[number], len(numbers))
            for number in dict.fromkeys(of_records)
        }
        joined.extend(map(new.__getitem__, of_records))
    return list(numbers), joined


def _micros(time: Timestamp) -> int:
    return time.seconds * 1_000_000 + time.nanos // 1000


def validate(columns: LogColumns) -> None:
    """Raise MalformedColumns where the columns do not fit together, or there is no record."""
    count = len(columns.messages)
    if not count:
        raise MalformedColumns("messages", "there is no record")
    if not columns.HasField("base_time"):
        raise MalformedColumns("base_time", "it is required")
    for name, column in (
        ("time_offsets_us", columns.time_offsets_us),
        ("levels", columns.levels),
        ("logger_indexes", columns.logger_indexes),
        ("task_run_indexes", columns.task_run_indexes),
    ):
        if column and len(column) != count:
            raise MalformedColumns(name, f"{len(column)} entries for {count} messages")
    if columns.levels and max(columns.levels) > MAX_LEVEL:
        raise MalformedColumns("levels", f"a level is above {MAX_LEVEL}")
    if columns.logger_indexes and max(columns.logger_indexes) >= max(1, len(columns.loggers)):
        raise MalformedColumns("logger_indexes", "an index is past the end of loggers")
    if columns.task_run_indexes and max(columns.task_run_indexes) > len(columns.task_run_ids):
        raise MalformedColumns("task_run_indexes", "an index is past the end of task_run_ids")
    marks = list(columns.continued)
    if marks and (marks[-1] >= count or any(map(int.__ge__, marks, marks[1:]))):
        raise MalformedColumns("continued", "it must ascend and stay below the number of messages")


def lines(columns: LogColumns) -> list[Line]:
    """Read the records as plain values. Raises MalformedColumns."""
    return list(map(Line, *_spread(columns)))


def unpack(columns: LogColumns, first_ordinal: int) -> list[LogRecord]:
    """Read the records as messages, numbered from `first_ordinal` on. Raises MalformedColumns."""
    return [
        LogRecord(
            ordinal=ordinal,
            time=Timestamp(seconds=time // 1_000_000, nanos=time % 1_000_000 * 1000),
            level=level,
            logger=logger,
            message=message,
            task_run_id=task_run_id,
            continued=continued,
        )
        for ordinal, (time, level, logger, message, task_run_id, continued) in enumerate(
            zip(*_spread(columns), strict=False), first_ordinal
        )
    ]


def _spread(
    columns: LogColumns,
) -> tuple[
    Iterable[int], Iterable[int], Iterable[str], Iterable[str], Iterable[str], Iterable[bool]
]:
    """Answer each column in full, in the order of Line's fields; the messages bound the length."""
    validate(columns)
    messages = columns.messages
    count = len(messages)
    base = _micros(columns.base_time)
    loggers = list(columns.loggers) or [""]
    task_runs = ["", *columns.task_run_ids]
    only_task_run = task_runs[1] if len(task_runs) > 1 else ""
    continued = [False] * count
    for index in columns.continued:
        continued[index] = True
    return (
        map(base.__add__, columns.time_offsets_us) if columns.time_offsets_us else [base] * count,
        columns.levels or [DEFAULT_LEVEL] * count,
        map(loggers.__getitem__, columns.logger_indexes)
        if columns.logger_indexes
        else [loggers[0]] * count,
        messages,
        map(task_runs.__getitem__, columns.task_run_indexes)
        if columns.task_run_indexes
        else [only_task_run] * count,
        continued,
    )
