"""The part of the client that reads logs. What writes them is `interlock.logs`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from interlock._async.parts import Part
from interlock._async.tail import AsyncLogTail
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.log_pb2 import ListLogsRequest, LogFilter, LogRecord
from interlock.v1.task_run_pb2 import TaskRun
from interlock.values import id_of


class Logs(Part):
    """Logs: read page by page, or followed."""

    async def list_logs(
        self,
        run: FlowRun | TaskRun | str,
        filter: LogFilter | None = None,  # noqa: A002
        *,
        descending: bool = False,
        page_size: int = 0,
    ) -> AsyncIterator[LogRecord]:
        """Iterate over the log of a flow run, or of a task run that is part of none.

        Raises NotFound.
        """
        request = ListLogsRequest(
            run_id=id_of(run), filter=filter, descending=descending, page_size=page_size
        )
        async for page in self._calls.pages(self._stubs.logs.ListLogs, request):
            for record in page.records:
                yield record

    def tail_logs(
        self,
        run: FlowRun | TaskRun | str,
        filter: LogFilter | None = None,  # noqa: A002
        *,
        from_ordinal: int = 0,
    ) -> AsyncLogTail:
        """Follow a log: what is there, then what comes, until the run has ended and said all.

        A broken stream goes on by itself where it broke, nothing missing and nothing twice; it
        raises only if the server can not be reached for `timeout`, or with NotFound.
        """
        return AsyncLogTail(self._calls, id_of(run), filter, from_ordinal)
