"""Lines of a log as the requests of single calls: pure functions, without any I/O.

Who logs for long has `interlock.InterlockHandler`, which is far cheaper for many lines.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from interlock.ids import uuid7
from interlock.log_columns import Line, pack
from interlock.text import escape_surrogates, split
from interlock.v1.log_pb2 import WriteLogsRequest
from interlock.v1.server_pb2 import Limits

LEAST_LIMITS = Limits(
    max_message_bytes=4 * 1024 * 1024,
    max_log_batch_records=1_000,
    max_log_message_bytes=256 * 1024,
)
"""What every server takes: lines that fit are sent without asking for its limits."""

_LINE_BYTES = 64
"""What a line takes on the wire beside its texts, at the most."""


def lines_of(given: Iterable[Line | str]) -> list[Line]:
    """Complete what was given: a text is a line of level INFO, made now.

    Lone surrogates, which the contract can not carry, are escaped.
    """
    now = time.time_ns() // 1000
    return [
        Line(now, message=escape_surrogates(each))
        if isinstance(each, str)
        else (line := Line(*each))._replace(
            logger=escape_surrogates(line.logger), message=escape_surrogates(line.message)
        )
        for each in given
    ]


def fits(lines: list[Line], limits: Limits) -> bool:
    """Tell whether lines can be sent in one call, none of them split."""
    return (
        len(lines) <= limits.max_log_batch_records
        and all(_bytes(line) <= limits.max_log_message_bytes for line in lines)
        and sum(map(_bytes, lines)) <= _room(limits)
    )


def requests(run_id: str, lines: list[Line], limits: Limits) -> Iterator[WriteLogsRequest]:
    """Make as few requests of lines as limits allow, each with an id of its own.

    A message that is too long for one record goes on in the next ones.
    """
    parts = [part for line in lines for part in _parts(line, limits.max_log_message_bytes)]
    start = size = 0
    for index, part in enumerate(parts):
        own = _bytes(part)
        full = size + own > _room(limits) or index - start >= limits.max_log_batch_records
        if full and index > start:
            yield _request(run_id, parts[start:index])
            start, size = index, 0
        size += own
    if parts:
        yield _request(run_id, parts[start:])


def _request(run_id: str, lines: list[Line]) -> WriteLogsRequest:
    return WriteLogsRequest(id=uuid7(), run_id=run_id, records=pack(lines))


def _parts(line: Line, longest: int) -> Iterator[Line]:
    # A character takes at most 4 bytes: most messages need not be encoded to be measured.
    if len(line.message) * 4 <= longest:
        yield line
        return
    parts = split(line.message, longest)
    for number, message in enumerate(parts, 1):
        yield line._replace(message=message, continued=number < len(parts) or line.continued)


def _bytes(line: Line) -> int:
    texts = line.message, line.logger, line.task_run_id
    return _LINE_BYTES + sum(len(text) if text.isascii() else 4 * len(text) for text in texts)


def _room(limits: Limits) -> int:
    return limits.max_message_bytes * 3 // 4
