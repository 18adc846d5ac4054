"""The shipper: what the handler and the writer share. It owns the queue, the outbox and the thread.

What it promises: what is put in is delivered in order and exactly once, or counted as dropped,
refused or waiting; a forked child begins anew, and the parent ships what it holds; and at the end
of the process what waits is delivered, or left in a file, or said to be lost.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import grpc

from interlock.channel import target_or_default
from interlock.errors import from_item
from interlock.logs.outbox import Outbox
from interlock.logs.record_queue import RecordQueue
from interlock.logs.records import PlainLine
from interlock.logs.shipping import ship, spill_when_crowded
from interlock.logs.spill import Spill
from interlock.logs.spill_file import Contents, SpillFile
from interlock.logs.stderr import say
from interlock.v1.log_pb2 import RefusedLogBatch

MAX_QUEUE_RECORDS = 100_000
MAX_QUEUE_BYTES = 64 * 1024 * 1024
BATCH_INTERVAL = 0.1
CLOSE_TIMEOUT = 5.0
MAX_SPILL_BYTES = 256 * 1024 * 1024

_PARTING = 1.0
"""How many seconds the end of a stream may take once everything is delivered."""
_LOOK = 0.2
"""How often, in seconds, whoever waits looks whether waiting still makes sense."""

OnRefused = Callable[[RefusedLogBatch, int], None]


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """What became of the records so far. They are counts since the handler or writer was made."""

    accepted: int
    """Put into the queue."""
    delivered: int
    """Durable at the service, the handler's own words (dropped records, parts of long ones) too."""
    dropped: int
    """Dropped since the queue was full."""
    refused: int
    """Refused by the service, or given up."""
    waiting: int
    """Accepted and neither delivered nor refused yet, about."""
    spilled: int = 0
    """Kept in a file for a while, since the service was away or too slow."""
    outside: int = 0
    """Not for this handler: made outside of any run."""


class LogsNotDelivered(Exception):
    """Not all records were durable in time."""

    def __init__(self, records: int, target: str, trouble: str) -> None:
        why = f": {trouble}" if trouble else ""
        super().__init__(f"{records:,} log records could not be delivered to {target}{why}")
        self.records = records
        """How many were not."""


