"""The writer: for programs that ship logs without `logging`, and want to wait rather than to drop.

What it promises: a record that was written is delivered in order and exactly once, or the one who
writes learns that it was not: by an exception, or in `statistics`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import grpc

from interlock.log_columns import Line
from interlock.logs.records import fit
from interlock.logs.shipper import (
    BATCH_INTERVAL,
    MAX_QUEUE_BYTES,
    MAX_QUEUE_RECORDS,
    LogStatistics,
    OnRefused,
    Shipper,
)
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.task_run_pb2 import TaskRun
from interlock.values import id_of


class LogWriter:
    """Writes records into the logs of runs, many runs on one stream.

        with LogWriter() as writer:
            for text in file:
                writer.write(run_id, Line(time_us, 20, "import", text))
            writer.end_run(run_id)

    Any thread may write. A queue is between `write` and the stream; where it is full, `write` waits
    until there is room. A server that is away is waited for; what does not pass by itself (a server
    that does not know us, say) is raised. The end of the block waits until all is durable.

    What the contract can not carry is made to fit, and said on stderr: see `interlock.logs`.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        max_queue_records: int = MAX_QUEUE_RECORDS,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
        batch_interval: float = BATCH_INTERVAL,
        close_timeout: float | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        """Make a writer; it connects with the first record.

        Args:
            target: where the server is; unless given, what `INTERLOCK_TARGET` says, else the local
                server.
            credentials: for TLS; none: a plain connection.
            max_queue_records: how many records may wait before `write` does.
            max_queue_bytes: how many bytes of records may wait, about.
            batch_interval: how many seconds a record may wait for others to be sent with it.
            close_timeout: how many seconds the end of the block waits for what is not durable yet;
                None: as long as it takes.
            on_refused: called, in the thread that ships, with what the service refused and how many
                records it was; said on stderr in any case.
        """
        self._close_timeout = close_timeout
        self._shipper = Shipper(
            target,
            credentials,
            max_queue_records=max_queue_records,
            max_queue_bytes=max_queue_bytes,
            batch_interval=batch_interval,
            on_refused=on_refused,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close(self._close_timeout)
        else:
            # The block's own failure is what is to be seen; what is left is said on stderr.
            self._shipper.close()

    def write(self, run: FlowRun | TaskRun | str, line: Line, timeout: float | None = None) -> None:
        """Write a record into a run's log, and wait for room where there is none.

        Args:
            run: whose log it is: a flow run, or a task run that is part of none; or its id.
            line: the record.
            timeout: how many seconds to wait for room; None: as long as it takes.

        Raises:
            TimeoutError: there was no room in time; the record was not taken.
            InterlockError: the service can not be written to, and that will not pass by itself; the
                record was not taken.
            TypeError: the run is none, or the line is not a `Line`.
            ValueError: the writer is closed.
        """
        if isinstance(line, str):
            raise TypeError("A text is not enough: write a Line, which has a time and a level")
        if not self._shipper.put(id_of(run), fit(line), timeout):
            why = self._shipper.trouble or "it takes records too slowly"
            raise TimeoutError(f"{self._shipper.target} took no log record in {timeout} s: {why}")

    def end_run(self, run: FlowRun | TaskRun | str) -> None:
        """Tell the service that nothing more comes for a run's log, if anything was written to it.

        Whoever follows that log then need not wait for the silence.
        """
        self._shipper.end_run(id_of(run))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was written before is durable, or refused.

        Answers whether that was so within `timeout` seconds; None waits as long as it takes. Raises
        InterlockError where the service can not be written to, and that will not pass by itself.
        """
        return self._shipper.flush(timeout, or_raise=True)

    def close(self, timeout: float | None = None) -> None:
        """Wait until all is durable, or refused, for at most `timeout` seconds, and stop.

        None waits as long as it takes. Closing again does nothing.

        Raises:
            LogsNotDelivered: not all was durable in time; `records` says how many.
            InterlockError: the service can not be written to, and that will not pass by itself.
        """
        if self._shipper.closed:
            return
        self._shipper.finish(timeout)

    @property
    def statistics(self) -> LogStatistics:
        """What became of the records so far: how many are delivered, refused, or still waiting."""
        return self._shipper.statistics
