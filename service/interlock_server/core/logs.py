"""Logs: appending batches exactly once, reading pages, and following a log to its end.

A batch becomes one chunk: its records as the columns they came in, compressed with zstd before the
commit pipeline sees it, so that no row lock is held while bytes are squeezed. Ordinals are given at
the commit, under the lock of the log's head: a chunk's records have consecutive ones, which stand
in its row and not in its data, so that they are free.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

import zstandard

from interlock_server.core.errors import CallError, InvalidArgumentError, NotFoundError
from interlock_server.core.signals import Signals
from interlock_server.rules.states import TERMINAL, Id, Micros
from interlock_server.storage import log_queries
from interlock_server.storage.commands import CallerError, CommandClass
from interlock_server.storage.database import Database
from interlock_server.storage.errors import UnavailableError
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.log_queries import LogQuery, LogStatus
from interlock_server.storage.records import LogChunk, LogHead, LogProducer, RunKind

R = TypeVar("R")

DRAIN_SILENCE: Micros = 30_000_000
"""How long a producer may be silent before a finished run counts as drained without it."""

FIRST_WORD_GRACE: Micros = 2_000_000
"""How long after a run's end its first log batch is waited for."""

_POLL = 1.0
"""Seconds between looks where no signal comes: the commit may have been another server's."""

_INLINE_BYTES = 32 * 1024
"""Up to this size compressing takes less time than handing the bytes to a thread."""

_CHUNKS_AT_ONCE = 8
"""How many chunks are read at a time: at most 8 MiB of messages, mostly some hundred KiB."""


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Records of one producer for one run's log, packed. `count` is 0 where it has none."""

    producer_id: Id
    number: int
    run_id: Id
    end_of_run: bool
    count: int = 0
    first_time: Micros = 0
    last_time: Micros = 0
    level_counts: tuple[int, ...] = ()
    task_run_ids: tuple[Id, ...] = ()
    packed: bytes = b""


async def compress(packed: bytes) -> bytes:
    """Compress a batch's records, large ones off the event loop."""
    if len(packed) <= _INLINE_BYTES:
        return _compress(packed)
    return await asyncio.to_thread(_compress, packed)


