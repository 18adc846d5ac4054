"""Following a log: what is there, then what comes, until its run is drained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from interlock_server.core.errors import NotFoundError
from interlock_server.core.log_chunks import decompress
from interlock_server.core.signals import Signals
from interlock_server.rules.states import TERMINAL, Id, Micros
from interlock_server.storage import log_queries
from interlock_server.storage.database import Database
from interlock_server.storage.log_queries import CHUNKS_AT_ONCE, LogQuery, LogStatus
from interlock_server.storage.records import LogChunk

DRAIN_SILENCE: Micros = 30_000_000
"""How long a producer may be silent before a finished run counts as drained without it."""

FIRST_WORD_GRACE: Micros = 2_000_000
"""How long after a run's end its first log batch is waited for."""

_POLL = 1.0
"""Seconds between looks where no signal comes: the commit may have been another server's."""


class TailEnd(Enum):
    """Why following a log has ended."""

    DRAINED = 1
    SILENT = 2
    SERVER_DRAINING = 3


@dataclass(frozen=True, slots=True)
class TailPart:
    """A part of a log that is followed: a decompressed chunk, or in the last part the end."""

    chunk: tuple[LogChunk, bytes] | None
    from_ordinal: int
    """What is before it was seen already: chunks that are merged come again in a larger one."""
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
                database, query, from_ordinal, False, CHUNKS_AT_ONCE
            ):
                for chunk in chunks:
                    if chunk.last_ordinal >= from_ordinal:
                        seen, from_ordinal = from_ordinal, chunk.last_ordinal + 1
                        # One at a time: a reader that is slow holds no more than that in memory.
                        yield TailPart((chunk, await decompress(chunk)), seen, from_ordinal)
                if len(chunks) < CHUNKS_AT_ONCE:
                    break
            if end is None and draining.is_set():
                end = TailEnd.SERVER_DRAINING
            if end is not None:
                yield TailPart(None, from_ordinal, from_ordinal, end)
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
    end = status.end_time or 0
    if not status.begun:
        return TailEnd.DRAINED if end + FIRST_WORD_GRACE < status.now else None
    if status.last_open_word is None:
        return TailEnd.DRAINED
    # Silence before the end tells nothing: the last words may be on their way.
    silent = max(status.last_open_word, end) + DRAIN_SILENCE < status.now
    return TailEnd.SILENT if silent else None
