"""The part of the client that watches runs."""

from __future__ import annotations

from datetime import datetime

from interlock import values
from interlock._async.parts import Part
from interlock._async.watch import AsyncRunWatch
from interlock.v1.run_event_pb2 import RunEventFilter, WatchRunsRequest


class RunEvents(Part):
    """What happens to runs, as it is committed."""

    def watch_runs(
        self,
        filter: RunEventFilter | None = None,  # noqa: A002
        *,
        resume_token: str = "",
        since: datetime | None = None,
        max_events: int = 0,
    ) -> AsyncRunWatch:
        """Watch runs: iterate over the answer for their changes, in the order of their commits.

        A broken stream goes on by itself where it broke, nothing missing and nothing twice. Keep
        `resume_token` of the last event that you are done with, and another process can go on
        behind it.

        Args:
            filter: which events; none: all. The same one with the same token.
            resume_token: go on behind this one, which an event or a watch had.
            since: begin with what was decided then; none: with what is committed from now on.
            max_events: how many events come in a message at most.
        """
        request = WatchRunsRequest(filter=filter, resume_token=resume_token, max_events=max_events)
        if since is not None:
            request.since.CopyFrom(values.timestamp(since))
        return AsyncRunWatch(self._calls, request)
