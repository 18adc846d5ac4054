"""A client that stands in for h2load; it says how many calls were answered, in h2load's words.

python -m benchmarks.unary_client TARGET STREAMS SECONDS RUN_ID ...
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import grpc
import uvloop

from benchmarks.requests import SET_STATE, set_state


async def _call(target: str, streams: int, seconds: float, run_ids: list[str]) -> None:
    answered = failed = 0
    async with grpc.aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        call: Any = channel.unary_unary(SET_STATE)
        end = time.monotonic() + seconds

        async def stream(body: bytes) -> None:
            nonlocal answered, failed
            while time.monotonic() < end:
                try:
                    await call(body)
                    answered += 1
                except grpc.RpcError:
                    failed += 1

        bodies = [set_state(run_id) for run_id in run_ids]
        await asyncio.gather(*(stream(body) for body in bodies for _ in range(streams)))
    print(f"{answered} succeeded, {failed} failed, 0 errored, 0 timeout")


if __name__ == "__main__":
    uvloop.run(_call(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
