"""What ships a run's records to the service: a handler for `logging`, and a writer for all else.

`InterlockHandler` is for programs that use `logging`; it never makes them wait. `LogWriter` is for
those that have lines of their own to deliver (an import, a bridge): they rather wait than drop.

What the handler promises:

- **A caller that logs never waits** for the network: a record is formatted, put into a bounded
  queue, and that is all.
- **Nothing is lost silently.** What finds the queue full is dropped and counted; a record that says
  how many were dropped is shipped in their place. What the service refuses, and what can not be
  delivered before the process ends, is said on stderr.
- **Exactly once.** Batches are numbered, kept until the service says that they are durable, and
  sent again on the next stream from where the service says it is.

How: a daemon thread keeps one AppendLogs stream open and reads the acknowledgements. The requests
of the stream are drawn by gRPC's own thread from the outbox, which takes records out of the queue
and makes batches of them, one run each. While there is no stream records stay in the queue; while
`log_window_bytes` are unacknowledged they do, too.

    caller: emit -> queue                                       (never waits)
    gRPC's sending thread: queue -> batches -> unacknowledged -> stream
    our thread: stream -> acknowledgements -> unacknowledged is shortened; broken: connect again

Where: `handler` and `writer` are what callers see, thin layers over `shipper`. `record_queue` is
the queue, `batching` makes batches, `unacknowledged` keeps them until they are durable, `outbox`
joins these three to streams, and `shipping` is our thread. `records` has what all of them call a
record, and `stderr` is where they complain.

Locks: one `lock`, the queue's, guards all counters and batches; nobody does I/O, formats a caller's
record or packs a batch of them under it. The outbox's `_collector`, taken before it, is held by the
one thread that empties the queue.
"""

from __future__ import annotations

from interlock.context import RUN_LOGGER
from interlock.log_columns import Line
from interlock.logs.handler import InterlockHandler
from interlock.logs.records import HANDLER_LOGGER
from interlock.logs.shipper import LogStatistics
from interlock.logs.writer import LogsNotDelivered, LogWriter

__all__ = [
    "HANDLER_LOGGER",
    "RUN_LOGGER",
    "InterlockHandler",
    "Line",
    "LogStatistics",
    "LogWriter",
    "LogsNotDelivered",
]
