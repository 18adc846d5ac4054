"""Searching the logs of many runs.

`search_chunks` tells which chunks are read, and `search_plan` what of them is sent. What
costs processor time is done in threads of their own: few, so that searches leave the other cores
and the threads that reads need alone; and piece by piece, each of some milliseconds, so that
searches take turns there. A search has one piece in the works at a time, and goes on when what was
found in it has been taken: that bounds its memory.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar

from interlock_server.core.errors import DamagedLogError
from interlock_server.core.logs.chunks import unpacked_now
from interlock_server.core.logs.search_chunks import Chunks, Slice, Where
from interlock_server.core.logs.search_plan import Holdings, Place, Planner, Span
from interlock_server.rules.states import Id
from interlock_server.storage import log_search_queries
from interlock_server.storage.database import Database
from interlock_server.storage.records import LogChunk

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
_T = TypeVar("_T")

_PIECE_SECONDS = 0.02
"""How long a piece of work in a thread should take."""

_FIRST_PIECE, _LARGEST_PIECE = 512 * 1024, 4 * 1024 * 1024
"""Bytes of records."""

_PART_BYTES = 512 * 1024
"""How large a part of what is found becomes, about."""


def search_threads() -> ThreadPoolExecutor:
    """Make the threads in which a server's searches do their work."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2), "log search")


class SearchEnd(Enum):
    """Why a search has ended."""

    ALL_SEARCHED = 1
    ENOUGH_MATCHES = 2
    ENOUGH_SCANNED = 3
    SERVER_DRAINING = 4


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched, and how much of it."""

    where: Where
    before: int
    """How many records are sent before each match."""
    after: int
    max_matches: int
    max_scanned: int


@dataclass(frozen=True, slots=True)
class Part(Generic[R]):
    """What was found, or how far the search has come."""

    records: list[R]
    place: Place
    """Behind the records."""
    scanned: int
    matches: int
    damaged: int = 0
    """How many chunks were passed over, since they can not be read."""
    end: SearchEnd | None = None


class Opened(Protocol[R_co]):
    """A chunk's records."""

    def hits(self, from_ordinal: int) -> Sequence[int]:
        """Answer the ordinals of the matches, from one on."""

    def found(self, ordinal: int, is_context: bool) -> R_co:
        """Make what is sent for a record."""


@dataclass(frozen=True, slots=True)
class _Chunk(Generic[R]):
    run_id: Id
    first_ordinal: int
    last_ordinal: int
    opened: Opened[R]


@dataclass(frozen=True, slots=True)
class Form(Generic[R]):
    """What a search finds records in, and makes of them."""

    open: Callable[[LogChunk, bytes], Opened[R]]
    """Takes a chunk and its decompressed data. Called in a thread, as the functions below."""
    size: Callable[[R], int]
    """Tells the bytes of what is sent for a record."""


