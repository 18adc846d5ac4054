"""The handler itself: what those who log see, and what the end of a process or a fork does to it.

What it promises: `emit` neither waits nor raises; a record goes to the log of the run that made it,
and to no other; and at the end of the process what waits is delivered, or said to be lost.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import grpc

from interlock import context
from interlock.channel import target_or_default
from interlock.errors import from_item
from interlock.logs.outbox import Outbox
from interlock.logs.record_queue import RecordQueue
from interlock.logs.records import Line, line_of
from interlock.logs.shipping import ship
from interlock.logs.stderr import say
from interlock.v1.log_pb2 import RefusedLogBatch

_PARTING = 1.0
"""How many seconds the end of a stream may take once everything is delivered."""


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """What became of the records so far. They are counts since the handler was made."""

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
    outside: int
    """Not for this handler: made outside of any run."""


class InterlockHandler(logging.Handler):
    """Ships the records of runs to their logs at the service.

    `logging.getLogger().addHandler(InterlockHandler())` is all that it needs.

    A record belongs to the run of the block that made it (`client.flow_run`, `run.task`), or to the
    one that it names: `logger.info("...", extra={"flow_run_id": ..., "task_run_id": ...})`, or else
    to `run_id`. Records of no run are not shipped. Nor are those of `grpc` and of this package, but
    for the failures of runs (`interlock.run`).
    """

    _open: ClassVar[set[InterlockHandler]] = set()
    """Kept until they are closed, so that what they hold is delivered at the end of the process."""

    def __init__(
        self,
        target: str | None = None,
        *,
        level: int | str = logging.NOTSET,
        run_id: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        max_queue_records: int = 100_000,
        max_queue_bytes: int = 64 * 1024 * 1024,
        batch_interval: float = 0.1,
        close_timeout: float = 5.0,
        on_refused: Callable[[RefusedLogBatch, int], None] | None = None,
    ) -> None:
        """Make a handler; it connects with the first record.

        Args:
            target: where the server is; unless given, what `INTERLOCK_TARGET` says, else the local
                server.
            level: the least level that is shipped.
            run_id: the flow run of records that belong to no other.
            credentials: for TLS; none: a plain connection.
            max_queue_records: how many records may wait before further ones are dropped.
            max_queue_bytes: how many bytes of records may wait, about.
            batch_interval: how many seconds a record may wait for others to be sent with it.
            close_timeout: how many seconds the end of the process may be held up to deliver.
            on_refused: called, in the thread that ships, with what the service refused and how many
                records it was; said on stderr in any case.
        """
        super().__init__(level)
        # Level, time and logger have columns of their own. Set, lest `basicConfig` set its own.
        self.setFormatter(logging.Formatter("%(message)s"))
        self._target = target_or_default(target)
        self._credentials = credentials
        self._run_id = run_id
        self._max_records = max_queue_records
        self._max_bytes = max_queue_bytes
        self._interval = batch_interval
        self._close_timeout = close_timeout
        self._on_refused = on_refused
        self._closed = False
        self._start_over()
        self._open.add(self)
        context.run_end_hooks.append(self.end_run)

    def _start_over(self) -> None:
        """Begin with nothing: at first, and in the child of a fork, whose parent ships the rest."""
        self._records = RecordQueue(self._max_records, self._max_bytes)
        self._outbox = Outbox(self._records, self._interval, self._report_refused)
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._said_dropping = False
        self._outside = 0

    # What a caller does

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record into the queue; never waits, and never raises."""
        try:
            if _is_ours(record.name):
                return
            attributes = record.__dict__
            flow_run_id = attributes.get("flow_run_id")
            task_run_id = attributes.get("task_run_id")
            if flow_run_id is None:
                flow_run_id = context.flow_run_id.get()
                if task_run_id is None:
                    task_run_id = context.task_run_id.get()
            # A task run that is part of no flow run has a log of its own, which needs no column.
            run_id = str(flow_run_id or self._run_id or task_run_id or "")
            task_run = str(task_run_id) if task_run_id and str(task_run_id) != run_id else ""
            if not run_id or self._closed:
                self._outside += 1
                return
            self._put(run_id, line_of(record, self.format(record), task_run))
        except Exception:
            self.handleError(record)

    def flush(self, timeout: float = 5.0) -> bool:  # type: ignore[override]
        """Wait until everything logged before is durable at the service (or reported as refused).

        Answers whether that was so within `timeout` seconds.
        """
        if self._thread is None:
            return True
        if self._outbox.stopped:
            # Closed: what is left is not delivered any more. At the end of a process `logging`
            # flushes closed handlers, too.
            return self.statistics.waiting == 0
        return self._records.mark().wait(timeout)

    def end_run(self, run_id: str) -> None:
        """Tell the service that this process has nothing more for a run's log, if it had anything.

        Whoever follows that log then need not wait for the silence. The blocks of runs do it by
        themselves.
        """
        if not self._closed:
            self._records.end_run(run_id)

    def close(self, timeout: float | None = None) -> None:
        """Deliver what waits, for at most `timeout` seconds, and stop.

        `timeout` is the handler's `close_timeout` unless given. What is left is said on stderr.
        """
        if not self._closed:
            self._closed = True
            delivered = self.flush(self._close_timeout if timeout is None else timeout)
            self._outbox.stop()
            if self._thread is not None:
                # Half-closed, the stream ends by itself: the service knows that we are done.
                self._thread.join(_PARTING if delivered else 0)
                self._outbox.hang_up()
            if not delivered and (waiting := self.statistics.waiting):
                why = f" ({self._outbox.trouble})" if self._outbox.trouble else ""
                say(f"{waiting:,} log records could not be delivered to {self._target}{why}")
            self._open.discard(self)
            context.run_end_hooks.remove(self.end_run)
        super().close()

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
                outside=self._outside,
            )

    def _put(self, run_id: str, line: Line) -> None:
        if not self._records.offer(run_id, line) and not self._said_dropping:
            self._said_dropping = True
            say(f"the log queue is full, records are dropped: {self._outbox.trouble or 'too many'}")
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=ship,
                    args=(self._outbox, self._target, self._credentials),
                    name="interlock-logs",
                    daemon=True,
                )
                self._thread.start()

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


def _is_ours(name: str) -> bool:
    if name == context.RUN_LOGGER:
        return False
    return name.partition(".")[0] in ("grpc", "interlock")


def _close_all() -> None:
    for handler in list(InterlockHandler._open):
        handler.close()


def _start_all_over() -> None:
    for handler in list(InterlockHandler._open):
        handler._start_over()


# After `logging`'s own, which was registered first: at exit ours runs before it.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_all_over)
