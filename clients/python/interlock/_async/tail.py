"""Following a log over streams that break."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from interlock._async import transport
from interlock._async.calls import Calls
from interlock._async.streams import resumed
from interlock.v1.log_pb2 import (
    TAIL_END_SERVER_DRAINING,
    TAIL_END_UNSPECIFIED,
    LogFilter,
    LogRecord,
    TailEnd,
    TailLogsRequest,
    TailLogsResponse,
)


class AsyncLogTail:
    """A log that is followed: iterate over it once. Made by `tail_logs`."""

    def __init__(
        self,
        calls: Calls,
        run_id: str,
        filter: LogFilter | None,  # noqa: A002 - the contract's word
        from_ordinal: int,
    ) -> None:
        self._calls = calls
        self._run_id = run_id
        self._filter = filter
        self.next_ordinal: int = from_ordinal
        """Where to go on, here or in another process: behind the last record handed out."""
        self.end: TailEnd.ValueType = TAIL_END_UNSPECIFIED
        """Why the log has ended; TAIL_END_UNSPECIFIED: it has not."""

    async def __aiter__(self) -> AsyncGenerator[LogRecord]:
        """Hand out the records in the order of the log. Raises NotFound, or Unavailable."""
        if self.end:
            return
        messages = resumed(self._calls, "the stream of the log", self._open)
        async with aclosing(messages):
            async for response in messages:
                for record in response.records:
                    self.next_ordinal = record.ordinal + 1
                    yield record
                self.next_ordinal = max(self.next_ordinal, response.next_ordinal)
                if response.end and response.end != TAIL_END_SERVER_DRAINING:
                    self.end = response.end
                    return

    def _open(self) -> AsyncGenerator[TailLogsResponse]:
        request = TailLogsRequest(
            run_id=self._run_id, filter=self._filter, from_ordinal=self.next_ordinal
        )
        return transport.tail(self._calls.stubs, request)
