"""The bounded queue between those who log and the thread that ships.

What it promises: `offer` does not wait for the service. Beyond the limits a record is dropped and
counted, and its place is kept: before the next record that is put in, or at the next mark that is
taken out, stand words that say how many are missing there. `put` waits instead.

`lock` guards the counters; the outbox uses it, too, so that all counts fit together.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TypeAlias

from interlock.logs.records import Entry, PlainLine, clock, own_line, size_of

_MOST_RUNS = 10_000
"""How many runs that have not ended are remembered; beyond them the oldest just falls silent."""


@dataclass(slots=True)
class Mark:
    """A place in the queue: what is before it is to be sent at once, or a run has ended there."""

    done: threading.Event | None = None
    """Set once all that is before the mark is durable, or refused."""
    run_id: str = ""
    """The log of the run that has ended; empty: none."""


Item: TypeAlias = Entry | Mark | None
"""What is in the queue. None just wakes whoever takes things out."""


@dataclass(slots=True)
class _Dropped:
    """Records of one run that found the queue full."""

    count: int = 0
    first_us: int = 0
    last_us: int = 0


class RecordQueue:
    """Records on their way from many threads to one."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        """Make an empty queue; the limits are how many records, and bytes of them, may wait."""
        # Re-entrant: a signal handler may log while its thread is in here.
        self.lock = threading.RLock()
        self.put_records = self.taken_records = self.dropped_records = 0
        self._put_bytes = self._taken_bytes = 0
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._crowd_records = max_records * 3 // 4
        self._crowd_bytes = max_bytes * 3 // 4
        self.crowded = threading.Event()
        """Set while there is so much in the queue that some of it is better moved to the spill."""
        self._patience = 0.0
        """How many seconds `offer` may wait for the spill to make room."""
        self._stalled = False
        """Whether one has waited as long in vain, so that others do not."""
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._room = threading.Condition(self.lock)
        """Told when whoever waits in `put` may go on."""
        self._waiting_for_room = 0
        self._dropped: dict[str, _Dropped] = {}
        self._runs: dict[str, bool] = {}
        """The runs that something was logged for and that have not ended, as far as we know."""

    # In: those who log

    def offer(self, run_id: str, line: PlainLine) -> bool:
        """Put a record in; False: the queue is full, and the record was dropped."""
        entry = Entry(run_id, line, size_of(line))
        with self.lock:
            if self._is_crowded(entry.size) and not self._has_room(entry.size):
                self._drop(run_id, line[0])
                return False
            for words in self._words_of_drops():
                self._put(words)
            self._put(entry)
            return True

    def put(self, run_id: str, line: PlainLine, timeout: float) -> bool:
        """Put a record in, and wait for room; False: there was none within `timeout` seconds."""
        entry = Entry(run_id, line, size_of(line))
        with self.lock:
            if self._is_full(entry.size) and not self._wait_for_room(entry.size, timeout):
                return False
            self._put(entry)
            return True

    def end_run(self, run_id: str) -> None:
        """Put in that a run has ended, if anything was logged for it."""
        with self.lock:
            if self._runs.pop(run_id, False):
                self._items.put(Mark(run_id=run_id))

    def mark(self) -> threading.Event:
        """Answer an event that is set once all that is in by now is durable, or refused."""
        done = threading.Event()
        self._items.put(Mark(done=done))
        return done

    def wake(self) -> None:
        """Make whoever waits in `get` look around."""
        self._items.put(None)

    def be_patient(self, seconds: float) -> None:
        """Let `offer` wait so long for the spill to make room; 0: it makes none, wait no more."""
        with self.lock:
            if self._patience != seconds:
                self._patience = seconds
                self._room.notify_all()

    # Out: one thread at a time

    def get(self, timeout: float | None) -> Item:
        """Wait for the next item, for `timeout` seconds if one is given. Raises queue.Empty."""
        if timeout is None or timeout > 0:
            return self._items.get(timeout=timeout)
        return self._items.get_nowait()

    def take(self, item: Item) -> list[Entry]:
        """Count an item from `get` as taken; answer the records that stand in its place."""
        with self.lock:
            if isinstance(item, Entry):
                self.taken_records += 1
                self._taken_bytes += item.size
                if (self._waiting_for_room or self._stalled) and self._is_roomy():
                    self._stalled = False
                    self._room.notify_all()
                return [item]
            # Nothing was put in since these were dropped, or they would have been told then: this
            # is their place.
            return self._words_of_drops()

    # With the lock held

    def _is_crowded(self, size: int) -> bool:
        """Tell whether the spiller is to make room before the queue is full."""
        return (
            self.put_records - self.taken_records >= self._crowd_records
            or self._put_bytes - self._taken_bytes + size > self._crowd_bytes
        )

    def _has_room(self, size: int) -> bool:
        """Wake the spiller; where the queue is full give it a moment, unless it makes no way."""
        if not self.crowded.is_set():
            self.crowded.set()
        if not self._is_full(size):
            return True
        if self._patience and not self._stalled:
            self._stalled = not self._wait_for_room(size, self._patience, for_spill=True)
            return not self._stalled
        return False

    def _wait_for_room(self, size: int, timeout: float, *, for_spill: bool = False) -> bool:
        until = time.monotonic() + timeout
        self._waiting_for_room += 1
        try:
            while self._is_full(size):
                left = until - time.monotonic()
                if left <= 0 or (for_spill and not self._patience):
                    return False
                self._room.wait(left)
        finally:
            self._waiting_for_room -= 1
        return True

    def _is_full(self, size: int) -> bool:
        waiting = self.put_records - self.taken_records
        # An empty queue takes a record of any size: it would never find more room.
        return waiting >= self._max_records or (
            self._put_bytes - self._taken_bytes + size > self._max_bytes and waiting > 0
        )

    def _is_roomy(self) -> bool:
        """Tell whether it is time to wake who waits for room: not for each record anew."""
        return (
            self.put_records - self.taken_records <= self._max_records * 7 // 8
            and self._put_bytes - self._taken_bytes <= self._max_bytes * 7 // 8
        )

    def _put(self, entry: Entry) -> None:
        self.put_records += 1
        self._put_bytes += entry.size
        if entry.run_id not in self._runs:
            self._runs[entry.run_id] = True
            if len(self._runs) > _MOST_RUNS:
                del self._runs[next(iter(self._runs))]
        self._items.put(entry)

    def _drop(self, run_id: str, time_us: int) -> None:
        if not self._dropped:
            # So that it is told even if nothing more is logged.
            self.wake()
        dropped = self._dropped.setdefault(run_id, _Dropped(first_us=time_us))
        dropped.count += 1
        dropped.last_us = time_us
        self.dropped_records += 1

    def _words_of_drops(self) -> list[Entry]:
        """Answer records that say how many were dropped, to stand where those would stand."""
        if not self._dropped:
            return []
        entries = []
        for run_id, dropped in self._dropped.items():
            first, last = clock(dropped.first_us), clock(dropped.last_us)
            line = own_line(
                dropped.first_us,
                f"{dropped.count:,} log records were dropped here, made from {first} to {last} UTC:"
                " the queue of the log handler was full",
            )
            entries.append(Entry(run_id, line, size_of(line)))
        self._dropped.clear()
        return entries
