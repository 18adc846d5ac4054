"""Bytes that are no message of the method's request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from interlock_server.core.errors import InvalidArgumentError
from interlock_server.rpc.interceptors.handlers import Handler, Method


class Undecodable:
    """Stands for a request that could not be decoded.

    gRPC answers UNKNOWN with a Python class's name where a deserializer raises, so ours does not.
    """

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name


def tolerant(message_class: Any) -> Callable[[bytes], Any]:
    """Make a deserializer that does not raise."""
    parse = message_class.FromString
    refused = Undecodable(message_class.DESCRIPTOR.full_name)

    def deserialize(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return refused

    return deserialize


def _check(request: Any) -> Any:
    if isinstance(request, Undecodable):
        raise InvalidArgumentError(
            "",
            f"The bytes sent are no {request.type_name}: they are damaged, or another message, or "
            "hold a string that is not UTF-8.",
            reason="UNDECODABLE",
        )
    return request


async def _checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _check(request)


def refuse_undecodable(handler: Handler, method: Method) -> Handler:
    """Raise InvalidArgumentError for a request that could not be decoded."""
    if method.streams_requests:
        return lambda requests, context: handler(_checked(requests), context)
    if method.streams_responses:

        async def refusing_stream(request: Any, context: Any) -> Any:
            async for response in handler(_check(request), context):
                yield response

        return refusing_stream

    async def refusing(request: Any, context: Any) -> Any:
        return await handler(_check(request), context)

    return refusing
