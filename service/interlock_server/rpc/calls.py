"""What a handler may ask of its call."""

from __future__ import annotations

from typing import Any

from grpc.aio import ServicerContext

Context = ServicerContext[Any, Any]


def remaining(context: Context) -> float | None:
    """Answer how many seconds are left for the call; None: its caller waits for ever."""
    return context.time_remaining()
