"""The outbox: joins the queue, its batches, the unacknowledged ones and the spill to streams.

What it promises: at any time one stream at most draws requests, each batch once a stream and in
order; and a stream that has ended takes nothing more out of the queue than it had in hand, which
stays here for the next one. What went to the file is sent before anything that is in the queue.

Three threads are in here: gRPC's, which draws the requests (`requests`); ours, which takes in what
comes back; and the spiller, which moves what is in the queue to the file (`spill_over`). See
`interlock.logs` for the locks.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from interlock.errors import InterlockError
from interlock.logs.batching import ASSUMED_LIMITS, Batch, Forming, end_of_run
from interlock.logs.record_queue import Item, Mark, RecordQueue
from interlock.logs.spill import Spill
from interlock.logs.spill_file import Contents, SpillFile, SpillFileError, to_frame
from interlock.logs.stderr import say
from interlock.logs.unacknowledged import Refusal, Unacknowledged
from interlock.v1.log_pb2 import AppendLogsRequest, AppendLogsResponse, RefusedLogBatch

_PATIENCE = 0.1
"""How many seconds one who logs may be held up by a full queue while the spiller makes room."""
_YIELD = 0.001
"""Seconds in which a stream gets the collector from the spiller."""
_LAST_WAIT = 2.0
"""How many seconds the end of a process waits for whoever has the collector."""
_RENUMBERED = "the service does not know this producer of logs as it was: going on as a new one"


class Outbox:
    """What is between the queue and the service."""

    def __init__(
        self,
        records: RecordQueue,
        interval: float,
        on_refused: Callable[[RefusedLogBatch, int], None],
        spill: Spill,
    ) -> None:
        """Make one on a queue.

        Args:
            records: the queue.
            interval: how many seconds a record may wait for others to be sent with it.
            on_refused: called in our thread with what was refused and how many records it was.
            spill: where batches go when the queue is crowded.
        """
        self.limits = ASSUMED_LIMITS
        self.trouble = ""
        """Why nothing can be delivered at the moment; empty: nothing is known to be wrong."""
        self.failure: Exception | None = None
        """The trouble, if it does not pass by itself."""
        self.stopped = False
        self.call: Any = None
        """The call of the current stream."""

        self.spill = spill
        records.be_patient(_PATIENCE if spill.takes else 0.0)
        self._records = records
        self._lock = records.lock
        self._moved = threading.Condition(self._lock)
        """Told when the window opens, and when a stream ends."""
        self._interval = interval
        self._on_refused = on_refused
        self._forming = Forming()
        self._mark: Mark | None = None
        """The mark behind what is in the making; taken out of the queue like that."""
        self._unacknowledged = Unacknowledged()
        self._collector = threading.Lock()
        """Held by whoever takes records out of the queue; taken before the lock."""
        self._drawing = False
        """Whether a stream waits for the collector."""
        self._collecting = False
        self._stream = 0
        self._ready = False
        """Whether the current stream has had its first answer."""

    def resume(self, file: SpillFile, contents: Contents) -> None:
        """Begin with what another process has left in a file, as its producer."""
        self._unacknowledged.resume(file.producer, file.shift, contents.last_number)

    @property
    def delivered(self) -> int:
        """How many records are durable."""
        return self._unacknowledged.delivered

    @property
    def refused(self) -> int:
        """How many records were refused, or given up."""
        return self._unacknowledged.refused

    @property
    def known(self) -> int:
        """How many records of a file that was left the service had already."""
        return self._unacknowledged.known

    @property
    def pending(self) -> int:
        """How many records were taken out of the queue and are not acknowledged."""
        with self._lock:
            in_memory = self._forming.records + self._unacknowledged.records
            return in_memory + self.spill.unread_records

    @property
    def left_in_file(self) -> int:
        """How many of the pending records are in the file."""
        with self._lock:
            if not self.spill.path:
                return 0
            behind = self._unacknowledged.behind(self.spill.last_number)
            lost = self._forming.records + sum(batch.records for _, batch in behind)
            return self.pending - lost

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
        """Take the next batches out of file or queue, to be sent; False: the stream is over.

        One thread at a time, so that the order stays. One whose stream ends while it waits is woken
        by a None in the queue; what it has taken until then stays in `_forming`.
        """
        self._drawing = True
        with self._collector:
            self._drawing = False
            with self._lock:
                if stream != self._stream:
                    return False
                from_file = self.spill.unread_batches > 0
                self._collecting = not from_file
            if from_file:
                self._load()
                return True
            try:
                ready = self._gather(stream)
            finally:
                self._collecting = False
            if ready:
                self._finish()
            return ready

    def _gather(self, stream: int) -> bool:
        """Fill `_forming` until it is to be sent; False: the stream is over."""
        if self._mark is not None:
            return True
        forming = self._forming
        forming.limit(self.limits)
        due = time.monotonic() + self._interval if forming.records else None
        while True:
            try:
                item = self._records.get(None if due is None else due - time.monotonic())
            except queue.Empty:
                return True
            if self._take_in(item):
                return True
            if item is None and stream != self._stream:
                return False
            if due is None and forming.records:
                due = time.monotonic() + self._interval

    def _gather_now(self) -> bool:
        """Fill `_forming` with what is in the queue, without waiting; False: there is nothing."""
        forming = self._forming
        forming.limit(self.limits)
        with contextlib.suppress(queue.Empty):
            while self._mark is None and not forming.is_full():
                self._take_in(self._records.get(0))
        return self._mark is not None or forming.records > 0

    def _take_in(self, item: Item) -> bool:
        """Add to `_forming` what an item of the queue stands for; True: it is to be sent."""
        with self._lock:
            for entry in self._records.take(item):
                self._forming.add(entry)
            if isinstance(item, Mark):
                self._mark = item
                return True
            return self._forming.is_full()

    def _make(self) -> list[Batch]:
        """Make batches of what is in the making. Packs without the lock: callers want it."""
        made = self._forming.batches(self.limits)
        if self._mark is not None and self._mark.run_id:
            made.append(end_of_run(self._mark.run_id))
        return made

    def _finish(self) -> None:
        """Number what is in the making, then the mark: it is to be sent from memory."""
        made = self._make()
        with self._lock:
            self._unacknowledged.add(made)
            self._made()

    def _made(self) -> None:
        """What was in the making is numbered. Called with the lock held."""
        self._forming.clear()
        mark, self._mark = self._mark, None
        if mark is not None and mark.done is not None:
            self._unacknowledged.when_settled(mark.done)
            self._unacknowledged.settle()

    # Into the file, and out of it

    def spill_over(self) -> bool:
        """Move what is in the queue to the file; False: the file does not take it all."""
        while not self.stopped:
            with self._collector:
                if not self._gather_now():
                    return True
                if not self._spill(self._make()):
                    return False
            if self._drawing:
                # Locks are not fair: while many records come, the file would not be sent.
                time.sleep(_YIELD)
        return True

    def leave(self) -> tuple[str, int]:
        """The end: leave what is not delivered in the file, as far as it takes it, and close that.

        Answers where the file is, and how many records are left there.
        """
        path, left = "", 0
        if not self._collector.acquire(timeout=_LAST_WAIT):
            return self.spill.path, self.left_in_file
        try:
            kept = self.spill.takes
            while kept and self._gather_now():
                kept = self._spill(self._make())
            if kept:
                # What is in memory, and not in the file yet.
                self._spill([])
            path, left = self.spill.path, self.left_in_file
            self.spill.close(remove=not left)
        finally:
            self._collector.release()
        return path, left

    def _spill(self, made: list[Batch]) -> bool:
        """Append batches to the file, and before them those in memory that it does not have."""
        unacknowledged, spill = self._unacknowledged, self.spill
        with self._lock:
            in_memory = unacknowledged.behind(spill.last_number) if spill.takes else []
            first = unacknowledged.last_number + 1
            producer, shift = unacknowledged.producer, unacknowledged.shift
            if made or in_memory:
                unacknowledged.reserve(len(made))
                before = spill.begin(unacknowledged.last_number)
            begins = not spill.path
        if not made and not in_memory:
            with self._lock:
                self._made()
            return True
        kept = spill.takes and spill.append(
            producer,
            shift,
            [to_frame(batch.request, number, batch.records) for number, batch in in_memory],
            [to_frame(batch.request, first + i, batch.records) for i, batch in enumerate(made)],
        )
        with self._lock:
            spill.end(kept, len(made), sum(batch.records for batch in made), before)
            if kept:
                self._made()
            else:
                unacknowledged.reserve(-len(made))
            renamed = unacknowledged.producer != producer
        if kept and begins and not self.stopped:
            why = (
                "the service takes log records too slowly: they"
                if self._ready
                else "the service can not be reached: log records"
            )
            say(f"{why} are kept in {spill.path}")
        if renamed:
            spill.identify(unacknowledged.producer, unacknowledged.shift)
        self._let_go()
        return kept

    def _load(self) -> None:
        """Take the next batch out of the file. With the collector held."""
        try:
            frame = self.spill.read()
        except (OSError, SpillFileError) as failure:
            with self._lock:
                path, lost = self.spill.path, self.spill.give_up()
                self._unacknowledged.forget_file()
                self._unacknowledged.refused += lost
                self._unacknowledged.settle()
            say(f"{lost:,} log records can not be read back from {path}: {failure}")
            return
        with self._lock:
            self.spill.count_read(frame.records)
            self._unacknowledged.load(*frame)
        self._let_go()

    def _let_go(self) -> None:
        """Delete the file if all in it is acknowledged; and tell those who wait for that."""
        with self._lock:
            file = self.spill.let_go(self._unacknowledged.acknowledged_number)
        if file is not None:
            try:
                file.remove()
            except OSError as failure:
                say(f"{file.path} is delivered and can not be deleted: {failure}")
            say(f"the service has all log records that were kept in {file.path}")
        with self._lock:
            self._unacknowledged.settle()
            self._records.be_patient(_PATIENCE if self.spill.takes else 0.0)
            if file is not None:
                self._moved.notify_all()

    # What comes back: our thread

    def take(self, response: AppendLogsResponse) -> bool:
        """Take in what the service says is durable, or refused; answer whether anything is new."""
        refusals: list[Refusal] = []
        with self._lock:
            before = self._unacknowledged.acknowledged_number
            known = self._unacknowledged.knows(response.acknowledged)
            if known:
                if self._ready:
                    refusals = self._unacknowledged.acknowledge(response)
                else:
                    self._unacknowledged.begin(response.acknowledged)
                self._ready = True
                self._moved.notify_all()
        if not known:
            self.renumber()
        for refusal in refusals:
            self._on_refused(*refusal)
        # After the reports: whoever waits for the records finds them told.
        self._let_go()
        return self._unacknowledged.acknowledged_number > before

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
            # The stream in hand names the old producer. Without it the collector is soon free.
            self.end_stream()
            self._unacknowledged.renumber()
            producer, shift = self._unacknowledged.producer, self._unacknowledged.shift
        with self._collector:
            self.spill.identify(producer, shift)
        say(_RENUMBERED)

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
            self._records.crowded.set()

    def hang_up(self) -> None:
        """Cancel the current stream, whatever it is doing."""
        call = self.call
        if call is not None:
            call.cancel()

    def wait_for_crowd(self) -> bool:
        """Wait until the queue is crowded and the file takes more; False: that is all over."""
        crowded = self._records.crowded
        while not self.stopped and not self.spill.is_off:
            crowded.wait()
            with self._lock:
                if self.spill.takes and not self.stopped:
                    crowded.clear()
                    return True
                if not self.stopped:
                    # Something has to become durable first.
                    self._moved.wait()
        return False

    def wait_unless_stopped(self, seconds: float) -> None:
        """Wait for some seconds, or until it is stopped."""
        until = time.monotonic() + seconds
        with self._lock:
            while not self.stopped and (left := until - time.monotonic()) > 0:
                self._moved.wait(left)