class Shipper:
    """Takes records from any thread and ships them from one of its own."""

    _open: ClassVar[set[Shipper]] = set()
    """Kept until they are closed, so that what they hold is delivered at the end of the process."""

    def __init__(
        self,
        target: str | None,
        credentials: grpc.ChannelCredentials | None,
        *,
        max_queue_records: int,
        max_queue_bytes: int,
        batch_interval: float,
        close_timeout: float = CLOSE_TIMEOUT,
        on_refused: OnRefused | None = None,
        spill_folder: str | os.PathLike[str] | None = None,
        max_spill_bytes: int = 0,
    ) -> None:
        """Make a shipper; it connects with the first record. See `InterlockHandler`."""
        self.target = target_or_default(target)
        self.closed = False
        self._credentials = credentials
        self._max_records = max_queue_records
        self._max_bytes = max_queue_bytes
        self._interval = batch_interval
        self._close_timeout = close_timeout
        self._on_refused = on_refused
        self._spill_folder = spill_folder
        self._max_spill_bytes = max_spill_bytes
        self._start_over()
        self._open.add(self)

    def _start_over(self) -> None:
        """Begin with nothing: at first, and in the child of a fork, whose parent ships the rest."""
        self._records = RecordQueue(self._max_records, self._max_bytes)
        self._use(Spill(self._spill_folder, self._max_spill_bytes))
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._said_dropping = False

    def _use(self, spill: Spill) -> None:
        self._outbox = Outbox(self._records, self._interval, self._report_refused, spill)

    @classmethod
    def of_file(
        cls,
        path: str,
        target: str | None,
        credentials: grpc.ChannelCredentials | None,
        on_refused: OnRefused | None,
    ) -> tuple[Shipper, Contents]:
        """Make a shipper of what another process left in a file, and start it.

        Raises OSError and SpillFileError.
        """
        file, contents = SpillFile.open(path)
        shipper = cls(
            target,
            credentials,
            max_queue_records=MAX_QUEUE_RECORDS,
            max_queue_bytes=MAX_QUEUE_BYTES,
            batch_interval=BATCH_INTERVAL,
            on_refused=on_refused,
        )
        shipper._use(Spill.of(file, contents))
        shipper._outbox.resume(file, contents)
        shipper._start()
        return shipper, contents

    # Putting in

    def offer(self, run_id: str, line: PlainLine) -> None:
        """Put a record in without waiting; where there is no room it is dropped, and counted."""
        if not self._records.offer(run_id, line) and not self._said_dropping:
            self._said_dropping = True
            spill = self._outbox.spill
            full = f"queue and {spill.path} are" if spill.is_full and spill.path else "queue is"
            say(f"the log {full} full, records are dropped: {self._outbox.trouble or 'too many'}")
        if self._thread is None:
            self._start()

    def put(self, run_id: str, line: PlainLine, timeout: float | None) -> bool:
        """Put a record in, and wait for room; False: there was none within `timeout` seconds.

        None waits as long as it takes. Raises what keeps the shipper from delivering, if that does
        not pass by itself; and ValueError where it is closed.
        """
        if self.closed:
            raise ValueError("This is closed: it takes no more log records.")
        if self._thread is None:
            self._start()
        records = self._records
        if records.put(run_id, line, 0):
            return True
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            self.raise_failure()
            if self.closed:
                raise ValueError("This was closed while a log record waited for room.")
            left = _LOOK if until is None else min(_LOOK, until - time.monotonic())
            if records.put(run_id, line, max(0, left)):
                return True
            if until is not None and left < _LOOK:
                return False

    def end_run(self, run_id: str) -> None:
        """Tell the service that nothing more comes for a run's log, if anything did."""
        if not self.closed:
            self._records.end_run(run_id)

    # Waiting

    def flush(self, timeout: float | None, *, or_raise: bool = False) -> bool:
        """Wait until all that was put in before is durable, or refused; answer whether it is.

        `or_raise`: raise at once what keeps the shipper from delivering, if it does not pass.
        """
        if self._thread is None:
            return True
        if self._outbox.stopped:
            # Closed: what is left is not delivered any more. At the end of a process `logging`
            # flushes closed handlers, too.
            return self.statistics.waiting == 0
        done = self._records.mark()
        if not or_raise:
            return done.wait(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        while not done.wait(_LOOK if until is None else min(_LOOK, until - time.monotonic())):
            self.raise_failure()
            if until is not None and time.monotonic() >= until:
                return False
        return True

    def raise_failure(self) -> None:
        """Raise what keeps the shipper from delivering, if that does not pass by itself."""
        if (failure := self._outbox.failure) is not None:
            raise failure

    def close(self, timeout: float | None = None) -> bool:
        """Deliver what waits, for at most `timeout` seconds, and stop; answer whether all is.

        `timeout` is the `close_timeout` unless given. What is left is said on stderr.
        """
        if self.closed:
            return self.statistics.waiting == 0
        self.closed = True
        delivered = self.flush(self._close_timeout if timeout is None else timeout)
        self._stop(delivered)
        return delivered

    def finish(self, timeout: float | None) -> None:
        """Deliver what waits, for at most `timeout` seconds (None: as long as it takes), and stop.

        Raises LogsNotDelivered where that was not all; and at once what keeps the shipper from
        delivering, if it does not pass by itself.
        """
        self.closed = True
        delivered = False
        try:
            delivered = self.flush(timeout, or_raise=True)
        finally:
            self._stop(delivered)
        if not delivered and (waiting := self.statistics.waiting):
            raise LogsNotDelivered(waiting, self.target, self.trouble)

    def _stop(self, delivered: bool) -> None:
        outbox = self._outbox
        outbox.stop()
        if self._thread is not None:
            # Half-closed, the stream ends by itself: the service knows that we are done.
            self._thread.join(_PARTING if delivered else 0)
            outbox.hang_up()
        path, kept = outbox.leave()
        self._open.discard(self)
        waiting = self.statistics.waiting
        if delivered or not waiting:
            return
        why = f" ({outbox.trouble})" if outbox.trouble else ""
        say(f"{waiting:,} log records could not be delivered to {self.target}{why}")
        if kept:
            say(f"{kept:,} of them are kept; deliver them with: interlock logs deliver {path}")
        if waiting > kept:
            say(f"{waiting - kept:,} of them are lost")

    @property
    def trouble(self) -> str:
        """Why nothing can be delivered at the moment; empty: nothing is known to be wrong."""
        return self._outbox.trouble

    @property
    def statistics(self) -> LogStatistics:
        """What became of the records so far."""
        records, outbox = self._records, self._outbox
        with records.lock:
            return LogStatistics(
                accepted=records.put_records,
                delivered=outbox.delivered,
                dropped=records.dropped_records,
                refused=outbox.refused,
                waiting=records.put_records - records.taken_records + outbox.pending,
                spilled=outbox.spill.spilled_records,
            )

    @property
    def known(self) -> int:
        """How many records of a file that was left the service had already."""
        return self._outbox.known

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                outbox = self._outbox
                if not outbox.spill.is_off:
                    threading.Thread(
                        target=spill_when_crowded,
                        args=(outbox,),
                        name="interlock-logs-spill",
                        daemon=True,
                    ).start()
                thread = threading.Thread(
                    target=ship,
                    args=(outbox, self.target, self._credentials),
                    name="interlock-logs",
                    daemon=True,
                )
                thread.start()
                self._thread = thread

    def _report_refused(self, refused: RefusedLogBatch, records: int) -> None:
        if not records:
            # Nothing is lost: just the word that a run has ended.
            return
        error = from_item(refused.error)
        say(f"the service refused {records:,} log records: {error}")
        if self._on_refused is not None:
            try:
                self._on_refused(refused, records)
            except Exception as failure:
                say(f"on_refused raised {failure!r}")


def _close_all() -> None:
    for shipper in list(Shipper._open):
        shipper.close()


def _start_all_over() -> None:
    for shipper in list(Shipper._open):
        shipper._outbox.spill.close()
        shipper._start_over()


# After `logging`'s own, which was registered first: at exit ours runs before it.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_all_over)
