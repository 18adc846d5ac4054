"""The outbox: joins the queue, the batches made of it and the unacknowledged ones to streams.

What it promises: at any time one stream at most draws requests, each batch once a stream and in
order; and a stream that has ended takes nothing more out of the queue than it had in hand, which
stays here for the next one.

Two threads are in here: gRPC's, which draws the requests (`requests`), and ours, which takes in
what comes back. See `interlock.logs` for the locks.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from interlock.errors import InterlockError
from interlock.logs.batching import ASSUMED_LIMITS, Forming, end_of_run
from interlock.logs.record_queue import Mark, RecordQueue
from interlock.logs.stderr import say
from interlock.logs.unacknowledged import Refusal, Unacknowledged
from interlock.v1.log_pb2 import AppendLogsRequest, AppendLogsResponse, RefusedLogBatch

_RENUMBERED = "the service does not know this producer of logs as it was: going on as a new one"


class Outbox:
    """What is between the queue and the service."""

    def __init__(
        self,
        records: RecordQueue,
        interval: float,
        on_refused: Callable[[RefusedLogBatch, int], None],
    ) -> None:
        """Make one on a queue.

        Args:
            records: the queue.
            interval: how many seconds a record may wait for others to be sent with it.
            on_refused: called in our thread with what was refused and how many records it was.
        """
        self.limits = ASSUMED_LIMITS
        self.trouble = ""
        """Why nothing can be delivered at the moment; empty: nothing is known to be wrong."""
        self.failure: Exception | None = None
        """The trouble, if it does not pass by itself."""
        self.stopped = False
        self.call: Any = None
        """The call of the current stream."""

        self._records = records
        self._lock = records.lock
        self._moved = threading.Condition(self._lock)
        """Told when the window opens, and when a stream ends."""
        self._interval = interval
        self._on_refused = on_refused
        self._forming = Forming()
        self._unacknowledged = Unacknowledged()
        self._collector = threading.Lock()
        """Held by whoever takes records out of the queue; taken before the lock."""
        self._collecting = False
        self._stream = 0
        self._ready = False
        """Whether the current stream has had its first answer."""

    @property
    def delivered(self) -> int:
        """How many records are durable."""
        return self._unacknowledged.delivered

    @property
    def refused(self) -> int:
        """How many records were refused, or given up."""
        return self._unacknowledged.refused

    @property
    def pending(self) -> int:
        """How many records were taken out of the queue and are not acknowledged."""
        with self._lock:
            return self._forming.records + self._unacknowledged.records

    # Out of the queue: gRPC's sending thread

    def requests(self) -> Iterator[AppendLogsRequest]:
        """Open a stream: its requests, drawn by gRPC's thread, until the stream has ended."""
        with self._lock:
            self._stream += 1
            self._ready = False
            self._unacknowledged.send_again()
            stream = self._stream
            producer = self._unacknowledged.producer
        return self._draw(stream, producer)

    def _draw(self, stream: int, producer: str) -> Iterator[AppendLogsRequest]:
        yield AppendLogsRequest(producer_id=producer)
        while True:
            with self._lock:
                # The first answer tells whether the service knows us.
                while stream == self._stream and not self._ready:
                    self._moved.wait()
                if stream != self._stream:
                    return
                request = self._unacknowledged.next_unsent()
                if request is None and self._unacknowledged.size >= self.limits.log_window_bytes:
                    self._moved.wait()
                    continue
            if request is not None:
                yield request
            elif not self._collect(stream):
                return

    def _collect(self, stream: int) -> bool:
        """Take records out of the queue until there is a batch to send; False: the stream is over.

        One thread at a time, so that the order stays. One whose stream ends while it waits is woken
        by a None in the queue; what it has taken until then stays in `_forming`.
        """
        with self._collector:
            with self._lock:
                if stream != self._stream:
                    return False
                self._collecting = True
            try:
                ready, mark = self._gather(stream)
            finally:
                self._collecting = False
            if ready:
                self._finish(mark)
            return ready

    def _gather(self, stream: int) -> tuple[bool, Mark | None]:
        """Fill `_forming` until it is to be sent, and answer the mark that says so, if one does."""
        forming = self._forming
        forming.limit(self.limits)
        due = time.monotonic() + self._interval if forming.records else None
        while True:
            try:
                item = self._records.get(None if due is None else due - time.monotonic())
            except queue.Empty:
                return True, None
            with self._lock:
                for entry in self._records.take(item):
                    forming.add(entry)
                if isinstance(item, Mark):
                    return True, item
                if item is None and stream != self._stream:
                    return False, None
                if forming.is_full():
                    return True, None
            if due is None and forming.records:
                due = time.monotonic() + self._interval

    def _finish(self, mark: Mark | None) -> None:
        """Number what is in the making, then the mark. Packs without the lock: callers want it."""
        made = self._forming.batches(self.limits)
        if mark is not None and mark.run_id:
            made.append(end_of_run(mark.run_id))
        with self._lock:
            self._forming.clear()
            self._unacknowledged.add(made)
            if mark is not None and mark.done is not None:
                self._unacknowledged.when_settled(mark.done)
                self._unacknowledged.settle()

    # What comes back: our thread

    def take(self, response: AppendLogsResponse) -> None:
        """Take in what the service says: what is durable, what it refused."""
        refusals: list[Refusal] = []
        with self._lock:
            known = self._unacknowledged.knows(response.acknowledged)
            if known:
                # The first answer speaks of all that is durable. What was refused is not told with
                # it: that is found out by sending again.
                if self._ready:
                    refusals = self._unacknowledged.acknowledge(response)
                self._ready = True
                self._moved.notify_all()
            else:
                self._renumber()
        if not known:
            say(_RENUMBERED)
        for refusal in refusals:
            self._on_refused(*refusal)
        # After the reports: whoever waits for the records finds them told.
        with self._lock:
            self._unacknowledged.settle()

    def is_current(self) -> bool:
        """Tell whether the stream that was opened last is still to be used."""
        with self._lock:
            return self._ready

    def first_number(self) -> int:
        """Answer the number of the oldest batch that is not acknowledged; 0: there is none."""
        with self._lock:
            return self._unacknowledged.first_number

    def give_up_first(self, error: InterlockError) -> None:
        """Replace the oldest batch, which the service can not take, by words that say so."""
        with self._lock:
            refusal = self._unacknowledged.give_up_first(error)
        self._on_refused(*refusal)

    def renumber(self) -> None:
        """Go on as a new producer: the service knows another history of this one than we do."""
        with self._lock:
            self._renumber()
        say(_RENUMBERED)

    def _renumber(self) -> None:
        self._unacknowledged.renumber()
        # The stream in hand names the old producer.
        self.end_stream()

    def end_stream(self) -> None:
        """The stream is over: whoever draws its requests stops."""
        with self._lock:
            self._stream += 1
            self._ready = False
            self._moved.notify_all()
            if self._collecting:
                self._records.wake()

    # The end

    def stop(self) -> None:
        """End the current stream and open no other."""
        with self._lock:
            self.stopped = True
            self.end_stream()

    def hang_up(self) -> None:
        """Cancel the current stream, whatever it is doing."""
        call = self.call
        if call is not None:
            call.cancel()

    def wait_unless_stopped(self, seconds: float) -> None:
        """Wait for some seconds, or until it is stopped."""
        until = time.monotonic() + seconds
        with self._lock:
            while not self.stopped and (left := until - time.monotonic()) > 0:
                self._moved.wait(left)
