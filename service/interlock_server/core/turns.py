"""Work that is long as a whole, done in turns with everyone else."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from interlock_server.storage.commands import Command
from interlock_server.storage.pipeline import Pipeline

R = TypeVar("R")


async def take_turn(pipeline: Pipeline, command: Command[R], timeout: float | None = None) -> R:
    """Run a command, then leave the database to others for as long as it took.

    Raises what `Pipeline.submit` does.
    """
    began = time.monotonic()
    answer = await pipeline.submit(command, timeout)
    await asyncio.sleep(time.monotonic() - began)
    return answer
