"""How calls are made: over one channel, within a time budget, again where that can do no harm.

It knows no service but the one that tells the server's limits. Who calls says with each call
whether it may be sent again (`replay`); see `interlock.retry` for what that means.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, TypeVar

import grpc

from interlock._async import transport
from interlock.errors import from_rpc_error
from interlock.retry import Attempts, RetryPolicy
from interlock.v1.server_pb2 import GetServerInfoRequest, GetServerInfoResponse, Limits


class ListRequest(Protocol):
    """A request whose answer comes in pages."""

    page_token: str


class Page(Protocol):
    """An answer that may have another one behind it."""

    next_page_token: str


Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")
ListQ = TypeVar("ListQ", bound=ListRequest)
PageR = TypeVar("PageR", bound=Page)

_SMALL_BATCH = 100
"""Up to this many items a batch is sent without asking for the server's limit."""


class Connection:
    """The channel, opened with the first call, so that it belongs to the loop that uses it."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        self._target = target
        self._credentials = credentials
        self._channel: transport.Channel | None = None
        self._stubs: transport.Stubs | None = None
        self._closed = False
        self._opening = threading.Lock()
        self.limits: Limits | None = None
        """The server's limits; None: not asked for yet."""

    def stubs(self) -> transport.Stubs:
        """Answer the stubs of all services. Raises RuntimeError once it is closed."""
        if (stubs := self._stubs) is not None:
            return stubs
        with self._opening:
            if self._closed:
                raise RuntimeError("This client is closed")
            if self._stubs is None:
                self._channel = transport.open_channel(self._target, self._credentials)
                self._stubs = transport.Stubs(self._channel)
            return self._stubs

    async def close(self) -> None:
        """Close the channel, if it is open, for good."""
        self._closed = True
        channel, self._channel, self._stubs = self._channel, None, None
        if channel is not None:
            await channel.close()


class Calls:
    """Makes calls on a connection, each within the same time budget."""

    def __init__(self, connection: Connection, timeout: float, retry: RetryPolicy) -> None:
        """Make one. `timeout`: the budget of a call in seconds, its retries included."""
        self._connection = connection
        self._timeout = timeout
        self._retry = retry

    def with_timeout(self, timeout: float) -> Calls:
        """Answer the same with another time budget, in seconds."""
        return Calls(self._connection, timeout, self._retry)

    async def close(self) -> None:
        """Close the connection, for all who use it."""
        await self._connection.close()

    @property
    def stubs(self) -> transport.Stubs:
        """The stubs of all services. Raises RuntimeError once the connection is closed."""
        return self._connection.stubs()

    def attempts(self, *, replay: bool) -> Attempts:
        """Start the clock of one call."""
        return Attempts(self._retry, self._timeout, replay=replay)

    async def send(self, method: transport.Method[Q, R], request: Q, *, replay: bool) -> R:
        """Make one call, and answer what the server does. Raises InterlockError."""
        attempts = self.attempts(replay=replay)
        while True:
            try:
                return await transport.unary(method, request, attempts.begin())
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
            delay = attempts.delay_after(error)
            if delay is None:
                if attempts.count > 1:
                    error.add_note(f"Given up after {attempts.count} attempts.")
                raise error
            await transport.sleep(delay)

    async def pages(
        self, method: transport.Method[ListQ, PageR], request: ListQ
    ) -> AsyncIterator[PageR]:
        """Hand out the pages of a list; each is fetched when it is asked for."""
        while True:
            page = await self.send(method, request, replay=True)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def batches(
        self,
        method: transport.Method[Q, R],
        items: Sequence[T],
        request_of: Callable[[Sequence[T]], Q],
    ) -> AsyncIterator[R]:
        """Send many items, as many at once as the server takes, and hand out its answers."""
        size = await self._batch_size(len(items))
        for start in range(0, len(items), size):
            yield await self.send(method, request_of(items[start : start + size]), replay=True)

    async def server_info(self) -> GetServerInfoResponse:
        """Answer the server's version, features and limits."""
        return await self.send(self.stubs.server.GetServerInfo, GetServerInfoRequest(), replay=True)

    async def limits(self) -> Limits:
        """Answer the server's limits, which are asked for once."""
        if self._connection.limits is None:
            self._connection.limits = (await self.server_info()).limits
        return self._connection.limits

    async def _batch_size(self, count: int) -> int:
        if count <= _SMALL_BATCH:
            return _SMALL_BATCH
        return (await self.limits()).max_batch_items or _SMALL_BATCH
