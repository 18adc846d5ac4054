"""The handler itself: what those who log through `logging` see.

What it promises: `emit` neither waits nor raises, and a record goes to the log of the run that made
it, and to no other.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace

import grpc

from interlock import context
from interlock.logs.records import line_of, unformatted
from interlock.logs.shipper import (
    BATCH_INTERVAL,
    CLOSE_TIMEOUT,
    MAX_QUEUE_BYTES,
    MAX_QUEUE_RECORDS,
    MAX_SPILL_BYTES,
    LogStatistics,
    OnRefused,
    Shipper,
)


class InterlockHandler(logging.Handler):
    """Ships the records of runs to their logs at the service.

    `logging.getLogger().addHandler(InterlockHandler())` is all that it needs.

    A record belongs to the run of the block that made it (`client.flow_run`, `run.task`), or to the
    one that it names: `logger.info("...", extra={"flow_run_id": ..., "task_run_id": ...})`, or else
    to `run_id`. Records of no run are not shipped. Nor are those of `grpc` and of this package, but
    for the failures of runs (`interlock.run`).
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        level: int | str = logging.NOTSET,
        run_id: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        max_queue_records: int = MAX_QUEUE_RECORDS,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
        batch_interval: float = BATCH_INTERVAL,
        close_timeout: float = CLOSE_TIMEOUT,
        spill_folder: str | os.PathLike[str] | None = None,
        max_spill_bytes: int = MAX_SPILL_BYTES,
        on_refused: OnRefused | None = None,
    ) -> None:
        """Make a handler; it connects with the first record.

        Args:
            target: where the server is; unless given, what `INTERLOCK_TARGET` says, else the local
                server.
            level: the least level that is shipped.
            run_id: the flow run of records that belong to no other.
            credentials: for TLS; none: a plain connection.
            max_queue_records: how many records may wait in memory; from three quarters of that on
                they are moved to a file, and where that is not possible, further ones are dropped.
            max_queue_bytes: how many bytes of records may wait in memory, about.
            batch_interval: how many seconds a record may wait for others to be sent with it.
            close_timeout: how many seconds the end of the process may be held up to deliver.
            spill_folder: where the file is to be; unless given, the user's folder for temporary
                files.
            max_spill_bytes: how large the file may become; 0: there is none.
            on_refused: called, in the thread that ships, with what the service refused and how many
                records it was; said on stderr in any case.
        """
        super().__init__(level)
        # Level, time and logger have columns of their own. Set, lest `basicConfig` set its own.
        self.setFormatter(logging.Formatter("%(message)s"))
        self._run_id = run_id
        self._outside = 0
        self._shipper = Shipper(
            target,
            credentials,
            max_queue_records=max_queue_records,
            max_queue_bytes=max_queue_bytes,
            batch_interval=batch_interval,
            close_timeout=close_timeout,
            spill_folder=spill_folder,
            max_spill_bytes=max_spill_bytes,
            on_refused=on_refused,
        )
        context.run_end_hooks.append(self.end_run)

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record into the queue; does not wait for the service, and never raises."""
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
            if not run_id or self._shipper.closed:
                self._outside += 1
                return
            try:
                message = self.format(record)
            except Exception as failure:
                message = unformatted(record, failure)
                self.handleError(record)
            self._shipper.offer(run_id, line_of(record, message, task_run))
        except Exception:
            self.handleError(record)

    def flush(self, timeout: float = 5.0) -> bool:  # type: ignore[override]
        """Wait until everything logged before is durable at the service (or reported as refused).

        Answers whether that was so within `timeout` seconds.
        """
        return self._shipper.flush(timeout)

    def end_run(self, run_id: str) -> None:
        """Tell the service that this process has nothing more for a run's log, if it had anything.

        Whoever follows that log then need not wait for the silence. The blocks of runs do it by
        themselves.
        """
        self._shipper.end_run(run_id)

    def close(self, timeout: float | None = None) -> None:
        """Deliver what waits, for at most `timeout` seconds, and stop.

        `timeout` is the handler's `close_timeout` unless given. What is not delivered by then is
        left in a file, which stderr names; `interlock logs deliver FILE` delivers it later.
        """
        self._shipper.close(timeout)
        if self.end_run in context.run_end_hooks:
            context.run_end_hooks.remove(self.end_run)
        super().close()

    @property
    def statistics(self) -> LogStatistics:
        """What became of the records so far."""
        return replace(self._shipper.statistics, outside=self._outside)


def _is_ours(name: str) -> bool:
    if name == context.RUN_LOGGER:
        return False
    return name.partition(".")[0] in ("grpc", "interlock")
