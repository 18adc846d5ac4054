"""What a server's health service says, and waiting for it to say something."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


async def becomes(channel: grpc.aio.Channel, status: int) -> None:
    """Wait until the server says that its status is this one. Raises TimeoutError."""
    stub: Any = HealthStub(channel)
    watching = stub.Watch(HealthCheckRequest(), wait_for_ready=True)
    try:
        async with asyncio.timeout(60):
            async for response in watching:
                if response.status == status:
                    return
    finally:
        watching.cancel()
    raise AssertionError("The watch has ended.")
