"""The handler for `logging` that ships a run's records to the service.

What it promises:

- **A caller that logs never waits** for the network: a record is formatted, put into a bounded
  queue, and that is all.
- **Nothing is lost silently.** What finds the queue full is dropped and counted; a record that says
  how many were dropped is shipped in their place. What the service refuses, and what can not be
  delivered before the process ends, is said on stderr.
- **Exactly once.** Batches are numbered, kept until the service says that they are durable, and
  sent again on the next stream from where the service says it is.

How: a daemon thread keeps one AppendLogs stream open and reads the acknowledgements. The requests
of the stream are drawn by gRPC's own thread from `_Outbox`, which takes records out of the queue
and makes batches of them, one run each. While there is no stream records stay in the queue; while
`log_window_bytes` are unacknowledged they do, too.

    caller: emit -> queue                                       (never waits)
    gRPC's sending thread: queue -> batches -> unacknowledged -> stream
    our thread: stream -> acknowledgements -> unacknowledged is shortened; broken: connect again

Locks: `_Outbox.lock` guards batches and counters; nobody does I/O, formats or packs under it.
`_Outbox._collector`, taken before it, is held by the one thread that empties the queue.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeAlias

import grpc

from interlock import context
from interlock.channel import OPTIONS, target_or_default
from interlock.errors import InterlockError, from_item, from_rpc_error
from interlock.ids import uuid7
from interlock.log_columns import MAX_LEVEL, pack
from interlock.retry import Backoff
from interlock.text import escape_surrogates, split
from interlock.v1.log_pb2 import AppendLogsRequest, AppendLogsResponse, RefusedLogBatch
from interlock.v1.log_pb2_grpc import LogServiceStub
from interlock.v1.server_pb2 import GetServerInfoRequest, Limits
from interlock.v1.server_pb2_grpc import ServerServiceStub

RUN_LOGGER = "interlock.run"
"""The one logger of ours whose records are shipped: failures of runs."""

HANDLER_LOGGER = "interlock.logs"
"""The logger named by records that the handler itself adds to a log."""

_BATCH_BYTES = 1024 * 1024
_BATCH_RECORDS = 5_000
_RECORD_BYTES = 64
"""What a record costs in memory and on the wire beside its texts, about."""
_LIMITS = Limits(
    max_message_bytes=4 * 1024 * 1024,
    max_log_batch_records=_BATCH_RECORDS,
    max_log_message_bytes=256 * 1024,
    log_window_bytes=8 * 1024 * 1024,
)
"""What is assumed where the server does not tell its limits."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 15.0
_PARTING = 1.0
"""How many seconds the end of a stream may take once everything is delivered."""
_HOPELESS = 5
"""After how many streams in a row that broke on one batch that batch is given up, if what the
server said is about the batch and not about the moment."""
_ABOUT_THE_BATCH = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_EARLIEST = -62_135_596_800 * 1_000_000
_LATEST = 253_402_300_800 * 1_000_000 - 1
"""The years 1 to 9999 in microseconds since 1970: what a Timestamp holds."""


_Line: TypeAlias = tuple[int, int, str, str, str, bool]
"""A record as `pack` takes it; see `log_columns.Line`."""


