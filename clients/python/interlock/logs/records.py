"""Records as they wait to be shipped: plain values and pure functions, without any thread.

What it promises: whatever `logging` hands over becomes a line that the contract can carry. A time
that is none, and a message that is too long or is no Unicode, are made to fit, never refused.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias

from interlock.log_columns import DEFAULT_LEVEL, MAX_LEVEL
from interlock.logs.stderr import say
from interlock.text import cut, escape_surrogates, split

HANDLER_LOGGER = "interlock.logs"
"""The logger named by records that the handler itself adds to a log."""

RECORD_BYTES = 64
"""What a record costs in memory and on the wire beside its texts, about."""

MAX_LOGGER_BYTES = 1_000
"""Longer names of loggers are cut: many of them, each another, would not fit a message."""

_UUID = re.compile("[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_said: set[str] = set()
"""What was said once in this process, and is not said again."""

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
    level = record.levelno
    if not isinstance(level, int):
        level = DEFAULT_LEVEL
    name = record.name
    if not isinstance(name, str):
        name = str(name)
    return fit((microseconds(record.created), level, name, message, task_run_id, False))


def unformatted(record: logging.LogRecord, failure: Exception) -> str:
    """Write a record that can not be formatted: as it was logged, and why it can not be."""
    words = f"{_shown(record.msg)} (arguments {_shown(record.args)})"
    return f"{words} [can not be formatted: {_shown(failure)}]"


def fit(line: PlainLine) -> PlainLine:
    """Make a line fit for the contract. What had to be changed is said on stderr, once a kind."""
    time_us, level, logger, message, task_run_id, continued = line
    if not _EARLIEST <= time_us <= _LATEST:
        time_us = min(max(time_us, _EARLIEST), _LATEST)
        _say_once("the time of a log record is beyond the years 1 to 9999, and became their end")
    if not 0 <= level <= MAX_LEVEL:
        level = min(max(level, 0), MAX_LEVEL)
        _say_once(f"the level of a log record is beyond 0 to {MAX_LEVEL}, and became its end")
    if not logger.isascii():
        logger = _without_surrogates(logger)
    if len(logger) * 4 > MAX_LOGGER_BYTES and len(logger.encode()) > MAX_LOGGER_BYTES:
        logger = cut(logger, MAX_LOGGER_BYTES, "…")
        _say_once(f"the name of a logger is longer than {MAX_LOGGER_BYTES:,} bytes, and was cut")
    if not message.isascii():
        message = _without_surrogates(message)
    if task_run_id and not _is_uuid(task_run_id):
        _say_once("a log record names a task run by what is no UUID: ", f"{task_run_id[:100]!a}")
        task_run_id = ""
    return time_us, level, logger, message, task_run_id, continued


def own_line(time_us: int, words: str) -> PlainLine:
    """Make a line of the handler's own, a warning, for the readers of a log."""
    return time_us, logging.WARNING, HANDLER_LOGGER, escape_surrogates(words), "", False


def size_of(line: PlainLine) -> int:
    """Answer how many bytes a line takes, about, and never too few for its message."""
    # Four bytes are the most that a character takes. The name of a logger is mostly short, and
    # shared by many lines.
    message, logger = line[3], line[2]
    size = RECORD_BYTES + (len(message) if message.isascii() else 4 * len(message))
    return size if len(logger) < RECORD_BYTES else size + 4 * len(logger)


def parts_of(line: PlainLine, longest: int) -> Iterator[PlainLine]:
    """Cut a line whose message is longer than `longest` bytes into lines that go on in the next."""
    time_us, level, logger, message, task_run_id, _ = line
    parts = split(message, longest)
    for number, part in enumerate(parts, 1):
        yield time_us, level, logger, part, task_run_id, number < len(parts)


def microseconds(seconds: float) -> int:
    """Convert a time in seconds since 1970; what is no number becomes now."""
    if not math.isfinite(seconds):
        _say_once("the time of a log record is no number, and became the present")
        seconds = time.time()
    return int(seconds * 1_000_000)


def clock(time_us: int) -> str:
    """Write the time of day, in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(0, UTC)
    with contextlib.suppress(ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(time_us / 1e6, UTC)
    return moment.strftime("%H:%M:%S.%f")[:-3]


def _without_surrogates(text: str) -> str:
    escaped = escape_surrogates(text)
    if escaped is not text:
        _say_once("a log record has bytes that are not UTF-8; they are escaped, as in \\udcff")
    return escaped


@lru_cache(maxsize=4096)
def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def _shown(value: object) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception as failure:
        return f"<{type(value).__name__} whose repr raises {type(failure).__name__}>"


def _say_once(kind: str, example: str = "") -> None:
    if kind not in _said:
        _said.add(kind)
        say(f"{kind}{example}")
