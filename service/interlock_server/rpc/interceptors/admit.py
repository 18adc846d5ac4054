"""No call reaches a service while the server can not serve."""

from __future__ import annotations

from typing import Any

from interlock_server.rpc.interceptors.handlers import Handler, Interceptor, Method
from interlock_server.rpc.status import NotServingError


class Gate:
    """Whether calls are let in; shut, it tells why."""

    def __init__(self) -> None:
        self.why: NotServingError | None = None

    def check(self) -> None:
        """Raise NotServingError while the gate is shut."""
        if self.why is not None:
            raise self.why


def admit(gate: Gate) -> Interceptor:
    """Make the interceptor of a gate."""

    def admitting(handler: Handler, method: Method) -> Handler:
        if method.streams_responses:

            async def admitted_stream(request: Any, context: Any) -> Any:
                gate.check()
                async for response in handler(request, context):
                    yield response

            return admitted_stream

        async def admitted(request: Any, context: Any) -> Any:
            gate.check()
            return await handler(request, context)

        return admitted

    return admitting
