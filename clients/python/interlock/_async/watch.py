"""Watching runs over streams that break."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

from interlock._async import transport
from interlock._async.calls import Calls
from interlock._async.streams import resumed
from interlock.v1.run_event_pb2 import RunEvent, WatchRunsRequest, WatchRunsResponse


class AsyncRunWatch:
    """A watch of runs: iterate over it, for as long as you like. Made by `watch_runs`."""

    def __init__(self, calls: Calls, request: WatchRunsRequest) -> None:
        self._calls = calls
        self._request = request
        self.resume_token: str = request.resume_token
        """Where to go on, here or in another process: behind the last event handed out."""
        self.stalled = timedelta()
        """For how long the server has been held up; see `WatchRunsResponse.stalled`."""

    async def start(self) -> None:
        """Fix where the watch begins, unless that is known: what is committed from now on is told.

        Without it a watch begins as it is first iterated over. Raises what iterating raises.
        """
        if not self.resume_token:
            async with aclosing(self._messages()) as messages:
                async for message in messages:
                    self.resume_token = message.resume_token
                    return

    async def __aiter__(self) -> AsyncGenerator[RunEvent]:
        """Hand out what is committed, in order, each once, over as many streams as it takes.

        Raises OutOfRange where changes may have been missed, so that the runs have to be read anew;
        Unavailable where no server could be reached for the client's `timeout`.
        """
        async with aclosing(self._messages()) as messages:
            async for message in messages:
                self.stalled = message.stalled.ToTimedelta()
                for event in message.events:
                    self.resume_token = event.resume_token
                    yield event
                self.resume_token = message.resume_token

    def _messages(self) -> AsyncGenerator[WatchRunsResponse]:
        return resumed(self._calls, "the watch", self._open)

    def _open(self) -> AsyncGenerator[WatchRunsResponse]:
        request = WatchRunsRequest()
        request.CopyFrom(self._request)
        if self.resume_token:
            request.resume_token = self.resume_token
            request.ClearField("since")
        return transport.watch(self._calls.stubs, request)
