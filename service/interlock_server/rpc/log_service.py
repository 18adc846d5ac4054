"""LogService."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from interlock.v1 import log_pb2 as pb

from interlock_server.core.engine import Engine
from interlock_server.core.errors import CallError, InvalidArgumentError
from interlock_server.core.logs.appends import AppendLog, Succession
from interlock_server.core.logs.chunks import compress
from interlock_server.core.logs.deletion import delete_log
from interlock_server.core.logs.ends import TailEnd
from interlock_server.core.logs.pages import LAST, Ordinal, read_page
from interlock_server.core.logs.tails import PROGRESS, follow
from interlock_server.rpc import fields, log_filters, log_records, log_search, pages, states
from interlock_server.rpc.calls import Context, remaining
from interlock_server.rpc.limits import LOG_WINDOW_BYTES
from interlock_server.storage import log_queries
from interlock_server.storage.errors import ClosedError, OverloadedError
from interlock_server.storage.log_queries import LogQuery

_MESSAGE_BYTES = 512 * 1024
"""How large the messages of a tail become, about."""

_PAGE_BYTES = 8 * 1024 * 1024
"""How large a page of a log becomes, about: half of what a client may read in one message."""

_BATCH_BYTES = 2048
"""What a batch takes of the window besides its message, about: the answer that it is refused is
much larger than the smallest message, and waits for whoever does not read."""

_OVERLOAD_PAUSE = 0.02
"""Seconds between tries while the pipeline takes no more logs: a batch or two."""

_ENDS = {
    None: pb.TAIL_END_UNSPECIFIED,
    TailEnd.DRAINED: pb.TAIL_END_DRAINED,
    TailEnd.SILENT: pb.TAIL_END_SILENT,
    TailEnd.SERVER_DRAINING: pb.TAIL_END_SERVER_DRAINING,
}


class LogService:
    """Takes in and shows the logs of runs; see `protos/interlock/v1/log.proto`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def AppendLogs(  # noqa: N802
        self, requests: AsyncIterator[pb.AppendLogsRequest], context: Context
    ) -> AsyncIterator[pb.AppendLogsResponse]:
        """Stream batches in, and acknowledgements out."""
        first = await anext(requests, None)
        if first is None:
            return
        producer_id = fields.id_("producer_id", first.producer_id)
        durable = await log_queries.last_acknowledged(self._engine.database, producer_id)
        yield pb.AppendLogsResponse(acknowledged=durable)
        draining = self._engine.draining
        intake = _Intake(self._engine, producer_id)
        reading = asyncio.create_task(intake.read(first, requests))
        going = asyncio.create_task(draining.wait())
        going.add_done_callback(lambda _: reading.cancel())
        try:
            async for answer in intake.answers():
                yield answer
            if draining.is_set():
                raise ClosedError
            await reading
        finally:
            going.cancel()

    async def WriteLogs(  # noqa: N802
        self, request: pb.WriteLogsRequest, context: Context
    ) -> pb.WriteLogsResponse:
        """Write records of one run in one call."""
        records = log_records.single_call(request)
        command = AppendLog(records, await compress(records.packed))
        await self._engine.pipeline.submit(command, remaining(context))
        return pb.WriteLogsResponse()

    async def ListLogs(  # noqa: N802
        self, request: pb.ListLogsRequest, context: Context
    ) -> pb.ListLogsResponse:
        """List the records of one log, a page at a time."""
        run_id = fields.id_("run_id", request.run_id)
        size = fields.page_size(request.page_size)
        wanted = log_filters.read(request.filter)
        after = pages.position(request, (int,))
        start = int(after[0]) if after else (LAST if request.descending else 0)
        records, beyond = await read_page(
            self._engine.database,
            LogQuery(run_id, wanted.conditions),
            Ordinal(start, size, request.descending),
            wanted.unpack,
            self._engine.search_threads if wanted.is_slow else None,
        )
        fitting = log_records.parts(records, _PAGE_BYTES)
        if len(fitting) > 1:
            records, beyond = fitting[0], fitting[1][0].ordinal
        token = "" if beyond is None else pages.token(request, (beyond,))
        return pb.ListLogsResponse(records=records, next_page_token=token)

    async def TailLogs(  # noqa: N802
        self, request: pb.TailLogsRequest, context: Context
    ) -> AsyncIterator[pb.TailLogsResponse]:
        """Stream one log until its run is drained."""
        run_id = fields.id_("run_id", request.run_id)
        start = fields.number("from_ordinal", request.from_ordinal, LAST)
        wanted = log_filters.read(request.filter)
        query = LogQuery(run_id, wanted.conditions)
        engine = self._engine
        following = follow(
            engine.database,
            engine.log_news,
            query,
            start,
            engine.draining,
            wanted.unpack,
            engine.search_threads if wanted.is_slow else None,
        )
        told, told_at = start, time.monotonic()
        async with aclosing(following):
            async for part in following:
                found = [record for _, record in part.found or ()]
                for records in log_records.parts(found, _MESSAGE_BYTES):
                    told, told_at = records[-1].ordinal + 1, time.monotonic()
                    yield pb.TailLogsResponse(records=records, next_ordinal=told)
                # Whoever wants little is told how far it was read, so as not to begin anew.
                due = part.found is None or time.monotonic() >= told_at + PROGRESS
                if part.end is not None or (part.next_ordinal > told and due):
                    told, told_at = part.next_ordinal, time.monotonic()
                    yield pb.TailLogsResponse(next_ordinal=told, end=_ENDS[part.end])

    async def SearchLogs(  # noqa: N802
        self, request: pb.SearchLogsRequest, context: Context
    ) -> AsyncIterator[pb.SearchLogsResponse]:
        """Stream what is found in the logs of many runs."""
        async with aclosing(log_search.search(self._engine, request)) as answers:
            async for answer in answers:
                yield answer

    async def DeleteLogs(  # noqa: N802
        self, request: pb.DeleteLogsRequest, context: Context
    ) -> pb.DeleteLogsResponse:
        """Delete a log, or its oldest part."""
        run_id = fields.id_("run_id", request.run_id)
        given = request.HasField("before")
        before = fields.timestamp("before", request.before) if given else None
        answer = pb.DeleteLogsResponse()
        cuts = delete_log(self._engine.pipeline, run_id, before, remaining(context))
        async with aclosing(cuts):
            async for cut in cuts:
                answer.deleted += cut.records
                answer.first_ordinal = cut.first_ordinal
        return answer


