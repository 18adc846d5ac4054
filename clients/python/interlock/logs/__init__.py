"""What ships a run's records to the service: a handler for `logging`, and a writer for all else.

`InterlockHandler` is for programs that use `logging`; it never makes them wait. `LogWriter` is for
those that have lines of their own to deliver (an import, a bridge): they rather wait than drop.

What the handler promises:

- **A caller that logs never waits** for the network: a record is formatted, put into a bounded
  queue, and that is all.
- **Nothing is lost silently.** When the service is away, or too slow, for so long that the queue is
  three quarters full, records go to a bounded file, which stderr names, and from there to the
  service once it is back. Beyond its bound they are dropped and counted; a record that says how
  many were dropped is shipped in their place. What the service refuses is said on stderr. So is
  what can not be delivered before the process ends, with the file in which it is left, and the
  command that delivers it (`deliver` here).
- **Exactly once.** Batches are numbered, kept until the service says that they are durable, and
  sent again on the next stream from where the service says it is; also by another process.
- **What the contract can not carry is made to fit**, and said once for each kind: what is no
  Unicode is escaped, a time beyond the years 1 to 9999 or a level beyond 0 to 100 becomes the
  nearest, the name of a logger is cut at 1,000 bytes, an id of a task run that is none is left out,
  and a record that can not be formatted comes as it was written, with the reason.

How: a daemon thread keeps one AppendLogs stream open and reads the acknowledgements. The requests
of the stream are drawn by gRPC's own thread from the outbox, which takes records out of the queue
and makes batches of them, one run each. While there is no stream records stay in the queue; while
`log_window_bytes` are unacknowledged they do, too.

    caller: emit -> queue                                       (never waits)
    gRPC's sending thread: queue -> batches -> unacknowledged -> stream
    our thread: stream -> acknowledgements -> unacknowledged is shortened; broken: connect again
    the spiller, when the queue is crowded: queue -> batches -> file
    gRPC's sending thread, before it looks into the queue: file -> unacknowledged -> stream

The file is written by a thread of its own, the spiller, never by one that logs: a disk may hang,
and packing takes its time. It begins before the queue is full, so that there is room meanwhile. One
who logs faster than the spiller works finds the queue full, and is held up for at most a tenth of a
second while the spiller makes way; where it makes none, nobody waits again until it does.

The file holds every numbered batch from its first one on: what is in memory and not acknowledged
when it begins is written, too. So it is all that another process needs. It is deleted once all in
it is acknowledged. A process that is killed loses no more than what is in its queue.

Where: `handler` and `writer` are what callers see, thin layers over `shipper`. `record_queue` is
the queue, `batching` makes batches, `unacknowledged` keeps them until they are durable, `spill` has
those that are in a file (`spill_file`), `outbox` joins these to streams, and `shipping` is our
thread, and the spiller. `delivery` delivers what was left. `records` has what all of them call a
record, and `stderr` is where they complain.

Locks: one `lock`, the queue's, guards all counters and batches; nobody does I/O, formats a caller's
record or packs a batch of them under it. The outbox's `_collector`, taken before it, is held by the
one thread that empties the queue, or reads or writes the file; it may be held for long.
"""

from __future__ import annotations

from interlock.context import RUN_LOGGER
from interlock.log_columns import Line
from interlock.logs.delivery import Delivery, deliver
from interlock.logs.handler import InterlockHandler
from interlock.logs.records import HANDLER_LOGGER
from interlock.logs.shipper import LogsNotDelivered, LogStatistics
from interlock.logs.spill_file import SpillFileError, SpillFileInUse
from interlock.logs.writer import LogWriter

__all__ = [
    "HANDLER_LOGGER",
    "RUN_LOGGER",
    "Delivery",
    "InterlockHandler",
    "Line",
    "LogStatistics",
    "LogWriter",
    "LogsNotDelivered",
    "SpillFileError",
    "SpillFileInUse",
    "deliver",
]
