"""A worker: plays the scripts of task runs, several at a time, and writes their logs."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from interlock import AsyncClient, InterlockHandler, uuid7

from interlock_server.replay.proposer import Proposer, UnexpectedDecisionError
from interlock_server.replay.script import Line, Move, Script, Step

TIMEOUT = 120.0
"""Seconds for which a call is tried again: a server may be restarted under a replay."""

_PORTIONS = 10
"""In how many portions a task writes its lines over the time that it runs."""

_UNBOUNDED = 2**62
"""The queue of the log handler need not be bounded: the whole trace is in memory as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a worker has to know. It can be written as JSON."""

    trace: str
    """The path of the trace file."""
    target: str
    """Where the server is."""
    flow_run_id: str
    time_scale: float
    """Seconds to wait for each second of the trace."""
    logs: bool
    """Whether log lines are written."""
    name: str = "worker"


class Worker:
    """What one process of the fleet has: a client, which others may use too, and a log handler."""

    def __init__(self, client: AsyncClient, settings: Settings) -> None:
        """Make a worker; nothing is sent yet."""
        self._proposer = Proposer(client)
        self._flow_run_id = settings.flow_run_id
        self._time_scale = settings.time_scale
        self._handler: InterlockHandler | None = None
        if settings.logs:
            self._handler = InterlockHandler(
                settings.target, max_queue_records=_UNBOUNDED, max_queue_bytes=_UNBOUNDED
            )

    async def submit(self, script: Script, run_id: str) -> str:
        """Propose that a task run is submitted; answer what went otherwise than it should."""
        assert script.submission is not None
        return await self._make(script.submission, run_id, "scheduler")

    async def play(self, script: Script, run_id: str, name: str) -> str:
        """Play a script to its end; answer what went otherwise than it should, else nothing.

        Args:
            script: what to play; its submission is done.
            run_id: the task run.
            name: of the worker that proposes its states.

        Raises:
            InterlockError: the server could not be asked.
        """
        for step in script.steps:
            await self._wait(step, run_id)
            if step.move is not None:
                problem = await self._make(step.move, run_id, name)
                if problem:
                    return problem
                if step.move.says is not None:
                    self.write([step.move.says], run_id)
        return ""

    def write(self, lines: Iterable[Line], task_run_id: str = "") -> None:
        """Write log lines of a task run, or of the flow run itself."""
        if self._handler is None:
            return
        for line in lines:
            record = logging.makeLogRecord(
                {"name": "replay", "levelno": line.level, "msg": line.text}
            )
            record.flow_run_id, record.task_run_id = self._flow_run_id, task_run_id or None
            self._handler.handle(record)

    async def finish(self) -> int:
        """Deliver all log lines, and say that there are no more; answer how many were not taken."""
        if self._handler is None:
            return 0
        self._handler.end_run(self._flow_run_id)
        await asyncio.to_thread(self._handler.close, TIMEOUT)
        statistics = self._handler.statistics
        return statistics.waiting + statistics.refused + statistics.dropped

    async def _make(self, move: Move, run_id: str, name: str) -> str:
        try:
            await self._proposer.make(move, run_id, uuid7(), name)
        except UnexpectedDecisionError as problem:
            return str(problem)
        return ""

    async def _wait(self, step: Step, run_id: str) -> None:
        """Let the step's time pass, and write its lines over that time."""
        wait = step.wait * self._time_scale
        if wait <= 0 or not step.lines:
            self.write(step.lines, run_id)
            if wait > 0:
                await asyncio.sleep(wait)
            return
        size = -(-len(step.lines) // _PORTIONS)
        portions = [step.lines[at : at + size] for at in range(0, len(step.lines), size)]
        for portion in portions:
            await asyncio.sleep(wait / len(portions))
            self.write(portion, run_id)