@dataclass(slots=True)
class _Pending:
    """A batch on its way to the database; `done` raises why it is refused."""

    number: int
    size: int
    done: asyncio.Future[None]


class _Intake:
    """The batches of one stream: read in order, answered in order, never more than the window."""

    def __init__(self, engine: Engine, producer_id: str) -> None:
        self._engine = engine
        self._producer_id = producer_id
        self._first = 0
        self._taken: int | None = None
        self._succession = Succession()
        self._pending: deque[_Pending] = deque()
        self._bytes = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def read(
        self, first: pb.AppendLogsRequest, requests: AsyncIterator[pb.AppendLogsRequest]
    ) -> None:
        """Take in the stream's messages to its end."""
        try:
            await self._take(first)
            async for request in requests:
                await self._take(request)
        finally:
            await self._change(ended=True)

    async def answers(self) -> AsyncIterator[pb.AppendLogsResponse]:
        """Answer what becomes durable, as many batches at once as there are."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._pending or self._ended)
            if not self._pending:
                return
            answer = pb.AppendLogsResponse()
            await asyncio.wait({self._pending[0].done})
            while self._pending and self._pending[0].done.done():
                pending = self._pending.popleft()
                self._bytes -= pending.size
                answer.acknowledged = pending.number
                try:
                    pending.done.result()
                except CallError as error:
                    refused = states.to_item_error("", error)
                    refused.field = error.field
                    answer.refused.add(number=pending.number, error=refused)
            await self._change()
            yield answer

    async def _change(self, ended: bool = False) -> None:
        async with self._changed:
            self._ended = self._ended or ended
            self._changed.notify_all()

    async def _take(self, request: pb.AppendLogsRequest) -> None:
        number = request.number
        if number == 0 or self._is_known(number):
            return
        self._taken = number
        size = request.ByteSize() + _BATCH_BYTES
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._pending or self._bytes + size <= LOG_WINDOW_BYTES
            )
        done = await self._enqueue(request)
        self._bytes += size
        self._pending.append(_Pending(number, size, done))
        await self._change()

    def _is_known(self, number: int) -> bool:
        """Answer whether this stream has taken the batch; raise where one is missing before it."""
        if number < 0:
            raise InvalidArgumentError("number", "Batches are numbered from 1 on.")
        if self._taken is None:
            # The first batch of a stream may have any number. It may be higher: those before it
            # were refused, or their run was deleted since, and the producer knows. It may be one
            # that is durable: among those that had no answer may be some that were refused, which
            # only a second look at each can tell.
            self._first = number
            return False
        if self._first <= number <= self._taken:
            return True
        if number != self._taken + 1:
            raise InvalidArgumentError(
                "number",
                f"Batch {number} came after batch {self._taken}: send {self._taken + 1} first.",
                reason="BATCH_OUT_OF_ORDER",
            )
        return False

    async def _enqueue(self, request: pb.AppendLogsRequest) -> asyncio.Future[None]:
        try:
            batch = log_records.batch(self._producer_id, request)
        except InvalidArgumentError as error:
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused
        command = AppendLog(batch, await compress(batch.packed), self._succession)
        while True:
            try:
                done = self._succession.last = self._engine.pipeline.enqueue(command)
                # Where the stream breaks nobody asks any more what became of the batch.
                done.add_done_callback(lambda it: it.cancelled() or it.exception())
                return done
            except OverloadedError:
                if self._engine.draining.is_set():
                    raise ClosedError from None
                await asyncio.sleep(_OVERLOAD_PAUSE)
