"""Where the asynchronous client touches the world. Its twin in `_sync` is written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc
import grpc.aio

from interlock import channel as channels
from interlock.errors import Cancelled
from interlock.v1.deployment_pb2_grpc import DeploymentServiceStub
from interlock.v1.flow_pb2_grpc import FlowServiceStub
from interlock.v1.flow_run_pb2_grpc import FlowRunServiceStub
from interlock.v1.log_pb2_grpc import LogServiceStub
from interlock.v1.run_event_pb2_grpc import RunEventServiceStub
from interlock.v1.run_heartbeat_pb2_grpc import RunHeartbeatServiceStub
from interlock.v1.server_pb2_grpc import ServerServiceStub
from interlock.v1.task_run_pb2_grpc import TaskRunServiceStub

if TYPE_CHECKING:
    from interlock.v1.log_pb2 import (
        SearchLogsRequest,
        SearchLogsResponse,
        TailLogsRequest,
        TailLogsResponse,
    )
    from interlock.v1.run_event_pb2 import WatchRunsRequest, WatchRunsResponse

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

Channel: TypeAlias = grpc.aio.Channel
Body: TypeAlias = Callable[..., Awaitable[T]]
"""What a run runs."""

if TYPE_CHECKING:
    Method: TypeAlias = grpc.aio.UnaryUnaryMultiCallable[Q, R]


class Stubs:
    """The stubs of all services, on one channel."""

    def __init__(self, channel: Channel) -> None:
        self.flows = FlowServiceStub(channel)
        self.deployments = DeploymentServiceStub(channel)
        self.flow_runs = FlowRunServiceStub(channel)
        self.task_runs = TaskRunServiceStub(channel)
        self.heartbeats = RunHeartbeatServiceStub(channel)
        self.logs = LogServiceStub(channel)
        self.run_events = RunEventServiceStub(channel)
        self.server = ServerServiceStub(channel)


def open_channel(target: str, credentials: grpc.ChannelCredentials | None) -> Channel:
    """Open a channel; it connects with the first call."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=channels.OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=channels.OPTIONS)


async def unary(method: Method[Q, R], request: Q, timeout: float) -> R:
    """Make one attempt of a call; `timeout` in seconds."""
    try:
        return await method(request, timeout=timeout)
    except asyncio.CancelledError:
        # grpc.aio raises this for a server that answers CANCELLED, too.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Cancelled("the server cancelled the call") from None


async def tail(stubs: Stubs, request: TailLogsRequest) -> AsyncGenerator[TailLogsResponse]:
    """Read one stream of a log; leaving it early cancels it."""
    call: Any = stubs.logs.TailLogs(request)
    try:
        async for response in call:
            yield response
    finally:
        call.cancel()


async def search(stubs: Stubs, request: SearchLogsRequest) -> AsyncGenerator[SearchLogsResponse]:
    """Read one stream of a search; leaving it early cancels it."""
    call: Any = stubs.logs.SearchLogs(request)
    try:
        async for response in call:
            yield response
    finally:
        call.cancel()


async def watch(stubs: Stubs, request: WatchRunsRequest) -> AsyncGenerator[WatchRunsResponse]:
    """Read one stream of a watch; leaving it early cancels it."""
    call: Any = stubs.run_events.WatchRuns(request)
    try:
        async for response in call:
            yield response
    finally:
        call.cancel()


sleep = asyncio.sleep
"""Wait, in seconds."""


class Signal:
    """Wakes who waits for it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake it."""
        self._event.set()

    async def wait(self, timeout: float) -> None:
        """Wait until it is set, which is forgotten then, or so many seconds have passed."""
        with suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout)
        self._event.clear()


class Background:
    """Something that goes on beside the caller, until it ends by itself or is stopped."""

    def __init__(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = asyncio.create_task(body())

    async def stop(self) -> None:
        """Wait for its end, which was asked for, or bring it about."""
        self._task.cancel()
        await asyncio.wait({self._task})
