"""The part of the client that says that runs live, and the heart that does so by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

import grpc

from interlock import values
from interlock._async import transport
from interlock._async.calls import Calls
from interlock._async.parts import Part
from interlock.errors import InterlockError, from_item
from interlock.v1.run_heartbeat_pb2 import (
    Heartbeat,
    HeartbeatAdvice,
    HeartbeatAnswer,
    SendHeartbeatsRequest,
)
from interlock.values import Seconds

_logger = logging.getLogger("interlock.heartbeats")

_BEATS = 3
"""How many heartbeats fall into a timeout: two in a row may be lost."""

_SOONEST = 0.5
"""After how many seconds, at most, heartbeats that could not be sent are sent again."""


class Heartbeats(Part):
    """Heartbeats by hand; `flow_run(..., heartbeat=30)` sends them by itself."""

    heart: Heart
    """What sends the heartbeats of blocks."""

    async def send_heartbeats(
        self, heartbeats: Iterable[Heartbeat]
    ) -> list[HeartbeatAnswer | InterlockError]:
        """Say that runs live, and answer for each of them what it is to do, or what was wrong."""
        return await send(self._calls, heartbeats)


async def send(
    calls: Calls, heartbeats: Iterable[Heartbeat]
) -> list[HeartbeatAnswer | InterlockError]:
    """Send heartbeats, as many at once as the server takes. Raises InterlockError."""
    return [
        from_item(outcome.error) if outcome.HasField("error") else outcome.answer
        async for response in calls.batches(
            calls.stubs.heartbeats.SendHeartbeats,
            list(heartbeats),
            lambda batch: SendHeartbeatsRequest(heartbeats=batch),
        )
        for outcome in response.outcomes
    ]


class Watched:
    """A run that the heart beats for.

    `beat` makes its next heartbeat, without the timeout; `tell` hears what each was answered.
    """

    def __init__(
        self,
        timeout: Seconds,
        beat: Callable[[], Heartbeat],
        tell: Callable[[HeartbeatAdvice.ValueType], None],
    ) -> None:
        self.timeout = values.total_seconds(timeout)
        self.interval = self.timeout / _BEATS
        self.due = 0.0
        """When the next heartbeat is to be sent, by the monotonic clock."""
        self.tell = tell
        self._beat = beat

    def heartbeat(self) -> Heartbeat:
        """Make the next heartbeat."""
        heartbeat = self._beat()
        heartbeat.timeout.FromMicroseconds(round(self.timeout * 1_000_000))
        return heartbeat


class Heart:
    """Sends the heartbeats of all runs of a client together, for as long as there are some.

    What goes wrong is tried again, and is said once in the log of `interlock.heartbeats`: a run
    goes on also where nobody can be told.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._watched: list[Watched] = []
        self._changed = transport.Signal()
        self._beating: transport.Background | None = None
        self._lock = threading.Lock()
        self._trouble = ""

    def watch(self, run: Watched) -> None:
        """Beat for a run from now on."""
        with self._lock:
            self._watched.append(run)
            if self._beating is None:
                self._beating = transport.Background(self._beat)
        self._changed.set()

    def forget(self, run: Watched) -> None:
        """Beat for a run no more."""
        with self._lock:
            if run in self._watched:
                self._watched.remove(run)
        self._changed.set()

    async def close(self) -> None:
        """Beat no more. May be called twice."""
        with self._lock:
            self._watched.clear()
            beating = self._beating
        self._changed.set()
        if beating is not None:
            await beating.stop()

    async def _beat(self) -> None:
        while True:
            with self._lock:
                watched = list(self._watched)
                if not watched:
                    self._beating = None
                    return
            now = time.monotonic()
            left = min(run.due for run in watched) - now
            if left > 0:
                await self._changed.wait(left)
                continue
            # Those that are nearly due go along: one call for all.
            due = [run for run in watched if run.due - now < run.interval / 2]
            for run in due:
                run.due = now + run.interval
            await self._send(due)

    async def _send(self, due: list[Watched]) -> None:
        calls = self._calls.with_timeout(min(run.interval for run in due))
        try:
            answers = await send(calls, [run.heartbeat() for run in due])
        except Exception as error:
            self._say(f"heartbeats can not be sent: {error}")
            soon = time.monotonic() + _SOONEST
            hopeless = (
                isinstance(error, InterlockError) and error.code is grpc.StatusCode.UNIMPLEMENTED
            )
            for run in due:
                if hopeless:
                    self.forget(run)
                run.due = min(run.due, soon)
            return
        self._trouble = ""
        for run, answer in zip(due, answers, strict=True):
            if isinstance(answer, InterlockError):
                self._say(f"a heartbeat was refused: {answer}")
                continue
            try:
                run.tell(answer.advice)
            except Exception:
                _logger.exception("what is called when a run is to stop has failed")

    def _say(self, trouble: str) -> None:
        if not self._trouble:
            _logger.warning("%s", trouble)
        self._trouble = trouble
