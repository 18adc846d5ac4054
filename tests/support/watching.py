"""Watching runs in a few words."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from interlock.v1 import run_event_pb2 as pb

from tests.support.stubs import Stubs

TIMEOUT = 30.0
"""Seconds that a watch of a test may take."""


class Watch:
    """A watch that has begun: what is committed from now on is told."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._ahead: list[pb.RunEvent] = []
        first = next(call)
        assert not first.events
        self.token: str = first.resume_token
        """Behind the last event that was taken, or the last message without any."""

    def take(self, count: int) -> list[pb.RunEvent]:
        """The next events."""
        while len(self._ahead) < count:
            message = self.message()
            self._ahead += message.events
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        self.token = taken[-1].resume_token
        return taken

    def message(self) -> pb.WatchRunsResponse:
        """The next message."""
        message: pb.WatchRunsResponse = next(self._call)
        assert message.resume_token
        if not message.events:
            self.token = message.resume_token
        return message

    def rest(self) -> None:
        """Read to the end. Raises RpcError: a watch has no end of its own."""
        for _ in self._call:
            pass


@contextmanager
def watching(
    stubs: Stubs,
    filter: pb.RunEventFilter | None = None,  # noqa: A002 - the contract's word
    **request: Any,
) -> Iterator[Watch]:
    """Watch within the context."""
    seconds = request.pop("progress_interval", None)
    asked = pb.WatchRunsRequest(filter=filter, **request)
    if seconds is not None:
        asked.progress_interval.FromTimedelta(timedelta(seconds=seconds))
    call = stubs.run_events.WatchRuns(asked, timeout=TIMEOUT)
    try:
        yield Watch(call)
    finally:
        call.cancel()
