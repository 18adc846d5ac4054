"""Searching logs over streams that break."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from interlock._async import transport
from interlock._async.calls import Calls
from interlock._async.streams import resumed
from interlock.v1.log_pb2 import (
    SEARCH_END_SERVER_DRAINING,
    SEARCH_END_UNSPECIFIED,
    FoundLogRecord,
    SearchEnd,
    SearchLogsRequest,
    SearchLogsResponse,
)

_MATCHES, _SCANNED = 1000, 50_000_000
"""What the server takes for limits that are not given."""


class AsyncLogSearch:
    """A search in logs: iterate over it once. Made by `search_logs`."""

    def __init__(self, calls: Calls, request: SearchLogsRequest) -> None:
        self._calls = calls
        self._request = request
        self._matches_before = self._scanned_before = self._damaged_before = 0
        self.resume_token: str = request.resume_token
        """Where to go on, here or in another process: behind the last message of which all
        records were handed out; empty: all was searched."""
        self.scanned = 0
        """How many records were looked at."""
        self.matches = 0
        """How many of them match."""
        self.damaged_parts = 0
        """How many parts of logs were passed over, since they are damaged in the database."""
        self.end: SearchEnd.ValueType = SEARCH_END_UNSPECIFIED
        """Why the search has ended; SEARCH_END_UNSPECIFIED: it has not."""

    async def __aiter__(self) -> AsyncGenerator[FoundLogRecord]:
        """Hand out what is found, in the order of the search. Raises InvalidArgument, Unavailable.

        A broken stream goes on behind the last message that came through: nothing is missing, and
        nothing comes twice.
        """
        async with aclosing(resumed(self._calls, "the search", self._open)) as messages:
            async for message in messages:
                for record in message.records:
                    yield record
                self.resume_token = message.resume_token
                self.scanned = self._scanned_before + message.scanned
                self.matches = self._matches_before + message.matches
                self.damaged_parts = self._damaged_before + message.damaged_parts
                if message.end and message.end != SEARCH_END_SERVER_DRAINING:
                    self.end = message.end
                    return

    def _open(self) -> AsyncGenerator[SearchLogsResponse]:
        request = SearchLogsRequest()
        request.CopyFrom(self._request)
        request.resume_token = self.resume_token
        # Each stream counts from 0 on. One that broke just before its end is asked for one more.
        self._matches_before, self._scanned_before = self.matches, self.scanned
        self._damaged_before = self.damaged_parts
        request.max_matches = max(1, (request.max_matches or _MATCHES) - self.matches)
        request.max_scanned = max(1, (request.max_scanned or _SCANNED) - self.scanned)
        return transport.search(self._calls.stubs, request)
