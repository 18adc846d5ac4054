"""Log files: how records are written to them, and read from them.

A text file has the messages as they were written, a line each. A file of JSON lines has all that
is known of each record, so that it comes back the same.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from google.protobuf.timestamp_pb2 import Timestamp
from interlock.log_columns import MAX_LEVEL, Line

if TYPE_CHECKING:
    from interlock.v1.log_pb2 import LogRecord

_PIECE_BYTES = 1024 * 1024
"""How much of a line is read at once. A longer one is taken in pieces, of which each but the last
is marked as going on."""

_MOST_PIECES = 16
"""Of a line of JSON: far more than a message may have with all of it escaped."""


class LogFileError(Exception):
    """A file that is not what it was said to be; the message names the line."""


def as_json_line(record: LogRecord) -> str:
    """Write all that is known of a record as a line of JSON, without what is empty."""
    made: dict[str, Any] = {
        "ordinal": record.ordinal,
        "time": record.time.ToJsonString(),
        "level": record.level,
        "message": record.message,
    }
    if record.logger:
        made["logger"] = record.logger
    if record.task_run_id:
        made["task_run_id"] = record.task_run_id
    if record.continued:
        made["continued"] = True
    return json.dumps(made, ensure_ascii=False) + "\n"


def from_json_line(text: str, number: int) -> Line:
    """Read what `as_json_line` has written; also the lines of `flow-run logs --json`.

    `number` is the line's own, for LogFileError.
    """

    def wrong(what: str) -> LogFileError:
        return LogFileError(f"Line {number:,} is no log record: {what}.")

    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise wrong("it is no JSON") from None
    if not isinstance(given, dict):
        raise wrong("it is no JSON object")
    texts = {}
    for name in ("message", "logger", "task_run_id"):
        texts[name] = given.get(name, "")
        if not isinstance(texts[name], str):
            raise wrong(f"its {name} is no text")
    level, continued = given.get("level", 0), given.get("continued", False)
    if type(level) is not int or not 0 <= level <= MAX_LEVEL:
        raise wrong(f"its level is no number from 0 to {MAX_LEVEL}")
    if not isinstance(continued, bool):
        raise wrong("its continued is neither true nor false")
    time = Timestamp()
    try:
        time.FromJsonString(given["time"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise wrong("it has no time such as 2026-01-31T12:00:00.5Z") from None
    return Line(
        time.ToMicroseconds(), level, texts["logger"], texts["message"], texts["task_run_id"],
        continued,
    )  # fmt: skip


def looks_like_json_lines(first_line: str) -> bool:
    """Tell whether a file that begins so was written by `as_json_line`."""
    if not first_line.startswith("{"):
        return False
    try:
        from_json_line(first_line, 1)
    except LogFileError:
        return False
    return '"message"' in first_line or '"ordinal"' in first_line


@dataclass(slots=True)
class TextCounts:
    """What was found in a text file."""

    lines: int = 0
    replaced: int = 0
    """How many lines held bytes that are no UTF-8, which were replaced by U+FFFD."""
    with_cr: int = 0
    """How many lines ended with CRLF; the CR is the last character of their message."""
    last_is_open: bool = False
    """Whether the last line had no newline."""


def pieces(file: BinaryIO, counts: TextCounts) -> Iterator[tuple[str, bool]]:
    """Read a file line by line: texts without the newline, and whether the line goes on.

    Only LF ends a line. Memory stays bounded, however long a line is.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    bad = False
    while data := file.readline(_PIECE_BYTES):
        whole = data.endswith(b"\n")
        text = decoder.decode(data[:-1] if whole else data, final=whole)
        bad = bad or ("\ufffd" in text and b"\xef\xbf\xbd" not in data)
        if not whole and len(data) == _PIECE_BYTES:
            yield text, True
            continue
        if not whole:
            text += decoder.decode(b"", final=True)
            bad = bad or text.endswith("\ufffd")
            counts.last_is_open = True
        counts.lines += 1
        counts.replaced += bad
        counts.with_cr += text.endswith("\r")
        bad = False
        yield text, False


def whole_lines(given: Iterable[tuple[str, bool]]) -> Iterator[str]:
    """Put lines together again. Raises LogFileError for one that no record can be as long as."""
    parts: list[str] = []
    for number, (text, goes_on) in enumerate(given, 1):
        parts.append(text)
        if len(parts) > _MOST_PIECES:
            raise LogFileError(f"Line {number - _MOST_PIECES:,} or one after it is too long.")
        if not goes_on:
            yield "".join(parts)
            parts.clear()


def text_lines(
    given: Iterable[tuple[str, bool]], recognize: Callable[[str], tuple[int, int]], logger: str
) -> Iterator[Line]:
    """Make a record of each line: its message is the line as it is."""
    goes_on = False
    time_us, level = 0, 0
    for text, continued in given:
        if not goes_on:
            time_us, level = recognize(text[:400])
        goes_on = continued
        yield Line(time_us, level, logger, text, "", continued)
