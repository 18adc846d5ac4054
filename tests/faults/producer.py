"""A producer of log lines that speaks the protocol itself: numbered batches, acknowledgements."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from interlock.channel import OPTIONS
from interlock.ids import uuid7
from interlock.log_columns import pack
from interlock.v1.log_pb2 import AppendLogsRequest
from interlock.v1.log_pb2_grpc import LogServiceStub

from tests.faults.history import History

_WINDOW = 8
"""How many batches are under way."""

_PAUSE = 0.3
"""Seconds between a stream that broke and the next one."""

_SECOND = 1_000_000
_INFO = 20


class Producer:
    """Appends lines to one log; when a stream breaks, it goes on from where the server is."""

    def __init__(
        self,
        history: History,
        run_id: str,
        on_progress: Callable[[], None] = lambda: None,
        pause: float = _PAUSE,
        text: str = "",
    ) -> None:
        self.id = uuid7()
        self._history = history
        self._run_id = run_id
        self._on_progress = on_progress
        self._pause = pause
        self._text = text
        self._unacknowledged: deque[AppendLogsRequest] = deque()
        self._fresh: Iterator[AppendLogsRequest] = iter(())
        self._call: Any = None
        self.streams = 0
        """How many streams were opened."""

    async def run(self, target: str, batches: int, lines: int, patience: float) -> None:
        """Append so many batches of so many lines; return when all of them are durable.

        Gives up after `patience` seconds without a stream that gets anything through.
        """
        self._fresh = self._make(batches, lines)
        now = asyncio.get_running_loop().time
        async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
            stub: Any = LogServiceStub(channel)
            known, deadline = self._history.progress, now() + patience
            while not await self._stream(stub):
                if self._history.progress > known:
                    known, deadline = self._history.progress, now() + patience
                assert now() < deadline, f"No stream of {self.id} gets through."
                await asyncio.sleep(self._pause)

    def break_off(self) -> None:
        """Cancel the stream that is open, if it has had an answer; the next one goes on."""
        if self._call is not None:
            self._call.cancel()

    def _make(self, batches: int, lines: int) -> Iterator[AppendLogsRequest]:
        for b in range(batches):
            texts = [f"{self.id}: batch {b} line {i} {self._text}" for i in range(lines)]
            number = self._history.appended(self.id, self._run_id, texts)
            records = pack([(b * _SECOND, _INFO, "load", text, "", False) for text in texts])
            yield AppendLogsRequest(
                producer_id=self.id, number=number, run_id=self._run_id, records=records
            )

    async def _stream(self, stub: Any) -> bool:
        """Work on one stream; answer whether all is done."""
        self.streams += 1
        call = stub.AppendLogs(wait_for_ready=True)
        try:
            # Without a number it asks what is durable already.
            await call.write(AppendLogsRequest(producer_id=self.id))
            if not self._take(await call.read()):
                return False
            # Not before: on a call that is cancelled before its metadata were sent, grpc.aio's
            # write waits for ever.
            self._call = call
            for request in self._unacknowledged:
                await call.write(request)
            while True:
                while len(self._unacknowledged) < _WINDOW and (fresh := next(self._fresh, None)):
                    self._unacknowledged.append(fresh)
                    await call.write(fresh)
                if not self._unacknowledged:
                    return True
                if not self._take(await call.read()):
                    return False
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        except asyncio.CancelledError:
            # So it is told, too, that the stream was broken off.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        finally:
            self._call = None
            call.cancel()

    def _take(self, response: Any) -> bool:
        """Note what is acknowledged; answer whether the stream goes on."""
        if response is grpc.aio.EOF:
            return False
        assert not response.refused, response.refused
        unacknowledged = self._unacknowledged
        while unacknowledged and unacknowledged[0].number <= response.acknowledged:
            unacknowledged.popleft()
        self._history.acknowledged(self.id, self._run_id, response.acknowledged)
        self._on_progress()
        return True
