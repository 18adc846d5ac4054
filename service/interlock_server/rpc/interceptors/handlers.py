"""The shape of handlers, and of what wraps them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Handler = Callable[[Any, Any], Any]
"""Takes a request, or an iterator of them, and the call's context. Answers an awaitable response,
or an asynchronous iterator of them where the method streams."""


@dataclass(frozen=True, slots=True)
class Method:
    """What a method is called and which way it streams."""

    name: str
    """`/package.Service/Method`, as gRPC calls it."""
    streams_requests: bool
    streams_responses: bool


Interceptor = Callable[[Handler, Method], Handler]
