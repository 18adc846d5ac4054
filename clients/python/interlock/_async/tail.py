"""Following a log over streams that break."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc

from interlock._async import transport
from interlock._async.calls import Calls
from interlock.errors import InterlockError, Unavailable, from_rpc_error
from interlock.v1.log_pb2 import (
    TAIL_END_SERVER_DRAINING,
    TAIL_END_UNSPECIFIED,
    LogFilter,
    LogRecord,
    TailEnd,
    TailLogsRequest,
)

_LONG_LIVED = 30.0
"""A stream that lived for so many seconds was connected, though it had nothing to say: what broke
it begins a new time budget. Longer than gRPC takes to give up a connection (20 s)."""


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
        attempts = self._calls.attempts(replay=True)
        while not self.end:
            attempts.begin()
            began, progress = time.monotonic(), False
            request = TailLogsRequest(
                run_id=self._run_id, filter=self._filter, from_ordinal=self.next_ordinal
            )
            # A stream that ends without saying why was cut: by a proxy, by a server that goes away.
            error: InterlockError = Unavailable("the stream of the log was cut", retry_after=0.0)
            try:
                async with aclosing(transport.tail(self._calls.stubs, request)) as stream:
                    async for response in stream:
                        progress = True
                        for record in response.records:
                            self.next_ordinal = record.ordinal + 1
                            yield record
                        self.next_ordinal = max(self.next_ordinal, response.next_ordinal)
                        if response.end and response.end != TAIL_END_SERVER_DRAINING:
                            self.end = response.end
                            return
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
            if progress or time.monotonic() - began > _LONG_LIVED:
                attempts = self._calls.attempts(replay=True)
            delay = attempts.delay_after(error)
            if delay is None:
                raise error
            await transport.sleep(delay)
