"""Which chunks a search reads, in its order: only those that may hold what is wanted.

Logs come in pages of runs. Short ones are listed together, a long one by itself and page by page.
Chunks that were merged between their listing and their reading are listed again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from interlock_server.core.logs.search_plan import BEYOND, Place
from interlock_server.rules.states import Id
from interlock_server.storage import log_search_queries as queries
from interlock_server.storage.database import Database
from interlock_server.storage.filters import Condition
from interlock_server.storage.log_queries import RecordConditions
from interlock_server.storage.log_search_queries import (
    PLACES_AT_ONCE,
    RUNS_AT_ONCE,
    ChunkPlace,
    LogSize,
)
from interlock_server.storage.records import LogChunk

_TOGETHER = 16_384
"""Logs are listed together while they have no more records than this."""

_CHUNKS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Where:
    """Which logs are searched, and which chunks of them."""

    wanted: RecordConditions
    run_ids: tuple[Id, ...] | None = None
    """Those of these runs; None: of all."""
    flow_runs: Condition | None = None
    """Those of flow runs that meet it."""
    oldest_first: bool = False


@dataclass(slots=True)
class Slice:
    """Chunks to be looked through, one log after the other; or where all up to a run is done."""

    chunks: list[LogChunk]
    passed: Id | None = None


@dataclass(slots=True)
class Chunks:
    """The chunks of one search, from a place on."""

    database: Database
    where: Where
    start: Place
    slice_bytes: int
    """How many bytes of records are read at once, about. May be changed meanwhile."""
    slice_records: int
    """How many records are."""
    ends: dict[Id, int] = field(default_factory=dict)
    """The ordinals behind the ends of the logs that are searched now."""

    async def slices(self) -> AsyncGenerator[Slice]:
        """Answer them, as many at once as they should be."""
        async with aclosing(self._groups()) as groups:
            async for group in groups:
                self.ends = {log.run_id: log.next_ordinal for log in group}
                async with aclosing(self._of_group([log.run_id for log in group])) as slices:
                    async for slice_ in slices:
                        yield slice_

    # --- runs ---

    async def _groups(self) -> AsyncGenerator[list[LogSize]]:
        """Answer logs that are listed together, in the order of the search."""
        place = self.start
        if place.run_id is not None and place.search_from < BEYOND:
            # The log that the search was in, whether or not it would be chosen again.
            sizes = await queries.get_log_sizes(self.database, [place.run_id])
            if sizes:
                yield list(sizes.values())
        async with aclosing(self._pages(place.run_id)) as pages:
            async for page in pages:
                for group in _grouped(page):
                    yield group

    async def _pages(self, after: Id | None) -> AsyncGenerator[list[LogSize]]:
        where, descending = self.where, not self.where.oldest_first
        among: Iterable[Id] | None = where.run_ids
        if among is None:
            among = await queries.find_runs(self.database, where.wanted)
        if among is not None:
            ids = sorted(set(among), reverse=descending)
            if after is not None:
                ids = [id_ for id_ in ids if (id_ < after if descending else id_ > after)]
            for begin in range(0, len(ids), RUNS_AT_ONCE):
                yield await self._chosen(ids[begin : begin + RUNS_AT_ONCE])
        elif where.flow_runs is not None:
            while ids := await queries.list_flow_runs(
                self.database, where.flow_runs, None, after, descending
            ):
                yield await self._sizes(ids)
                after = ids[-1]
        else:
            while True:
                page, after = await queries.list_log_sizes(self.database, after, descending)
                yield page
                if after is None:
                    return

    async def _chosen(self, ids: list[Id]) -> list[LogSize]:
        where = self.where
        if where.flow_runs is not None:
            ids = await queries.list_flow_runs(
                self.database, where.flow_runs, ids, None, not where.oldest_first
            )
        return await self._sizes(ids)

    async def _sizes(self, ids: Sequence[Id]) -> list[LogSize]:
        if not ids:
            return []
        sizes = await queries.get_log_sizes(self.database, ids)
        return [sizes[id_] for id_ in ids if id_ in sizes]

    # --- chunks ---

    async def _of_group(self, run_ids: list[Id]) -> AsyncGenerator[Slice]:
        first = run_ids[0]
        begin = self.start.search_from if first == self.start.run_id else None
        if begin is None and len(run_ids) == 1 and self.ends[first] > _TOGETHER:
            begin = 0
        # Logs to be listed together, or one from an ordinal on.
        todo: deque[tuple[list[Id], int | None]] = deque([(run_ids, begin)])
        while todo:
            some, begin = todo.popleft()
            places = await self._places(some, begin)
            gone: ChunkPlace | None = None
            rest = deque(places)
            while rest and gone is None:
                asked = self._cut(rest)
                chunks = await queries.read_chunks(self.database, asked)
                if chunks:
                    yield Slice(chunks)
                if len(chunks) < len(asked):
                    gone = asked[len(chunks)]
            if gone is not None:
                beyond = some[some.index(gone.run_id) + 1 :]
                if beyond:
                    todo.appendleft((beyond, None))
                todo.appendleft(([gone.run_id], gone.first_ordinal))
            elif begin is not None and len(places) == PLACES_AT_ONCE:
                todo.appendleft((some, places[-1].last_ordinal + 1))
        yield Slice([], passed=run_ids[-1])

    async def _places(self, run_ids: list[Id], begin: int | None) -> Sequence[ChunkPlace]:
        wanted = self.where.wanted
        if begin is not None:
            return await queries.list_places_from(self.database, run_ids[0], begin, wanted)
        order = {run_id: number for number, run_id in enumerate(run_ids)}
        places = await queries.list_places(self.database, run_ids, wanted)
        return sorted(places, key=lambda place: (order[place.run_id], place.first_ordinal))

    def _cut(self, places: deque[ChunkPlace]) -> list[ChunkPlace]:
        """Take away the first places, as many as are read at once."""
        taken: list[ChunkPlace] = []
        size = records = 0
        while places and len(taken) < _CHUNKS_AT_ONCE:
            size += places[0].raw_bytes
            if taken and (size > self.slice_bytes or records >= self.slice_records):
                break
            records += places[0].last_ordinal + 1 - places[0].first_ordinal
            taken.append(places.popleft())
        return taken


def _grouped(page: Sequence[LogSize]) -> Iterator[list[LogSize]]:
    group: list[LogSize] = []
    records = 0
    for log in page:
        if group and records + log.records > _TOGETHER:
            yield group
            group, records = [], 0
        group.append(log)
        records += log.records
    if group:
        yield group