_MOST_RUNS = 10_000
"""How many runs that have not ended are remembered; beyond them the oldest just falls silent."""


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


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record in the queue."""

    run_id: str
    line: _Line
    size: int


@dataclass(slots=True)
class _Mark:
    """A place in the queue: what is before it is to be sent at once, or a run has ended there."""

    done: threading.Event | None = None
    run_id: str = ""


@dataclass(slots=True)
class _Batch:
    """A numbered batch that is not acknowledged yet."""

    request: AppendLogsRequest
    records: int
    size: int


@dataclass(slots=True)
class _Dropped:
    """Records of one run that found the queue full."""

    count: int = 0
    first_us: int = 0
    last_us: int = 0


@dataclass(slots=True)
class _Forming:
    """A batch in the making."""

    lines: list[_Line] = field(default_factory=list)
    size: int = 0


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
        self._outbox = _Outbox(self._interval, self._report_refused)
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
            message = escape_surrogates(self.format(record))
            line = (
                _microseconds(record.created),
                min(max(int(record.levelno), 0), MAX_LEVEL),
                escape_surrogates(record.name),
                message,
                task_run,
                False,
            )
            self._put(run_id, line)
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
        mark = _Mark(done=threading.Event())
        self._outbox.queue.put(mark)
        assert mark.done is not None
        return mark.done.wait(timeout)

    def end_run(self, run_id: str) -> None:
        """Tell the service that this process has nothing more for a run's log, if it had anything.

        Whoever follows that log then need not wait for the silence. The blocks of runs do it by
        themselves.
        """
        outbox = self._outbox
        with outbox.lock:
            if outbox.runs.pop(run_id, False) and not self._closed:
                outbox.queue.put(_Mark(run_id=run_id))

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
                _say(f"{waiting:,} log records could not be delivered to {self._target}{why}")
            self._open.discard(self)
            context.run_end_hooks.remove(self.end_run)
        super().close()

    @property
    def statistics(self) -> LogStatistics:
        """What became of the records so far."""
        outbox = self._outbox
        with outbox.lock:
            return LogStatistics(
                accepted=outbox.put_records,
                delivered=outbox.delivered,
                dropped=outbox.dropped_records,
                refused=outbox.refused,
                waiting=outbox.put_records - outbox.taken_records + outbox.pending_records(),
                outside=self._outside,
            )

    def _put(self, run_id: str, line: _Line) -> None:
        size = _size_of(line)
        outbox = self._outbox
        with outbox.lock:
            full = (
                outbox.put_records - outbox.taken_records >= self._max_records
                or outbox.put_bytes - outbox.taken_bytes + size > self._max_bytes
            )
            if full:
                outbox.drop(run_id, line[0])
            else:
                for words in outbox.words_of_drops():
                    outbox.put(words)
                outbox.put(_Entry(run_id, line, size))
        if full and not self._said_dropping:
            self._said_dropping = True
            _say(
                f"the log queue is full, records are dropped: {self._outbox.trouble or 'too many'}"
            )
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_ship,
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
        _say(f"the service refused {records:,} log records: {error}")
        if self._on_refused is not None:
            try:
                self._on_refused(refused, records)
            except Exception as failure:
                _say(f"on_refused raised {failure!r}")


class _Outbox:
    """The queue, the batches made of it, and those that are not acknowledged yet."""

    def __init__(self, interval: float, on_refused: Callable[[RefusedLogBatch, int], None]) -> None:
        self.queue: queue.SimpleQueue[_Entry | _Mark | None] = queue.SimpleQueue()
        # Re-entrant: a signal handler may log while its thread is in here.
        self.lock = threading.RLock()
        self.moved = threading.Condition(self.lock)
        """Told when the window opens, and when a stream ends."""
        self.limits = _LIMITS
        self.trouble = ""
        self.stopped = False

        self.put_records = self.put_bytes = 0
        self.taken_records = self.taken_bytes = 0
        self.delivered = self.refused = self.dropped_records = 0
        self.dropped: dict[str, _Dropped] = {}
        self.runs: dict[str, bool] = {}
        """The runs that something was logged for and that have not ended, as far as we know."""

        self._interval = interval
        self._on_refused = on_refused
        self._producer = uuid7()
        self._number = 0
        self._unacknowledged: deque[_Batch] = deque()
        self._window = 0
        self._forming: dict[str, _Forming] = {}
        self._marks: deque[tuple[int, threading.Event]] = deque()
        self._collector = threading.Lock()
        """Held by whoever takes records out of the queue; taken before `lock`."""
        self._collecting = False
        self._stream = 0
        self._ready = False
        self._sent = 0
        self.call: Any = None

    # Into the queue (with the lock held)

    def put(self, entry: _Entry) -> None:
        """Put a record into the queue."""
        self.put_records += 1
        self.put_bytes += entry.size
        if entry.run_id not in self.runs:
            self.runs[entry.run_id] = True
            if len(self.runs) > _MOST_RUNS:
                del self.runs[next(iter(self.runs))]
        self.queue.put(entry)

    def drop(self, run_id: str, time_us: int) -> None:
        """Count a record that found the queue full."""
        if not self.dropped:
            # So that it is told even if nothing more is logged.
            self.queue.put(None)
        dropped = self.dropped.setdefault(run_id, _Dropped(first_us=time_us))
        dropped.count += 1
        dropped.last_us = time_us
        self.dropped_records += 1

    def words_of_drops(self) -> list[_Entry]:
        """Answer records that say how many were dropped, to stand where those would stand."""
        if not self.dropped:
            return []
        entries = []
        for run_id, dropped in self.dropped.items():
            first, last = _clock(dropped.first_us), _clock(dropped.last_us)
            text = (
                f"{dropped.count:,} log records were dropped here, made from {first} to {last} UTC:"
                " the queue of the log handler was full"
            )
            line = (dropped.first_us, logging.WARNING, HANDLER_LOGGER, text, "", False)
            entries.append(_Entry(run_id, line, _RECORD_BYTES + len(text)))
        self.dropped.clear()
        return entries

    def pending_records(self) -> int:
        """Answer how many records were taken out of the queue and are not acknowledged."""
        forming = sum(len(each.lines) for each in self._forming.values())
        return forming + sum(batch.records for batch in self._unacknowledged)

    # Out of it: gRPC's sending thread

    def requests(self) -> Iterator[AppendLogsRequest]:
        """Open a stream: its requests, drawn by gRPC's thread, until the stream has ended."""
        with self.lock:
            self._stream += 1
            self._ready = False
            self._sent = 0
            stream = self._stream
            producer = self._producer
        return self._draw(stream, producer)

    def _draw(self, stream: int, producer: str) -> Iterator[AppendLogsRequest]:
        yield AppendLogsRequest(producer_id=producer)
        while True:
            with self.lock:
                # The first answer tells where to go on.
                while stream == self._stream and not self._ready:
                    self.moved.wait()
                if stream != self._stream:
                    return
                request = self._next_unsent()
                if request is None and self._window >= self.limits.log_window_bytes:
                    self.moved.wait()
                    continue
            if request is not None:
                yield request
            elif not self._collect(stream):
                return

    def _next_unsent(self) -> AppendLogsRequest | None:
        for batch in self._unacknowledged:
            if batch.request.number > self._sent:
                self._sent = batch.request.number
                return batch.request
        return None

    def _collect(self, stream: int) -> bool:
        """Take records out of the queue until there is a batch to send; False: the stream is over.

        One thread at a time, so that the order stays. One whose stream ends while it waits is woken
        by a None in the queue; what it has taken until then stays in `_forming`.
        """
        with self._collector:
            with self.lock:
                if stream != self._stream:
                    return False
                self._collecting = True
            try:
                ready, mark = self._gather(stream)
            finally:
                self._collecting = False
            if ready:
                self._finish_all(mark)
            return ready

    def _gather(self, stream: int) -> tuple[bool, _Mark | None]:
        """Fill `_forming` until it is to be sent, and answer the mark that says so, if one does."""
        size = sum(each.size for each in self._forming.values())
        count = sum(len(each.lines) for each in self._forming.values())
        most_bytes = min(_BATCH_BYTES, self.limits.max_message_bytes // 2)
        most_records = min(_BATCH_RECORDS, self.limits.max_log_batch_records)
        due = time.monotonic() + self._interval if count else None
        while True:
            try:
                wait = None if due is None else due - time.monotonic()
                if wait is None or wait > 0:
                    item = self.queue.get(timeout=wait)
                else:
                    item = self.queue.get_nowait()
            except queue.Empty:
                return True, None
            with self.lock:
                if isinstance(item, _Entry):
                    taken = [item]
                    self.taken_records += 1
                    self.taken_bytes += item.size
                else:
                    # Nothing was put into the queue since these were dropped, or they would have
                    # been told then: this is their place.
                    taken = self.words_of_drops()
                for entry in taken:
                    forming = self._forming.setdefault(entry.run_id, _Forming())
                    forming.lines.append(entry.line)
                    forming.size += entry.size
                    size += entry.size
                    count += 1
                if isinstance(item, _Mark):
                    return True, item
                if item is None and stream != self._stream:
                    return False, None
                if size >= most_bytes or count >= most_records:
                    return True, None
            if due is None and count:
                due = time.monotonic() + self._interval

    def _finish_all(self, mark: _Mark | None) -> None:
        """Number what is in the making, then the mark. Packs without the lock: callers want it."""
        made = []
        for run_id, forming in self._forming.items():
            for lines, size in self._cut(forming):
                request = AppendLogsRequest(run_id=run_id, records=pack(lines))
                made.append(_Batch(request, len(lines), size))
        if mark is not None and mark.run_id:
            made.append(_Batch(AppendLogsRequest(run_id=mark.run_id, end_of_run=True), 0, 64))
        with self.lock:
            self._forming.clear()
            for batch in made:
                self._number += 1
                batch.request.number = self._number
                self._unacknowledged.append(batch)
                self._window += batch.size
            if mark is not None and mark.done is not None:
                self._marks.append((self._number, mark.done))
                self._settle()

    def _cut(self, forming: _Forming) -> Iterator[tuple[list[_Line], int]]:
        """Cut the records of one run into batches: mostly one, more where messages are long."""
        lines = forming.lines
        longest = max(4, self.limits.max_log_message_bytes)
        if any(len(line[3]) * 4 > longest for line in lines):
            lines = [part for line in lines for part in _parts(line, longest)]
        most = max(1, self.limits.max_log_batch_records)
        room = self.limits.max_message_bytes * 3 // 4
        if len(lines) <= most and forming.size <= room:
            yield lines, forming.size
            return
        start = size = 0
        for index, line in enumerate(lines):
            own = _size_of(line)
            if index > start and (size + own > room or index - start >= most):
                yield lines[start:index], size
                start, size = index, 0
            size += own
        yield lines[start:], size

    # What comes back: our thread

    def take(self, response: AppendLogsResponse) -> None:
        """Take in what the service says: what is durable, what it refused."""
        reports = []
        with self.lock:
            refused = {each.number: each for each in response.refused}
            first = self._unacknowledged[0].request.number if self._unacknowledged else None
            expected = first - 1 if first is not None else self._number
            forgotten = not self._ready and response.acknowledged < expected
            if forgotten or response.acknowledged > self._number:
                self.renumber()
            else:
                while (
                    self._unacknowledged
                    and self._unacknowledged[0].request.number <= response.acknowledged
                ):
                    batch = self._unacknowledged.popleft()
                    self._window -= batch.size
                    refusal = refused.get(batch.request.number)
                    if refusal is None:
                        self.delivered += batch.records
                    else:
                        self.refused += batch.records
                        reports.append((refusal, batch.records))
                self._sent = max(self._sent, response.acknowledged)
                self._ready = True
            self.moved.notify_all()
        for refusal, records in reports:
            self._on_refused(refusal, records)
        with self.lock:
            self._settle()

    def end_stream(self) -> None:
        """The stream is over: whoever draws its requests stops."""
        with self.lock:
            self._stream += 1
            self._ready = False
            self.moved.notify_all()
            if self._collecting:
                self.queue.put(None)

    def stop(self) -> None:
        """End the current stream and open no other."""
        with self.lock:
            self.stopped = True
            self.end_stream()

    def hang_up(self) -> None:
        """Cancel the current stream, whatever it is doing."""
        call = self.call
        if call is not None:
            call.cancel()

    def first_number(self) -> int:
        """Answer the number of the oldest batch that is not acknowledged; 0: there is none."""
        with self.lock:
            return self._unacknowledged[0].request.number if self._unacknowledged else 0

    def give_up_first(self, error: InterlockError) -> None:
        """Replace the oldest batch, which the service can not take, by words that say so."""
        with self.lock:
            batch = self._unacknowledged[0]
            text = f"{batch.records:,} log records could not be delivered here: {error}"
            now = _microseconds(time.time())
            line = (now, logging.WARNING, HANDLER_LOGGER, escape_surrogates(text[:2000]), "", False)
            request = AppendLogsRequest(
                number=batch.request.number, run_id=batch.request.run_id, records=pack([line])
            )
            batch.request = request
            self._window -= batch.size
            records, batch.records, batch.size = batch.records, 1, _RECORD_BYTES + len(text)
            self._window += batch.size
            self.refused += records
            refusal = RefusedLogBatch(number=batch.request.number)
        refusal.error.code = error.code.value[0]
        refusal.error.reason = error.reason
        refusal.error.message = error.message
        self._on_refused(refusal, records)

    def renumber(self) -> None:
        """Go on as a new producer: the service knows another history of this one than we do.

        It was restored from a backup, say. What it has acknowledged is not here any more; what it
        has not is sent.
        """
        _say("the service does not know this producer of logs as it was: going on as a new one")
        with self.lock:
            self._producer = uuid7()
            for number, batch in enumerate(self._unacknowledged, 1):
                # A copy: gRPC may be sending the other.
                request = AppendLogsRequest()
                request.CopyFrom(batch.request)
                request.number = number
                batch.request = request
            shift = self._number - len(self._unacknowledged)
            self._number -= shift
            self._marks = deque((number - shift, done) for number, done in self._marks)
            # The stream in hand names the old producer.
            self.end_stream()

    def is_current(self) -> bool:
        """Tell whether the stream that was opened last is still to be used."""
        with self.lock:
            return self._ready

    def _settle(self) -> None:
        acknowledged = (
            self._unacknowledged[0].request.number - 1 if self._unacknowledged else self._number
        )
        while self._marks and self._marks[0][0] <= acknowledged:
            self._marks.popleft()[1].set()


def _ship(outbox: _Outbox, target: str, credentials: grpc.ChannelCredentials | None) -> None:
    """Keep a stream open until the handler is closed: what our thread does."""
    if credentials is None:
        channel = grpc.insecure_channel(target, options=OPTIONS)
    else:
        channel = grpc.secure_channel(target, credentials, options=OPTIONS)
    backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
    stuck_on, stuck = 0, 0
    try:
        while not outbox.stopped:
            before = outbox.first_number()
            error = _stream(channel, outbox, backoff)
            if outbox.stopped:
                return
            trouble = str(error) if error is not None else ""
            if trouble != outbox.trouble and error is not None and not _is_passing(error):
                _say(f"logs can not be delivered to {target}: {trouble}")
            outbox.trouble = trouble
            after = outbox.first_number()
            hopeless = (
                error is not None and error.code in _ABOUT_THE_BATCH and error.retry_after is None
            )
            stuck = stuck + 1 if hopeless and after and after == before == stuck_on else 0
            stuck_on = after
            if error is not None and error.reason == "BATCH_OUT_OF_ORDER":
                outbox.renumber()
            elif error is not None and stuck >= _HOPELESS:
                outbox.give_up_first(error)
                stuck = 0
            after_told = error.retry_after if error is not None else None
            _sleep(outbox, backoff.next(after_told or 0.0))
    except Exception as failure:
        # A fault of ours must not be silent: the queue fills up, and `close` says what is left.
        outbox.trouble = repr(failure)
        _say(f"the log handler has failed: {failure!r}")
    finally:
        outbox.end_stream()
        channel.close()


def _stream(channel: grpc.Channel, outbox: _Outbox, backoff: Backoff) -> InterlockError | None:
    """Serve one stream until it breaks; answer why it did. None: the server ended it."""
    call: Any = None
    try:
        outbox.limits = _limits_of(channel)
        call = outbox.call = LogServiceStub(channel).AppendLogs(outbox.requests())
        for response in call:
            before = outbox.delivered
            outbox.take(response)
            if not outbox.is_current() and not outbox.stopped:
                break
            if outbox.delivered > before:
                backoff.reset()
                outbox.trouble = ""
        return None
    except grpc.RpcError as failure:
        return from_rpc_error(failure)
    finally:
        outbox.end_stream()
        if call is not None:
            call.cancel()


def _limits_of(channel: grpc.Channel) -> Limits:
    """Ask for the server's limits; where it tells none, assume modest ones."""
    try:
        info = ServerServiceStub(channel).GetServerInfo(GetServerInfoRequest(), timeout=10.0)
    except grpc.RpcError as failure:
        if from_rpc_error(failure).code is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        return _LIMITS
    limits = Limits()
    limits.CopyFrom(_LIMITS)
    limits.MergeFrom(info.limits)
    return limits


def _sleep(outbox: _Outbox, seconds: float) -> None:
    until = time.monotonic() + seconds
    with outbox.lock:
        while not outbox.stopped and (left := until - time.monotonic()) > 0:
            outbox.moved.wait(left)


def _size_of(line: _Line) -> int:
    # Four bytes are the most that a character takes.
    message = line[3]
    return _RECORD_BYTES + (len(message) if message.isascii() else 4 * len(message))


def _parts(line: _Line, longest: int) -> Iterator[_Line]:
    time_us, level, logger, message, task_run_id, _ = line
    parts = split(message, longest)
    for number, part in enumerate(parts, 1):
        yield time_us, level, logger, part, task_run_id, number < len(parts)


def _microseconds(seconds: float) -> int:
    if not math.isfinite(seconds):
        seconds = time.time()
    return min(max(int(seconds * 1_000_000), _EARLIEST), _LATEST)


def _clock(time_us: int) -> str:
    moment = datetime.fromtimestamp(0, UTC)
    with contextlib.suppress(ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(time_us / 1e6, UTC)
    return moment.strftime("%H:%M:%S.%f")[:-3]


def _is_ours(name: str) -> bool:
    if name == RUN_LOGGER:
        return False
    return name.partition(".")[0] in ("grpc", "interlock")


def _is_passing(error: InterlockError) -> bool:
    return error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def _say(words: str) -> None:
    with contextlib.suppress(Exception):
        print(f"interlock: {words}", file=sys.stderr, flush=True)


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
