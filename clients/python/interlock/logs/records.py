"""Records as they wait to be shipped: plain values and pure functions, without any thread.

What it promises: whatever `logging` hands over becomes a line that the contract can carry. A time
that is none, and a message that is too long or is no Unicode, are made to fit, never refused.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from interlock.log_columns import MAX_LEVEL
from interlock.text import escape_surrogates, split

HANDLER_LOGGER = "interlock.logs"
"""The logger named by records that the handler itself adds to a log."""

RECORD_BYTES = 64
"""What a record costs in memory and on the wire beside its texts, about."""

_EARLIEST = -62_135_596_800 * 1_000_000
_LATEST = 253_402_300_800 * 1_000_000 - 1
"""The years 1 to 9999 in microseconds since 1970: what a Timestamp holds."""

PlainLine: TypeAlias = tuple[int, int, str, str, str, bool]
"""A record as `pack` takes it: what `log_columns.Line` is, without the names."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in the queue."""

    run_id: str
    """Whose log it goes to."""
    line: PlainLine
    size: int
    """In bytes, about; see `size_of`."""


def line_of(record: logging.LogRecord, message: str, task_run_id: str) -> PlainLine:
    """Make a line of a record whose message is formatted already."""
    return (
        microseconds(record.created),
        min(max(int(record.levelno), 0), MAX_LEVEL),
        escape_surrogates(record.name),
        escape_surrogates(message),
        task_run_id,
        False,
    )


def fit(line: PlainLine) -> PlainLine:
    """Make a line fit for the contract: what is out of a range becomes its nearest end."""
    time_us, level, logger, message, task_run_id, continued = line
    return (
        min(max(time_us, _EARLIEST), _LATEST),
        min(max(level, 0), MAX_LEVEL),
        escape_surrogates(logger),
        escape_surrogates(message),
        task_run_id,
        continued,
    )


def own_line(time_us: int, words: str) -> PlainLine:
    """Make a line of the handler's own, a warning, for the readers of a log."""
    return time_us, logging.WARNING, HANDLER_LOGGER, escape_surrogates(words), "", False


def size_of(line: PlainLine) -> int:
    """Answer how many bytes a line takes, about, and never too few for its message."""
    # Four bytes are the most that a character takes.
    message = line[3]
    return RECORD_BYTES + (len(message) if message.isascii() else 4 * len(message))


def parts_of(line: PlainLine, longest: int) -> Iterator[PlainLine]:
    """Cut a line whose message is longer than `longest` bytes into lines that go on in the next."""
    time_us, level, logger, message, task_run_id, _ = line
    parts = split(message, longest)
    for number, part in enumerate(parts, 1):
        yield time_us, level, logger, part, task_run_id, number < len(parts)


def microseconds(seconds: float) -> int:
    """Convert a time in seconds since 1970; what is no time becomes now, or the nearest one."""
    if not math.isfinite(seconds):
        seconds = time.time()
    return min(max(int(seconds * 1_000_000), _EARLIEST), _LATEST)


def clock(time_us: int) -> str:
    """Write the time of day, in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(0, UTC)
    with contextlib.suppress(ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(time_us / 1e6, UTC)
    return moment.strftime("%H:%M:%S.%f")[:-3]