def _compress(packed: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(packed)


async def decompress(chunk: LogChunk) -> bytes:
    """Undo `compress`."""
    if chunk.raw_bytes <= 8 * _INLINE_BYTES:
        return decompress_now(chunk)
    return await asyncio.to_thread(decompress_now, chunk)


def decompress_now(chunk: LogChunk) -> bytes:
    """Undo `compress` on this thread. Raises zstandard.ZstdError."""
    return zstandard.ZstdDecompressor().decompress(chunk.data, max_output_size=chunk.raw_bytes)


class BrokenOffError(CallerError, UnavailableError):
    """A batch whose predecessor could not be written."""

    def __init__(self) -> None:
        super().__init__("DATABASE_UNAVAILABLE", "The batch before this one could not be written.")


@dataclass(slots=True)
class Succession:
    """The batches of one stream. When one can not be written, none behind it is.

    A batch's number tells its producer that all before it are durable.
    """

    last: asyncio.Future[None] | None = None
    """What becomes of the batch that was taken in last."""
    broken: bool = False


class AppendLog:
    """Appends one batch to its run's log, unless it is there."""

    command_class = CommandClass.LOGS
    replayable = True
    exclusive = False
    weight = 1

    def __init__(self, batch: LogBatch, data: bytes, succession: Succession | None = None) -> None:
        self._batch = batch
        self._succession = succession or Succession()
        self._before = self._succession.last
        self._data = data
        self.size = len(data) + 500

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.logs.add(self._batch.run_id)
        needs.log_producers.add((self._batch.producer_id, self._batch.run_id))

    def decide(self, facts: Facts) -> None:
        """Give the records their ordinals. Raises CallError where there is no such log."""
        if self._succession.broken or (self._before is not None and _is_lost(self._before)):
            # Those behind may be in this batch of the pipeline, too, and not know of this one yet.
            self._succession.broken = True
            raise BrokenOffError
        batch, now = self._batch, facts.now
        head = facts.log_heads.get(batch.run_id)
        if head is None:
            _check_run(batch.run_id, facts)
            head = LogHead(batch.run_id, 0, now)
        producer = facts.log_producers.get((batch.producer_id, batch.run_id))
        if producer is not None and batch.number <= producer.last_number:
            return
        closed = batch.end_of_run
        producer = LogProducer(batch.producer_id, batch.run_id, batch.number, closed, now)
        if batch.count == 0:
            facts.append_log(head, producer, None)
            return
        first = head.next_ordinal
        chunk = LogChunk(
            batch.run_id,
            first,
            first + batch.count - 1,
            batch.first_time,
            batch.last_time,
            batch.level_counts,
            len(batch.packed),
            self._data,
            batch.task_run_ids,
            stored=now,
        )
        head = replace(head, next_ordinal=first + batch.count, appended=now)
        facts.append_log(head, producer, chunk)


def _is_lost(outcome: asyncio.Future[None]) -> bool:
    if not outcome.done():
        return False  # it is in the same batch of the pipeline: both are written, or none
    if outcome.cancelled():
        return True
    error = outcome.exception()
    # One that was refused is not missed: its producer is told, and goes on behind it.
    return error is not None and not isinstance(error, CallError)


def _check_run(run_id: Id, facts: Facts) -> None:
    if run_id in facts.runs[RunKind.FLOW_RUN]:
        return
    task_run = facts.runs[RunKind.TASK_RUN].get(run_id)
    if task_run is None:
        raise NotFoundError(
            "run", run_id, field="run_id", reason="DELETED" if run_id in facts.deleted_runs else ""
        )
    if task_run.parent_id is not None:
        raise InvalidArgumentError(
            "run_id",
            f"The task run {run_id} has no log of its own: append to the log of its flow run "
            f"{task_run.parent_id}, and name the task run in `task_run_ids`.",
            reason="TASK_RUN_IN_FLOW_RUN",
        )


@dataclass(frozen=True, slots=True)
class Ordinal:
    """A place in a log, and how many records are wanted from there on."""

    start: int
    count: int
    descending: bool = False


Unpack = Callable[[LogChunk, bytes], list[tuple[int, R]]]
"""Turns a chunk and its decompressed data into the records wanted, each behind its ordinal."""

LAST = 2**62
"""An ordinal behind all others."""


_PAGE_BYTES = 16 * 1024 * 1024
"""How much of chunks with records for a page is unpacked: few bytes of zstd may stand for it."""


async def read_page(
    database: Database, query: LogQuery, place: Ordinal, unpack: Unpack[R]
) -> tuple[list[R], int | None]:
    """Read records from a place on, and the ordinal to go on from; None: there are no more.

    Raises NotFoundError where there is no such run.
    """
    records: list[R] = []
    start, unpacked = place.start, 0
    while start >= 0:
        chunks = await log_queries.list_chunks(
            database, query, start, place.descending, _CHUNKS_AT_ONCE
        )
        for chunk in chunks:
            found = unpack(chunk, await decompress(chunk))
            if place.descending:
                found.reverse()
            for ordinal, record in found:
                if ordinal > start if place.descending else ordinal < start:
                    continue
                if len(records) == place.count:
                    return records, ordinal
                records.append(record)
            start = chunk.first_ordinal - 1 if place.descending else chunk.last_ordinal + 1
            unpacked += chunk.raw_bytes if found else 0
            if unpacked >= _PAGE_BYTES and start >= 0:
                return records, start
        if len(chunks) < _CHUNKS_AT_ONCE:
            break
    if not records and await log_queries.get_log_status(database, query.run_id, 0) is None:
        raise NotFoundError("run", query.run_id, field="run_id")
    return records, None


class TailEnd(Enum):
    """Why following a log has ended."""

    DRAINED = 1
    SILENT = 2
    SERVER_DRAINING = 3


@dataclass(frozen=True, slots=True)
class TailPart:
    """A part of a log that is followed: a decompressed chunk, or in the last part the end."""

    chunk: tuple[LogChunk, bytes] | None
    next_ordinal: int
    end: TailEnd | None = None


async def follow(
    database: Database,
    signals: Signals,
    query: LogQuery,
    from_ordinal: int,
    draining: asyncio.Event,
) -> AsyncGenerator[TailPart]:
    """Read a log from an ordinal on, then what is appended, until the run is drained.

    Raises NotFoundError where there is no such run, or no longer.
    """
    with signals.listen(query.run_id) as news:
        while True:
            news.clear()
            # First whether it may end, then what is there: what came in between is not missed.
            end = await _end(database, query.run_id)
            while chunks := await log_queries.list_chunks(
                database, query, from_ordinal, False, _CHUNKS_AT_ONCE
            ):
                for chunk in chunks:
                    if chunk.last_ordinal >= from_ordinal:
                        from_ordinal = chunk.last_ordinal + 1
                        # One at a time: a reader that is slow holds no more than that in memory.
                        yield TailPart((chunk, await decompress(chunk)), from_ordinal)
                if len(chunks) < _CHUNKS_AT_ONCE:
                    break
            if end is None and draining.is_set():
                end = TailEnd.SERVER_DRAINING
            if end is not None:
                yield TailPart(None, from_ordinal, end)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), _POLL)


async def _end(database: Database, run_id: Id) -> TailEnd | None:
    status = await log_queries.get_log_status(database, run_id, time.time_ns() // 1000)
    if status is None:
        raise NotFoundError("run", run_id, field="run_id")
    return drained(status)


def drained(status: LogStatus) -> TailEnd | None:
    """Answer whether nothing more is to come to a log, and how that is known."""
    if status.state_type not in TERMINAL:
        return None
    if not status.producers:
        over = (status.end_time or 0) + FIRST_WORD_GRACE < status.now
        return TailEnd.DRAINED if over else None
    if all(producer.closed for producer in status.producers):
        return TailEnd.DRAINED
    # Silence before the end tells nothing: the last words may be on their way.
    end = status.end_time or 0
    silent = all(
        producer.closed or max(producer.updated, end) + DRAIN_SILENCE < status.now
        for producer in status.producers
    )
    return TailEnd.SILENT if silent else None
