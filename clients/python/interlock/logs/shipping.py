"""The thread that ships: it keeps one stream open, and opens another when that one breaks.

What it promises: it goes on until the handler is closed, whatever the service does. What is wrong
for a moment is waited out, longer each time; what is wrong with one batch costs that batch alone.
Trouble that does not pass by itself is said on stderr, once.
"""

from __future__ import annotations

from typing import Any

import grpc

from interlock.channel import OPTIONS
from interlock.errors import InterlockError, from_rpc_error
from interlock.logs.batching import ASSUMED_LIMITS
from interlock.logs.outbox import Outbox
from interlock.logs.stderr import say
from interlock.retry import Backoff
from interlock.v1.log_pb2_grpc import LogServiceStub
from interlock.v1.server_pb2 import GetServerInfoRequest, Limits
from interlock.v1.server_pb2_grpc import ServerServiceStub

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 3.0
"""Between two streams, in seconds. Whoever follows a log waits as long when the server is back."""
_HOPELESS = 5
"""After how many streams in a row that broke on one batch that batch is given up, if what the
server said is about the batch and not about the moment."""
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_ABOUT_THE_BATCH = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def ship(outbox: Outbox, target: str, credentials: grpc.ChannelCredentials | None) -> None:
    """Keep a stream open until the handler is closed: what our thread does."""
    if credentials is None:
        channel = grpc.insecure_channel(target, options=OPTIONS)
    else:
        channel = grpc.secure_channel(target, credentials, options=OPTIONS)
    backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
    stuck_on, stuck = 0, 0
    try:
        while not outbox.stopped:
            before = outbox.first_number()
            error = _stream(channel, outbox, backoff)
            if outbox.stopped:
                return
            trouble = str(error) if error is not None else ""
            lasting = error is not None and not _is_passing(error)
            if trouble != outbox.trouble and lasting:
                say(f"logs can not be delivered to {target}: {trouble}")
            after = outbox.first_number()
            hopeless = (
                error is not None and error.code in _ABOUT_THE_BATCH and error.retry_after is None
            )
            outbox.trouble = trouble
            outbox.failure = error if lasting and not hopeless else None
            stuck = stuck + 1 if hopeless and after and after == before == stuck_on else 0
            stuck_on = after
            if error is not None and error.reason == "BATCH_OUT_OF_ORDER":
                outbox.renumber()
            elif error is not None and stuck >= _HOPELESS:
                outbox.give_up_first(error)
                stuck = 0
            after_told = error.retry_after if error is not None else None
            outbox.wait_unless_stopped(backoff.next(after_told or 0.0))
    except Exception as failure:
        # A fault of ours must not be silent: the queue fills up, and `close` says what is left.
        outbox.trouble = repr(failure)
        outbox.failure = failure
        say(f"the log handler has failed: {failure!r}")
    finally:
        outbox.end_stream()
        channel.close()


def spill_when_crowded(outbox: Outbox) -> None:
    """Move records to the file whenever the queue is crowded: what the spiller does."""
    try:
        while outbox.wait_for_crowd():
            outbox.spill_over()
    except Exception as failure:
        say(f"log records can not be kept in a file any more: {failure!r}")


def _stream(channel: grpc.Channel, outbox: Outbox, backoff: Backoff) -> InterlockError | None:
    """Serve one stream until it breaks; answer why it did. None: the server ended it."""
    call: Any = None
    try:
        outbox.limits = _limits_of(channel)
        call = outbox.call = LogServiceStub(channel).AppendLogs(outbox.requests())
        for response in call:
            came_further = outbox.take(response)
            if not outbox.is_current() and not outbox.stopped:
                break
            if came_further:
                backoff.reset()
                outbox.trouble = ""
                outbox.failure = None
        return None
    except grpc.RpcError as failure:
        return from_rpc_error(failure)
    finally:
        outbox.end_stream()
        if call is not None:
            call.cancel()


def _limits_of(channel: grpc.Channel) -> Limits:
    """Ask for the server's limits; where it tells none, assume modest ones."""
    try:
        info = ServerServiceStub(channel).GetServerInfo(GetServerInfoRequest(), timeout=10.0)
    except grpc.RpcError as failure:
        if from_rpc_error(failure).code is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        return ASSUMED_LIMITS
    limits = Limits()
    limits.CopyFrom(ASSUMED_LIMITS)
    limits.MergeFrom(info.limits)
    return limits


def _is_passing(error: InterlockError) -> bool:
    return error.retry_after is not None or error.code in _PASSING
