"""One loop: what it does, when it does it next, and what has become of it so far.

A loop looks for what is due and does it. It knows when the next thing is due, as far as there is
one by now, and sleeps until then; a commit that makes something due earlier wakes it (`expect`).
Once in a period it looks anyway: another server may have made something due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from interlock_server.background.term import TermKeeper
from interlock_server.rules.states import Micros

_SHORTEST_SLEEP = 0.02
"""Seconds between two looks, so that what can not be done is not tried without a pause, and so that
what comes in a flood is done together."""

_MICROS = 1_000_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look has brought."""

    done: int
    """How many things were done."""
    next_due: Micros | None
    """When there is something to do next, by the database's clock; None: not known."""


Work = Callable[[Micros], Awaitable[Look]]
"""Does what is due at the given time, a bounded part of it at once. What it raises is logged."""


@dataclass(slots=True)
class LoopReport:
    """What a loop has done since its server started."""

    name: str
    period: float
    """Seconds after which it looks again in any case."""
    looks: int = 0
    done: int = 0
    last_look: Micros | None = None
    """When it looked last, by the database's clock."""
    last_done: Micros | None = None
    """When it did something last."""
    last_error: str = ""
    """What went wrong in the last look; empty: nothing."""


class Loop:
    """Runs some work again and again while the term is held. May be started again after a stop."""

    def __init__(
        self, name: str, period: float, work: Work, term: TermKeeper, *, routine: bool = False
    ) -> None:
        """`routine` tells that it always does something, which is no news then."""
        self.report = LoopReport(name, period)
        self._work = work
        self._routine = routine
        self._term = term
        self._next: Micros | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def expect(self, due: Micros) -> None:
        """Hear that something will be due at a time of the database's clock."""
        if self._next is None or due < self._next:
            self._next = due
            self._wake.set()

    def wake(self) -> None:
        """Look at once."""
        self._next = 0
        self._wake.set()

    def start(self) -> None:
        """Look from now on. May be called twice."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"loop {self.report.name}")

    async def stop(self) -> None:
        """Look no more. May be called twice, and before `start`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            if self._term.held:
                await self._look()
            await self._sleep()

    async def _look(self) -> None:
        report = self.report
        # What is heard of from here on counts.
        self._next = None
        report.looks += 1
        report.last_look = now = self._term.now()
        try:
            look = await self._work(now)
        except Exception as error:
            if not report.last_error:
                log.warning("loop_failed", loop=report.name, error=repr(error))
            report.last_error = f"{type(error).__name__}: {error}"
            return
        report.last_error = ""
        if look.done:
            report.done += look.done
            report.last_done = now
            tell = log.debug if self._routine else log.info
            tell("loop_did", loop=report.name, count=look.done)
        if look.next_due is not None:
            self.expect(look.next_due)

    async def _sleep(self) -> None:
        """Sleep until something is due, or the period is over."""
        end = time.monotonic() + self.report.period
        await asyncio.sleep(_SHORTEST_SLEEP)
        while True:
            self._wake.clear()
            left = end - time.monotonic()
            if self._next is not None and self._term.held:
                left = min(left, (self._next - self._term.now()) / _MICROS)
            if left <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
