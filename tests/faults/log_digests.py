"""Digests of what producers send to logs, and of what reads back: equal, or something is amiss.

A line's logger begins with the name of its producer, so that each producer's lines are found in a
log that many write to. A digest covers all that is said of a line, and the order of the lines.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from interlock.channel import OPTIONS
from interlock.log_columns import Line
from interlock.v1.log_pb2 import ListLogsRequest, LogRecord
from interlock.v1.log_pb2_grpc import LogServiceStub

_PAGE = 1000
_AT_ONCE = 4
"""How many logs are read at the same time."""


@dataclass(slots=True)
class _Digest:
    lines: int = 0
    hash: Any = field(default_factory=hashlib.sha256)

    def add(self, lines: Sequence[Sequence[object]]) -> None:
        self.lines += len(lines)
        self.hash.update("".join(map(repr, lines)).encode("utf-8", "surrogatepass"))

    def told(self) -> tuple[int, str]:
        return self.lines, self.hash.hexdigest()


class LogDigests:
    """A digest for each log and producer: of lines in the order in which they are added."""

    def __init__(self) -> None:
        self._digests: defaultdict[tuple[str, str], _Digest] = defaultdict(_Digest)

    @property
    def lines(self) -> int:
        """How many lines there are, all together."""
        return sum(digest.lines for digest in self._digests.values())

    @property
    def run_ids(self) -> set[str]:
        """The runs whose logs there are."""
        return {run_id for run_id, _ in self._digests}

    def add(self, run_id: str, lines: Iterable[tuple[int, int, str, str, str, bool]]) -> None:
        """Add lines of a run, of any producers: as `interlock.log_columns.pack` takes them."""
        by_producer: defaultdict[str, list[tuple[object, ...]]] = defaultdict(list)
        for line in lines:
            by_producer[line[2].partition(".")[0]].append(tuple(line))
        for producer, own in by_producer.items():
            self._digests[run_id, producer].add(own)

    def forget(self, run_id: str) -> None:
        """Forget a run: it is deleted."""
        for key in [key for key in self._digests if key[0] == run_id]:
            del self._digests[key]

    def differences(self, other: LogDigests) -> list[str]:
        """Compare, and say in words what differs; empty: nothing."""
        ours = {key: digest.told() for key, digest in self._digests.items()}
        theirs = {key: digest.told() for key, digest in other._digests.items()}
        return [
            f"log {key[0]}, {key[1]}: {ours.get(key)} here, {theirs.get(key)} there"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]


async def read_back(target: str, run_ids: Iterable[str]) -> LogDigests:
    """Read logs page by page, and see that their ordinals have no gaps."""
    found = LogDigests()
    turn = asyncio.Semaphore(_AT_ONCE)
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        stub: Any = LogServiceStub(channel)

        async def read(run_id: str) -> None:
            request = ListLogsRequest(run_id=run_id, page_size=_PAGE)
            next_ordinal = 0
            async with turn:
                while True:
                    page = await stub.ListLogs(request, wait_for_ready=True)
                    ordinals = [record.ordinal for record in page.records]
                    expected = range(next_ordinal, next_ordinal + len(ordinals))
                    assert ordinals == list(expected), f"log {run_id} has gaps at {expected}"
                    next_ordinal += len(ordinals)
                    found.add(run_id, map(line_of, page.records))
                    request.page_token = page.next_page_token
                    if not request.page_token:
                        return

        async with asyncio.TaskGroup() as group:
            for run_id in run_ids:
                group.create_task(read(run_id))
    return found


def line_of(record: LogRecord) -> Line:
    """Read a record as the line that it was."""
    time = record.time
    return Line(
        time.seconds * 1_000_000 + time.nanos // 1000,
        record.level,
        record.logger,
        record.message,
        record.task_run_id,
        record.continued,
    )
