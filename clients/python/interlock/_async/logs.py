"""The part of the client for logs. What ships the records of `logging` is `interlock.logs`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime

from interlock import log_calls, values
from interlock._async.parts import Part
from interlock._async.search import AsyncLogSearch
from interlock._async.tail import AsyncLogTail
from interlock.log_columns import Line
from interlock.v1.flow_run_pb2 import FlowRun, FlowRunFilter
from interlock.v1.log_pb2 import (
    DeleteLogsRequest,
    DeleteLogsResponse,
    ListLogsRequest,
    LogFilter,
    LogRecord,
    SearchLogsRequest,
)
from interlock.v1.task_run_pb2 import TaskRun
from interlock.values import id_of


class Logs(Part):
    """Logs: read page by page, followed, or searched; written a few lines at a time."""

    async def write_logs(
        self, run: FlowRun | TaskRun | str, lines: Iterable[Line | str] | Line | str
    ) -> None:
        """Write some lines to the log of a flow run, or of a task run that is part of none.

        They are durable when it returns. For those who have a few lines now and then;
        `InterlockHandler` is far cheaper for many.

        Args:
            run: the run, or its id.
            lines: what to write, in this order, or one line: a text is a line of level INFO that
                was made now; a `log_columns.Line` says more. Many are written in several calls:
                where a later one fails, the first lines are there.

        Raises NotFound; InvalidArgument, also for a task run that is part of a flow run: its lines
        go to the log of that.
        """
        complete = log_calls.lines_of([lines] if isinstance(lines, str | Line) else lines)
        limits = log_calls.LEAST_LIMITS
        if not log_calls.fits(complete, limits):
            limits = await self._calls.limits()
        for request in log_calls.requests(id_of(run), complete, limits):
            # Sent again it has the same id.
            await self._calls.send(self._stubs.logs.WriteLogs, request, replay=True)

    async def delete_logs(
        self, run: FlowRun | TaskRun | str, *, before: datetime | None = None
    ) -> DeleteLogsResponse:
        """Delete the log of a run, or its oldest part; answer how many records were deleted.

        What comes to it later goes on with the next ordinal. A large log takes its time: one that
        takes longer than `timeout` is shorter then; call it again.

        Args:
            run: a flow run, or a task run that is part of none, or its id.
            before: only what reached the service before this time is deleted, as far as it is
                stored apart from what came later.

        Raises NotFound.
        """
        request = DeleteLogsRequest(
            run_id=id_of(run), before=None if before is None else values.timestamp(before)
        )
        return await self._calls.send(self._stubs.logs.DeleteLogs, request, replay=False)

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

    def search_logs(
        self,
        filter: LogFilter | None = None,  # noqa: A002
        *,
        runs: Sequence[FlowRun | TaskRun | str] = (),
        flow_runs: FlowRunFilter | None = None,
        context_before: int = 0,
        context_after: int = 0,
        max_matches: int = 0,
        max_scanned: int = 0,
        oldest_first: bool = False,
        resume_token: str = "",
    ) -> AsyncLogSearch:
        """Search the logs of many runs: run by run, the youngest first, each from its beginning on.

        A broken stream goes on by itself where it broke, nothing missing and nothing twice; it
        raises only if the server can not be reached for `timeout`, or with InvalidArgument.

        Args:
            filter: which records; `LogFilter.text` is what to look for in their messages.
            runs: only the logs of these runs, or of the runs of these ids.
            flow_runs: only the logs of flow runs that meet this; not together with `runs`.
            context_before: how many records of the same log are handed out before each match.
            context_after: how many are handed out after each match.
            max_matches: after how many matches the search ends; 0: 1,000.
            max_scanned: after about how many records that were looked at it ends; 0: 50,000,000.
            oldest_first: the oldest runs first.
            resume_token: where another search for the same has ended.
        """
        request = SearchLogsRequest(
            flow_runs=flow_runs,
            run_ids=[id_of(run) for run in runs],
            filter=filter,
            context_before=context_before,
            context_after=context_after,
            max_matches=max_matches,
            max_scanned=max_scanned,
            oldest_first=oldest_first,
            resume_token=resume_token,
        )
        return AsyncLogSearch(self._calls, request)
