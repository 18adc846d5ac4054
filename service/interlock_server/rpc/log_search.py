"""Searching logs: what a request asks for, and what it is answered."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from interlock.v1 import log_pb2 as pb

from interlock_server.core.engine import Engine
from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.logs.search import Form, Part, Search, SearchEnd, Searcher
from interlock_server.core.logs.search_chunks import Where
from interlock_server.core.logs.search_plan import Place
from interlock_server.rpc import fields, filters, log_filters
from interlock_server.rpc.limits import MAX_FILTER_VALUES
from interlock_server.rpc.log_filters import OpenChunk, RecordFilter
from interlock_server.rpc.resume_tokens import ResumeTokens
from interlock_server.storage.records import LogChunk

_MAX_CONTEXT = 100
_DEFAULT_MATCHES, _MAX_MATCHES = 1000, 100_000
_DEFAULT_SCANNED, _MAX_SCANNED = 50_000_000, 2**63 - 1

_PROGRESS_SECONDS = 1.0
"""How often at least it is told how far a search has come."""

_ENDS = {
    SearchEnd.ALL_SEARCHED: pb.SEARCH_END_ALL_SEARCHED,
    SearchEnd.ENOUGH_MATCHES: pb.SEARCH_END_ENOUGH_MATCHES,
    SearchEnd.ENOUGH_SCANNED: pb.SEARCH_END_ENOUGH_SCANNED,
    SearchEnd.SERVER_DRAINING: pb.SEARCH_END_SERVER_DRAINING,
}


async def search(
    engine: Engine, request: pb.SearchLogsRequest
) -> AsyncGenerator[pb.SearchLogsResponse]:
    """Do a search. Raises InvalidArgumentError."""
    wanted = log_filters.read(request.filter)
    tokens = SearchTokens(request)
    start = tokens.read(request.resume_token) or Place()
    form = Form(lambda chunk, data: _Opened(chunk, data, wanted), pb.FoundLogRecord.ByteSize)
    searcher = Searcher(
        engine.database, engine.search_threads, engine.draining, _search(request, wanted), form
    )
    told = time.monotonic()
    async with aclosing(searcher.parts(start)) as parts:
        async for part in parts:
            if part.records or part.end or time.monotonic() - told >= _PROGRESS_SECONDS:
                yield _answer(part, tokens)
                told = time.monotonic()


def _search(request: pb.SearchLogsRequest, wanted: RecordFilter) -> Search:
    if request.HasField("flow_runs") and request.run_ids:
        raise InvalidArgumentError("run_ids", "Name runs, or say which flow runs: not both.")
    if (count := len(request.run_ids)) > MAX_FILTER_VALUES:
        raise InvalidArgumentError(
            "run_ids", f"{count:,} values are given; at most {MAX_FILTER_VALUES} are taken."
        )
    flow_runs = None
    if request.HasField("flow_runs"):
        flow_runs = filters.read(request.flow_runs, filters.FLOW_RUNS, "flow_runs")
    where = Where(
        wanted.conditions,
        fields.ids("run_ids", request.run_ids) if request.run_ids else None,
        flow_runs,
        request.oldest_first,
    )
    number = fields.number
    return Search(
        where,
        number("context_before", request.context_before, _MAX_CONTEXT),
        number("context_after", request.context_after, _MAX_CONTEXT),
        number("max_matches", request.max_matches, _MAX_MATCHES) or _DEFAULT_MATCHES,
        number("max_scanned", request.max_scanned, _MAX_SCANNED) or _DEFAULT_SCANNED,
    )


@dataclass
class _Opened:
    """A chunk, of which columns are read only where it may hold matches, or what is near them."""

    chunk: LogChunk
    data: bytes
    wanted: RecordFilter

    @cached_property
    def _columns(self) -> OpenChunk:
        return OpenChunk(self.chunk, self.data)

    def hits(self, from_ordinal: int) -> Sequence[int]:
        """Answer the ordinals of the matches."""
        if not self.wanted.may_be_in(self.data):
            return ()
        places = self.wanted.places(self.chunk, self._columns, from_ordinal)
        first = self.chunk.first_ordinal
        return [first + place for place in places]

    def found(self, ordinal: int, is_context: bool) -> pb.FoundLogRecord:
        """Make what is sent for a record."""
        return pb.FoundLogRecord(
            run_id=self.chunk.run_id,
            record=self._columns.record(ordinal - self.chunk.first_ordinal),
            is_context=is_context,
        )


def _answer(part: Part[pb.FoundLogRecord], tokens: SearchTokens) -> pb.SearchLogsResponse:
    all_searched = part.end is SearchEnd.ALL_SEARCHED
    return pb.SearchLogsResponse(
        records=part.records,
        scanned=part.scanned,
        matches=part.matches,
        damaged_parts=part.damaged,
        resume_token="" if all_searched else tokens.write(part.place),
        end=_ENDS[part.end] if part.end else pb.SEARCH_END_UNSPECIFIED,
    )


class SearchTokens:
    """Makes and reads the resume tokens of one search, whatever its limits."""

    def __init__(self, request: pb.SearchLogsRequest) -> None:
        bound = pb.SearchLogsRequest()
        bound.CopyFrom(request)
        for limit in ("resume_token", "max_matches", "max_scanned"):
            bound.ClearField(limit)
        other = "search: only its limits may differ, or begin without a token"
        self._tokens = ResumeTokens(bound, "?16sqqq", "search", other)

    def write(self, place: Place) -> str:
        """Make a token's text."""
        return self._tokens.write(
            place.run_id is not None,
            UUID(place.run_id).bytes if place.run_id else b"",
            place.search_from,
            place.send_from,
            place.context_until,
        )

    def read(self, text: str) -> Place | None:
        """Read a request's token; None: it has none. Raises InvalidArgumentError."""
        if (values := self._tokens.read(text)) is None:
            return None
        begun, run_id, *ordinals = values
        if not all(0 <= ordinal <= 2**62 + 200 for ordinal in ordinals):
            raise self._tokens.refusal()
        return Place(str(UUID(bytes=run_id)) if begun else None, *ordinals)
