"""Batches of records: gathered, one run each, and cut to what the server takes.

What it promises: the records of a run keep their order, and no batch is larger than the server's
limits allow, as far as its size can be known. It has no lock and no thread: the outbox does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from interlock.log_columns import pack
from interlock.logs.records import RECORD_BYTES, Entry, PlainLine, parts_of, size_of
from interlock.text import escape_surrogates
from interlock.v1.log_pb2 import AppendLogsRequest
from interlock.v1.server_pb2 import Limits

_BATCH_BYTES = 1024 * 1024
_BATCH_RECORDS = 5_000

ASSUMED_LIMITS = Limits(
    max_message_bytes=4 * 1024 * 1024,
    max_log_batch_records=_BATCH_RECORDS,
    max_log_message_bytes=256 * 1024,
    log_window_bytes=8 * 1024 * 1024,
)
"""What is assumed where the server does not tell its limits."""


@dataclass(slots=True)
class Batch:
    """A batch as it is sent; its request gets a number later."""

    request: AppendLogsRequest
    records: int
    size: int
    """In bytes, about: what it takes of the window."""


@dataclass(slots=True)
class _OfRun:
    lines: list[PlainLine] = field(default_factory=list)
    size: int = 0


class Forming:
    """Batches in the making."""

    def __init__(self) -> None:
        self.records = 0
        """How many records are in it."""
        self._size = 0
        self._runs: dict[str, _OfRun] = {}
        self._most_bytes = self._most_records = 0
        self.limit(ASSUMED_LIMITS)

    def limit(self, limits: Limits) -> None:
        """Fill batches no further than these limits allow."""
        self._most_bytes = min(_BATCH_BYTES, limits.max_message_bytes // 2)
        self._most_records = min(_BATCH_RECORDS, limits.max_log_batch_records)

    def add(self, entry: Entry) -> None:
        """Add a record to the batch of its run."""
        run = self._runs.setdefault(entry.run_id, _OfRun())
        run.lines.append(entry.line)
        run.size += entry.size
        self._size += entry.size
        self.records += 1

    def is_full(self) -> bool:
        """Tell whether it is to be sent without waiting for more."""
        return self._size >= self._most_bytes or self.records >= self._most_records

    def batches(self, limits: Limits) -> list[Batch]:
        """Make the batches, without numbers. This packs: it takes its time."""
        return [
            Batch(_of_run(run_id, records=pack(lines)), len(lines), size)
            for run_id, run in self._runs.items()
            for lines, size in _cut(run, limits)
        ]

    def clear(self) -> None:
        """Begin anew."""
        self._runs.clear()
        self._size = self.records = 0


def end_of_run(run_id: str) -> Batch:
    """Make the batch without records that says that nothing more comes for a run's log."""
    return Batch(_of_run(run_id, end_of_run=True), 0, RECORD_BYTES)


def _of_run(run_id: str, **fields: Any) -> AppendLogsRequest:
    # An id that is none is the service's to refuse: here it must not stop what is behind it.
    return AppendLogsRequest(run_id=escape_surrogates(run_id), **fields)


def _cut(run: _OfRun, limits: Limits) -> Iterator[tuple[list[PlainLine], int]]:
    """Cut the records of one run into batches: mostly one, more where messages are long."""
    lines = run.lines
    longest = max(4, limits.max_log_message_bytes)
    if any(len(line[3]) * 4 > longest for line in lines):
        lines = [part for line in lines for part in parts_of(line, longest)]
    most = max(1, limits.max_log_batch_records)
    room = limits.max_message_bytes * 3 // 4
    if len(lines) <= most and run.size <= room:
        yield lines, run.size
        return
    start = size = 0
    for index, line in enumerate(lines):
        own = size_of(line)
        if index > start and (size + own > room or index - start >= most):
            yield lines[start:index], size
            start, size = index, 0
        size += own
    yield lines[start:], size
