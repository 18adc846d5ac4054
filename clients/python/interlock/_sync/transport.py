"""Where the synchronous client touches the world: the twin of `_async/transport.py`, by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc

from interlock import channel as channels
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

Channel: TypeAlias = grpc.Channel
Body: TypeAlias = Callable[..., T]
"""What a run runs."""

if TYPE_CHECKING:
    Method: TypeAlias = grpc.UnaryUnaryMultiCallable[Q, R]


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
        return grpc.insecure_channel(target, options=channels.OPTIONS)
    return grpc.secure_channel(target, credentials, options=channels.OPTIONS)


def unary(method: Method[Q, R], request: Q, timeout: float) -> R:
    """Make one attempt of a call; `timeout` in seconds."""
    return method(request, timeout=timeout)


def tail(stubs: Stubs, request: TailLogsRequest) -> Generator[TailLogsResponse]:
    """Read one stream of a log; leaving it early cancels it."""
    call: Any = stubs.logs.TailLogs(request)
    try:
        yield from call
    finally:
        call.cancel()


def search(stubs: Stubs, request: SearchLogsRequest) -> Generator[SearchLogsResponse]:
    """Read one stream of a search; leaving it early cancels it."""
    call: Any = stubs.logs.SearchLogs(request)
    try:
        yield from call
    finally:
        call.cancel()


def watch(stubs: Stubs, request: WatchRunsRequest) -> Generator[WatchRunsResponse]:
    """Read one stream of a watch; leaving it early cancels it."""
    call: Any = stubs.run_events.WatchRuns(request)
    try:
        yield from call
    finally:
        call.cancel()


sleep = time.sleep
"""Wait, in seconds."""


class Signal:
    """Wakes who waits for it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Wake it."""
        self._event.set()

    def wait(self, timeout: float) -> None:
        """Wait until it is set, which is forgotten then, or so many seconds have passed."""
        self._event.wait(timeout)
        self._event.clear()


class Background:
    """Something that goes on beside the caller, until it ends by itself or is stopped."""

    def __init__(self, body: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=body, name="interlock", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for its end, which was asked for; a second at most."""
        if self._thread is not threading.current_thread():
            self._thread.join(1.0)
