"""Producers of log lines that speak the protocol themselves: numbered batches, acknowledgements."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from interlock.channel import OPTIONS
from interlock.ids import uuid7
from interlock.log_columns import pack
from interlock.v1.log_pb2 import AppendLogsRequest, AppendLogsResponse, RefusedLogBatch
from interlock.v1.log_pb2_grpc import LogServiceStub

from tests.faults.history import History

WINDOW = 8
"""How many batches are under way, unless said otherwise."""

_PAUSE = 0.3
"""Seconds between a stream that broke and the next one."""

_SECOND = 1_000_000
_INFO = 20


class BatchProducer:
    """Sends batches; when a stream breaks, it sends what had no answer again on the next one."""

    def __init__(
        self,
        on_progress: Callable[[], None] = lambda: None,
        *,
        pause: float = _PAUSE,
        window: int = WINDOW,
    ) -> None:
        self.id = uuid7()
        self.streams = 0
        """How many streams were opened."""
        self.resent = 0
        """How many batches were sent once more."""
        self.answered = 0
        """How many batches are durable, or refused."""
        self.refused: dict[int, RefusedLogBatch] = {}
        """The batches that were refused, by their numbers."""
        self._on_progress = on_progress
        self._pause = pause
        self._window = window
        self._unanswered: deque[AppendLogsRequest] = deque()
        self._fresh: Iterator[AppendLogsRequest] = iter(())
        self._call: Any = None

    async def send(
        self, target: str, batches: Iterator[AppendLogsRequest], patience: float
    ) -> None:
        """Send batches, which are numbered already; return when all of them are answered.

        Gives up after `patience` seconds without a stream that gets anything through.
        """
        self._fresh = batches
        now = asyncio.get_running_loop().time
        async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
            stub: Any = LogServiceStub(channel)
            known, deadline = self.answered, now() + patience
            while not await self._stream(stub):
                if self.answered > known:
                    known, deadline = self.answered, now() + patience
                assert now() < deadline, f"No stream of {self.id} gets through."
                await asyncio.sleep(self._pause)

    def break_off(self) -> None:
        """Cancel the stream that is open, if it has had an answer; the next one goes on."""
        if self._call is not None:
            self._call.cancel()

    async def _stream(self, stub: Any) -> bool:
        """Work on one stream; answer whether all is done."""
        self.streams += 1
        call = stub.AppendLogs(wait_for_ready=True)
        try:
            # Without a number it asks what is durable already.
            await call.write(AppendLogsRequest(producer_id=self.id))
            if await call.read() is grpc.aio.EOF:
                return False
            # Not before: on a call that is cancelled before its metadata were sent, grpc.aio's
            # write waits for ever.
            self._call = call
            # Also what the server says is durable: among that may be batches that were refused.
            for request in self._unanswered:
                self.resent += 1
                await call.write(request)
            while True:
                while len(self._unanswered) < self._window and (fresh := next(self._fresh, None)):
                    self._unanswered.append(fresh)
                    await call.write(fresh)
                if not self._unanswered:
                    return True
                response = await call.read()
                if response is grpc.aio.EOF:
                    return False
                self._take(response)
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

    def _take(self, response: AppendLogsResponse) -> None:
        self.refused.update((each.number, each) for each in response.refused)
        while self._unanswered and self._unanswered[0].number <= response.acknowledged:
            self._on_answer(self._unanswered.popleft())
        self._on_progress()

    def _on_answer(self, request: AppendLogsRequest) -> None:
        self.answered += 1


class Producer(BatchProducer):
    """Appends numbered lines to one log, and notes in a history what becomes of them."""

    def __init__(
        self,
        history: History,
        run_id: str,
        on_progress: Callable[[], None] = lambda: None,
        pause: float = _PAUSE,
        text: str = "",
    ) -> None:
        super().__init__(on_progress, pause=pause)
        self._history = history
        self._run_id = run_id
        self._text = text

    async def run(self, target: str, batches: int, lines: int, patience: float) -> None:
        """Append so many batches of so many lines; return when all of them are durable."""
        await self.send(target, self._make(batches, lines), patience)
        assert not self.refused, self.refused

    def _make(self, batches: int, lines: int) -> Iterator[AppendLogsRequest]:
        for b in range(batches):
            texts = [f"{self.id}: batch {b} line {i} {self._text}" for i in range(lines)]
            number = self._history.appended(self.id, self._run_id, texts)
            records = pack([(b * _SECOND, _INFO, "load", text, "", False) for text in texts])
            yield AppendLogsRequest(number=number, run_id=self._run_id, records=records)

    def _on_answer(self, request: AppendLogsRequest) -> None:
        super()._on_answer(request)
        self._history.acknowledged(self.id, self._run_id, request.number)
