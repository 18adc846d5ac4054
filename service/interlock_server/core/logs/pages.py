"""Reading logs page by page."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from interlock_server.core.errors import NotFoundError
from interlock_server.core.logs import chunks as log_chunks
from interlock_server.storage import log_queries
from interlock_server.storage.database import Database
from interlock_server.storage.log_queries import CHUNKS_AT_ONCE, LogQuery
from interlock_server.storage.log_status_queries import list_log_statuses
from interlock_server.storage.records import LogChunk

R = TypeVar("R")


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

_LOOKED_THROUGH = 64 * 1024 * 1024
"""How much is unpacked for a page in which nothing is found: the next page goes on from there."""


async def read_page(
    database: Database,
    query: LogQuery,
    place: Ordinal,
    unpack: Unpack[R],
    threads: Executor | None = None,
) -> tuple[list[R], int | None]:
    """Read records from a place on, and the ordinal to go on from; None: there are no more.

    What may take long is done in `threads`. Raises NotFoundError where there is no such run.
    """
    records: list[R] = []
    start, unpacked, looked_through = place.start, 0, 0
    while start >= 0:
        chunks = await log_queries.list_chunks(
            database, query, start, place.descending, CHUNKS_AT_ONCE
        )
        for chunk in chunks:
            found = await log_chunks.unpacked(chunk, unpack, threads)
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
            looked_through += chunk.raw_bytes
            enough = unpacked >= _PAGE_BYTES or looked_through >= _LOOKED_THROUGH
            if enough and start >= 0:
                return records, start
        if len(chunks) < CHUNKS_AT_ONCE:
            break
    if not records and not await list_log_statuses(database, [query.run_id]):
        raise NotFoundError("run", query.run_id, field="run_id")
    return records, None
