"""What a call was and how long it took."""

from __future__ import annotations

import time
from typing import Any

import structlog

from interlock_server.rpc.interceptors.handlers import Handler, Method

SLOW_SECONDS = 1.0
"""A unary call that takes longer is worth a line in the log."""

log = structlog.get_logger(__name__)


def observe(handler: Handler, method: Method) -> Handler:
    """Log calls that fail or are slow; the others only when the log level asks for it."""

    def note(context: Any, began: float) -> None:
        taken = time.perf_counter() - began
        code = context.code()
        failed = code is not None and getattr(code, "value", (code,))[0] not in (0, None)
        slow = taken > SLOW_SECONDS and not method.streams_responses
        if failed or slow:
            words = {"method": method.name, "peer": context.peer(), "seconds": round(taken, 4)}
            request_id = dict(context.invocation_metadata() or ()).get("x-request-id")
            if request_id:
                words["request_id"] = request_id
            if failed:
                words |= {"code": getattr(code, "name", code), "details": context.details()}
            log.info("call_failed" if failed else "call_slow", **words)

    if method.streams_responses:

        async def observed_stream(request: Any, context: Any) -> Any:
            began = time.perf_counter()
            try:
                async for response in handler(request, context):
                    yield response
            finally:
                note(context, began)

        return observed_stream

    async def observed(request: Any, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return await handler(request, context)
        finally:
            note(context, began)

    return observed
