"""Watches whether the server can serve, and tells the gate for calls and the health service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from interlock_server.core.schema import Schema
from interlock_server.storage.errors import StorageError, UnavailableError

PERIOD = 2.0
"""Seconds between looks: a load balancer asks about as often."""

log = structlog.get_logger(__name__)


class Problem:
    """Why the server can not serve; `reason` is a stable code."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        self.message = message


Report = Callable[[Problem | None], Awaitable[None]]

Prepare = Callable[[], Awaitable[None]]
"""Makes the database fit for use where that has not been done yet. Raises StorageError."""


class HealthLoop:
    """Looks at the database every now and then; `report` hears of each change.

    Each look begins with `prepare`: a database that was away when the server started is checked,
    and migrated if it is empty, when it comes back.
    """

    def __init__(self, schema: Schema, prepare: Prepare, report: Report) -> None:
        self._schema = schema
        self._prepare = prepare
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self._last: str | None = ""
        self._busy: Problem | None = None
        self._turn = asyncio.Lock()

    async def look(self) -> Problem | None:
        """Look once, and report if something has changed."""
        async with self._turn:
            problem = await self._problem()
            words = None if problem is None else problem.message
            if words != self._last:
                self._last = words
                if problem is None:
                    log.info("serving")
                else:
                    log.warning("not_serving", reason=problem.reason, message=problem.message)
                await self._report(problem)
            return problem

    @asynccontextmanager
    async def busy(self, problem: Problem) -> AsyncIterator[None]:
        """Report a problem for a while, whatever the database says; then look anew."""
        self._busy = problem
        try:
            await self.look()
            yield
        finally:
            self._busy = None
            await self.look()

    async def _problem(self) -> Problem | None:
        if self._busy is not None:
            return self._busy
        try:
            await self._prepare()
            status = await self._schema.status()
        except UnavailableError as error:
            return Problem(error.reason, f"The database can not be reached: {error}")
        except StorageError as error:
            return Problem("DATABASE_UNAVAILABLE", str(error))
        if status.servable:
            return None
        where = f"has the schema {status.current}" if status.current else "has no schema"
        return Problem(
            "SCHEMA_NOT_SERVABLE",
            f"The database {where}, this server needs {status.head}: {status.advice}",
        )

    def start(self) -> None:
        """Look from now on. May be called twice."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="health loop")

    async def stop(self) -> None:
        """Look no more. May be called twice, and before `start`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.look()
            except Exception:
                log.exception("health_loop_failed")