@dataclass(slots=True)
class Searcher(Generic[R]):
    """Does one search."""

    database: Database
    threads: Executor
    draining: asyncio.Event
    search: Search
    form: Form[R]
    damaged: set[tuple[Id, int]] = field(default_factory=set)
    """The chunks that were passed over, by run and first ordinal."""

    async def parts(self, start: Place) -> AsyncGenerator[Part[R]]:
        """Search from a place on. The last part, and no other, tells why the search has ended."""
        search = self.search
        planner = Planner(start, search.before, search.after, search.max_matches)
        chunks = Chunks(
            self.database, search.where, start, _FIRST_PIECE, slice_records=search.max_scanned
        )
        scanned = matches = 0
        async with aclosing(chunks.slices()) as slices:
            async for slice_ in slices:
                if self.draining.is_set():
                    yield Part(
                        [],
                        planner.place,
                        scanned,
                        matches,
                        len(self.damaged),
                        SearchEnd.SERVER_DRAINING,
                    )
                    return
                async for part in self._through(slice_, planner, chunks, scanned, matches):
                    scanned, matches = part.scanned, part.matches
                    yield part
                chunks.slice_records = search.max_scanned - scanned
                end = None
                if planner.enough:
                    end = SearchEnd.ENOUGH_MATCHES
                elif scanned >= search.max_scanned:
                    end = SearchEnd.ENOUGH_SCANNED
                if end is not None:
                    yield self._part([], planner.place, scanned, matches, end)
                    return
        yield self._part([], planner.place, scanned, matches, SearchEnd.ALL_SEARCHED)

    def _part(
        self,
        records: list[R],
        place: Place,
        scanned: int,
        matches: int,
        end: SearchEnd | None = None,
    ) -> Part[R]:
        return Part(records, place, scanned, matches, len(self.damaged), end)

    async def _through(
        self, slice_: Slice, planner: Planner, chunks: Chunks, scanned: int, matches: int
    ) -> AsyncGenerator[Part[R]]:
        """Look through a slice, and answer what is found, or just how far the search has come."""
        held: list[_Chunk[R]] = []
        if slice_.passed is not None:
            planner.pass_by(slice_.passed, chunks.ends)
        else:
            began = time.perf_counter()
            held, looked_at = await self._in_thread(
                self._look_through, slice_.chunks, planner, chunks.ends
            )
            scanned += looked_at
            took = time.perf_counter() - began
            size = sum(chunk.raw_bytes for chunk in slice_.chunks)
            fitting = int(size * _PIECE_SECONDS / max(took, 1e-6))
            # Twice as much at most, since the last piece may have been an easy one.
            fitting = min(fitting, 2 * max(size, chunks.slice_bytes), _LARGEST_PIECE)
            chunks.slice_bytes = max(1, fitting)
        if spans := planner.take():
            holdings = Holdings(held)
            if missing := holdings.missing(spans):
                held += await self._fetched(missing)
                holdings = Holdings(held)
            made = await self._in_thread(self._made, spans, holdings)
            for records, place, found in made:
                matches += found
                yield self._part(records, place, scanned, matches)
        yield self._part([], planner.place, scanned, matches)

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, work, *arguments)

    async def _fetched(self, ranges: Sequence[tuple[Id, int, int]]) -> list[_Chunk[R]]:
        """Read records near matches from chunks that were not, or no longer, at hand."""
        found = {
            (chunk.run_id, chunk.first_ordinal): chunk
            for each in ranges
            for chunk in await log_search_queries.read_range(self.database, *each)
        }
        return await self._in_thread(self._opened, list(found.values()))

    # --- in a thread ---

    def _look_through(
        self, chunks: Sequence[LogChunk], planner: Planner, ends: dict[Id, int]
    ) -> tuple[list[_Chunk[R]], int]:
        """Find the matches; also answer how many records were looked at."""
        opened = []
        looked_at = 0
        for chunk in chunks:
            place = planner.place
            begin = place.search_from if place.run_id == chunk.run_id else 0
            hits: Sequence[int] = ()
            try:
                records = unpacked_now(chunk, self.form.open)
                hits = records.hits(begin)
            except DamagedLogError:
                self.damaged.add((chunk.run_id, chunk.first_ordinal))
            else:
                opened.append(_held(chunk, records))
            looked_at += max(0, chunk.last_ordinal + 1 - max(begin, chunk.first_ordinal))
            planner.chunk(chunk.run_id, chunk.last_ordinal, hits, ends)
            if planner.enough:
                break
        return opened, looked_at

    def _opened(self, chunks: Sequence[LogChunk]) -> list[_Chunk[R]]:
        opened = []
        for chunk in chunks:
            with suppress(DamagedLogError):
                opened.append(_held(chunk, unpacked_now(chunk, self.form.open)))
        return opened

    def _made(
        self, spans: Sequence[Span], holdings: Holdings[_Chunk[R]]
    ) -> list[tuple[list[R], Place, int]]:
        """Make parts of bounded size: records, the place behind them, how many are matches."""
        parts: list[tuple[list[R], Place, int]] = []
        records: list[R] = []
        size = matches = 0
        for span in spans:
            for ordinal in range(span.first, span.last + 1):
                chunk = holdings.get(span.run_id, ordinal)
                if chunk is None:  # It was deleted meanwhile.
                    continue
                record = chunk.opened.found(ordinal, not span.is_match)
                records.append(record)
                matches += span.is_match
                size += self.form.size(record)
                if size >= _PART_BYTES:
                    parts.append((records, span.place_behind(ordinal), matches))
                    records, size, matches = [], 0, 0
        if records:
            parts.append((records, spans[-1].place_behind(spans[-1].last), matches))
        return parts


def _held(chunk: LogChunk, opened: Opened[R]) -> _Chunk[R]:
    return _Chunk(chunk.run_id, chunk.first_ordinal, chunk.last_ordinal, opened)
