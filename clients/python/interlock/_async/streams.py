"""Reading a stream that tells where it can be resumed, over streams that break."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import grpc

from interlock._async import transport
from interlock._async.calls import Calls
from interlock.errors import InterlockError, Unavailable, from_rpc_error

R = TypeVar("R")

_LONG_LIVED = 30.0
"""A stream that lived for so many seconds was connected, though it had nothing to say: what broke
it begins a new time budget. Longer than gRPC takes to give up a connection (20 s)."""


async def resumed(
    calls: Calls, name: str, open_stream: Callable[[], AsyncGenerator[R]]
) -> AsyncGenerator[R]:
    """Hand out the messages of a stream that is opened again wherever it breaks, without end.

    `open_stream` opens it behind the last message handed out; `name` is what an error calls it.
    Whoever knows that a message was the last one leaves. Raises InterlockError for what can not be
    bridged: Unavailable where no server could be reached for the client's `timeout`.
    """
    attempts = calls.attempts(replay=True)
    while True:
        attempts.begin()
        began, progress = time.monotonic(), False
        # A stream that ends without saying why was cut: by a proxy, by a server that goes away.
        error: InterlockError = Unavailable(f"{name} was cut", retry_after=0.0)
        try:
            async with aclosing(open_stream()) as stream:
                async for message in stream:
                    progress = True
                    yield message
        except grpc.RpcError as failure:
            error = from_rpc_error(failure)
        if progress or time.monotonic() - began > _LONG_LIVED:
            attempts = calls.attempts(replay=True)
        delay = attempts.delay_after(error)
        if delay is None:
            raise error
        await transport.sleep(delay)
