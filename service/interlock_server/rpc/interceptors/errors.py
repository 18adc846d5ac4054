"""Every error becomes a status here, and nowhere else."""

from __future__ import annotations

from typing import Any

import grpc

from interlock_server.rpc.interceptors.handlers import Handler, Method
from interlock_server.rpc.status import code_of, status_of

_DETAILS_KEY = "grpc-status-details-bin"


async def _abort(context: Any, error: Exception) -> None:
    status = status_of(error)
    metadata = ((_DETAILS_KEY, status.SerializeToString()),)
    await context.abort(code_of(status), status.message, metadata)


def translate_errors(handler: Handler, method: Method) -> Handler:
    """End a call that fails with the status of its error. Cancellations pass."""
    if method.streams_responses:

        async def translated_stream(request: Any, context: Any) -> Any:
            try:
                async for response in handler(request, context):
                    yield response
            except (grpc.aio.AbortError, grpc.aio.UsageError):
                raise
            except Exception as error:
                await _abort(context, error)

        return translated_stream

    async def translated(request: Any, context: Any) -> Any:
        try:
            return await handler(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, error)

    return translated
