"""Following a log: what is there, then what comes, until its run is drained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from interlock_server.core.logs.chunks import unpacked
from interlock_server.core.logs.ends import TailEnd
from interlock_server.core.logs.news import LogNews
from interlock_server.storage import log_queries
from interlock_server.storage.database import Database
from interlock_server.storage.log_queries import CHUNKS_AT_ONCE, LogQuery
from interlock_server.storage.records import LogChunk

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

PROGRESS = 1.0
"""Seconds after which whoever wants little of a log is told how far it was read."""


class Unpack(Protocol[R_co]):
    """Turns a chunk into the records wanted, from an ordinal on, each behind its own.

    What is before was seen already: chunks that are merged come again in a larger one.
    """

    def __call__(
        self, chunk: LogChunk, data: bytes, from_ordinal: int
    ) -> Sequence[tuple[int, R_co]]:
        """Read a decompressed chunk. Called on any thread."""


@dataclass(frozen=True, slots=True)
class TailPart(Generic[R]):
    """A part of a log that is followed.

    What was found in a chunk; or just how far the log was read; or in the last part the end.
    """

    found: Sequence[tuple[int, R]] | None
    next_ordinal: int
    end: TailEnd | None = None


async def follow(
    database: Database,
    log_news: LogNews,
    query: LogQuery,
    from_ordinal: int,
    draining: asyncio.Event,
    unpack: Unpack[R],
    threads: Executor | None = None,
) -> AsyncGenerator[TailPart[R]]:
    """Read a log from an ordinal on, then what is appended, until the run is drained.

    What may take long is done in `threads`. Raises NotFoundError where there is no such run, or no
    longer.
    """
    told, told_at = from_ordinal, time.monotonic()
    with log_news.following(query.run_id) as log:
        while not log.knows:
            log.news.clear()
            await log.news.wait()
        while True:
            log.news.clear()
            log.check()
            # First how it stands, then what is there: what came in between is not missed.
            end, next_ordinal = log.end, log.next_ordinal
            while from_ordinal < next_ordinal:
                chunks = await log_queries.list_chunks(
                    database, query, from_ordinal, False, CHUNKS_AT_ONCE
                )
                for chunk in chunks:
                    if chunk.last_ordinal >= from_ordinal:
                        seen, from_ordinal = from_ordinal, chunk.last_ordinal + 1
                        # One at a time: a reader that is slow holds no more than that in memory.
                        wanted = partial(unpack, from_ordinal=seen)
                        yield TailPart(await unpacked(chunk, wanted, threads), from_ordinal)
                if len(chunks) < CHUNKS_AT_ONCE:
                    # What is left was not asked for, or was deleted.
                    from_ordinal = max(from_ordinal, next_ordinal)
            if end is None and draining.is_set():
                end = TailEnd.SERVER_DRAINING
            if end is not None:
                yield TailPart(None, from_ordinal, end)
                return
            progress_due = told_at + PROGRESS
            if from_ordinal > told and time.monotonic() >= progress_due:
                yield TailPart(None, from_ordinal)
                told, told_at = from_ordinal, time.monotonic()
            left = None if from_ordinal == told else progress_due - time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await log.news.wait()
