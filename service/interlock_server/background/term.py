"""Keeps this server's term of the loops: of several servers on one database one runs them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from interlock_server.core.terms import EndTerm, KeepTerm, Session
from interlock_server.rules.states import Micros
from interlock_server.storage.errors import StorageError
from interlock_server.storage.pipeline import Pipeline

_MICROS = 1_000_000

_LAST_WORD = 0.5
"""Seconds that a server which stops takes to say that it does."""

log = structlog.get_logger(__name__)


class TermKeeper:
    """Ticks, and knows from each tick whether the term is ours, and the database's clock."""

    def __init__(self, pipeline: Pipeline, tick: float, on_gain: Callable[[], None]) -> None:
        """`tick`: in seconds; `on_gain`: called when the term becomes ours, or time was lost."""
        self.session = Session.begin(round(tick * _MICROS))
        self._pipeline = pipeline
        self._tick = tick
        self._on_gain = on_gain
        self._held = False
        self._ticked = 0.0
        self._ahead: Micros = 0
        """By how much the database's clock is ahead of this process's monotonic one."""
        self._task: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Whether the term is ours, as far as this process can know."""
        return self._held and time.monotonic() - self._ticked < 2 * self._tick

    def now(self) -> Micros:
        """Tell the database's clock, about: as of the last tick, and gone on since."""
        return self._ahead + round(time.monotonic() * _MICROS)

    def start(self) -> None:
        """Tick from now on. May be called twice."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="term of the loops")

    async def stop(self) -> None:
        """Tick no more, and give up the term. May be called twice, and before `start`."""
        task, self._task = self._task, None
        held, self._held = self._held, False
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if held:
            # Where that can not be said, the term ends by itself.
            with suppress(TimeoutError, StorageError):
                ending = self._pipeline.submit(EndTerm(self.session))
                await asyncio.wait_for(ending, _LAST_WORD)

    async def _run(self) -> None:
        failed = False
        while True:
            try:
                await self._keep()
                failed = False
            except Exception as error:
                if not failed:
                    log.warning("term_not_kept", error=repr(error))
                failed = True
            # Those who wait for the term do not all ask at once.
            pause = self._tick if self._held else self._tick * random.uniform(0.75, 1.25)
            await asyncio.sleep(pause)

    async def _keep(self) -> None:
        turn = await self._pipeline.submit(KeepTerm(self.session), self._tick)
        self._ticked = time.monotonic()
        self._ahead = turn.now - round(self._ticked * _MICROS)
        gained = turn.held and (turn.began_again or not self._held)
        self._held = turn.held
        if gained:
            log.info("loops_run_here", time_was_lost=turn.began_again)
            self._on_gain()
