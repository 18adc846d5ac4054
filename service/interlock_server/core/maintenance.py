"""Maintenance of one database: backup, vacuum, check, prune. One at a time, each broken off when
its caller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from interlock_server.core import checks, pruning
from interlock_server.core.checks import Checked, Inspect
from interlock_server.core.errors import CallError, Code
from interlock_server.core.pruning import Ages, Pruned
from interlock_server.core.schema import Schema
from interlock_server.storage.database import Database
from interlock_server.storage.pipeline import Pipeline
from interlock_server.storage.upkeep import Advance, Report, UpkeepError


class _CanNotError(CallError):
    code = Code.FAILED_PRECONDITION
    reason = "MAINTENANCE_FAILED"


class _RunningError(CallError):
    code = Code.ABORTED
    reason = "MAINTENANCE_RUNNING"


class Maintenance:
    """The maintenance of one database, in the process that may write it."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self.database = database
        self._pipeline = pipeline
        self._running = ""

    async def backup(self, path: Path, overwrite: bool) -> AsyncGenerator[Advance]:
        """Copy the database into a file, while it is in use. The last word is `done`, in bytes.

        Raises CallError, UnavailableError.
        """
        upkeep = self.database.upkeep()
        size = 0

        async def copy(report: Report) -> None:
            nonlocal size
            size = await upkeep.backup(path, overwrite, report)

        with self._only("backup"):
            async with aclosing(_told(copy)) as advances:
                async for advance in advances:
                    yield advance
        yield Advance("done", size, size)

    async def vacuum(self) -> AsyncGenerator[Advance]:
        """Give room back. On SQLite writes wait meanwhile. The last word is `done`, in bytes.

        Raises CallError, UnavailableError.
        """
        upkeep = self.database.upkeep()
        before = await upkeep.size()
        alone: AbstractAsyncContextManager[Any] = (
            self._pipeline.paused() if upkeep.writes_wait else nullcontext()
        )
        with self._only("vacuum"):
            async with alone, aclosing(_told(upkeep.vacuum)) as advances:
                async for advance in advances:
                    yield advance
        yield Advance("done", await upkeep.size(), before)

    async def check(self, inspect: Inspect) -> AsyncGenerator[Checked]:
        """Check what is stored; see `core.checks`. Raises CallError, UnavailableError."""
        await self._refuse_other_schema()
        with self._only("check"):
            async for checked in checks.check(self.database, inspect):
                yield checked

    async def measure(self, ages: Ages) -> Pruned:
        """Count what `prune` would delete. Raises CallError, UnavailableError."""
        await self._refuse_other_schema()
        return await pruning.measure(self.database, ages)

    async def prune(self, ages: Ages) -> AsyncGenerator[Pruned]:
        """Delete what is old; answer how much it was so far. Raises CallError, UnavailableError."""
        await self._refuse_other_schema()
        with self._only("prune"):
            done = Pruned()
            async for pruned in pruning.prune(self.database, self._pipeline, ages):
                done += pruned
                yield done

    async def _refuse_other_schema(self) -> None:
        status = await Schema(self.database).status()
        if not status.servable:
            raise _CanNotError(
                f"The schema is not the one that this version knows: {status.advice}.",
                reason="SCHEMA_NOT_SERVABLE",
            )

    @contextmanager
    def _only(self, name: str) -> Iterator[None]:
        if self._running:
            raise _RunningError(f"A {self._running} runs. Wait until it has ended.")
        self._running = name
        try:
            yield
        except UpkeepError as error:
            raise _CanNotError(str(error), reason=error.reason) from error
        finally:
            self._running = ""


async def _told(work: Callable[[Report], Awaitable[None]]) -> AsyncGenerator[Advance]:
    """Run work, and answer what it reports; whoever stops listening stops it."""
    loop = asyncio.get_running_loop()
    advances: asyncio.Queue[Advance | None] = asyncio.Queue()

    def report(advance: Advance) -> None:
        loop.call_soon_threadsafe(advances.put_nowait, advance)

    async def run() -> None:
        await work(report)

    running = asyncio.create_task(run())
    running.add_done_callback(lambda _: loop.call_soon(advances.put_nowait, None))
    try:
        while (advance := await advances.get()) is not None:
            yield advance
        await running
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait({running})
