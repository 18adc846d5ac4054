"""Where workers live: in this process, or in processes of their own.

A pool has places, each for one task at a time. `play` waits for a free place; who asks first is
served first.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol, Self

from interlock_server.replay.script import Script
from interlock_server.replay.worker import Settings, Worker

_END_TIMEOUT = 5.0
"""Seconds that a worker process has to end once its input has."""


class Pool(Protocol):
    """A fleet of workers."""

    @property
    def busy(self) -> int:
        """How many tasks are being played."""
        ...

    async def play(self, task_id: str, run_id: str) -> str:
        """Play a task's script; answer what went otherwise than it should, else nothing."""
        ...

    async def finish(self) -> int:
        """Deliver all logs; answer how many lines could not be. Nothing is played after it."""
        ...


class WorkerProcessError(Exception):
    """A worker process ended before its work."""


class LocalPool:
    """Workers that are coroutines of this process."""

    def __init__(self, worker: Worker, scripts: dict[str, Script], places: int) -> None:
        self._worker = worker
        self._scripts = scripts
        self._places = places
        self._names = deque(f"worker-{number}" for number in range(1, places + 1))
        self._free = asyncio.Semaphore(places)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    @property
    def busy(self) -> int:
        """How many tasks are being played."""
        return self._places - len(self._names)

    async def play(self, task_id: str, run_id: str) -> str:
        """Play a task's script."""
        async with self._free:
            name = self._names.popleft()
            try:
                return await self._worker.play(self._scripts[task_id], run_id, name)
            finally:
                self._names.append(name)

    async def finish(self) -> int:
        """Nothing is left to do: the worker belongs to whoever made it."""
        return 0


class ProcessPool:
    """Workers that are processes of their own, which read the trace and play its scripts.

    They are told what to do in lines of JSON on their standard input, and answer in lines of JSON
    on their standard output: see `worker_process`. When their input ends, they end.
    """

    def __init__(self, processes: int, places: int, settings: Settings) -> None:
        """Prepare the processes, each with its share of the places; `async with` starts them."""
        shares = [
            places // processes + (number < places % processes) for number in range(processes)
        ]
        self._places = places
        self._free = asyncio.Semaphore(places)
        self._members = [
            _Member(replace(settings, name=f"worker-{number}"), share)
            for number, share in enumerate(shares, 1)
        ]

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(member.start() for member in self._members))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for member in self._members:
            await member.end()

    @property
    def busy(self) -> int:
        """How many tasks are being played."""
        return self._places - sum(member.free for member in self._members)

    async def play(self, task_id: str, run_id: str) -> str:
        """Play a task's script in the process that has the most free places."""
        async with self._free:
            return await max(self._members, key=lambda member: member.free).play(task_id, run_id)

    async def finish(self) -> int:
        """Deliver all logs."""
        return sum(await asyncio.gather(*(member.finish() for member in self._members)))


class _Member:
    """One worker process, as its owner sees it."""

    def __init__(self, settings: Settings, places: int) -> None:
        self.free = places
        self._settings = settings
        self._process: Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._playing: dict[str, asyncio.Future[str]] = {}
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[bool] = loop.create_future()
        self._finished: asyncio.Future[int] = loop.create_future()

    async def start(self) -> None:
        """Start the process, and wait until it can play."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "interlock_server.replay.worker_process"),
            stdin=PIPE,
            stdout=PIPE,
            # A Ctrl-C is for the owner; this process ends with its input.
            start_new_session=True,
        )
        self._listening = asyncio.create_task(self._listen(self._process))
        self._tell(asdict(self._settings))
        await self._ready

    async def play(self, task_id: str, run_id: str) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._playing[run_id] = answer
        self.free -= 1
        try:
            self._tell({"play": task_id, "run_id": run_id})
            return await answer
        finally:
            del self._playing[run_id]
            self.free += 1

    async def finish(self) -> int:
        self._tell({"finish": True})
        return await self._finished

    async def end(self) -> None:
        """End the process's input, and wait until the process has ended."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_TIMEOUT)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._listening is not None:
            await self._listening

    def _tell(self, message: Mapping[str, object]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if self._finished.done():
            # Raises what ended the process.
            self._finished.result()
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            message = json.loads(line)
            if "ready" in message:
                self._ready.set_result(True)
            elif "undelivered" in message:
                self._finished.set_result(message["undelivered"])
            elif "error" in message:
                self._playing[message["run_id"]].set_exception(
                    WorkerProcessError(f"{self._settings.name}: {message['error']}")
                )
            else:
                self._playing[message["run_id"]].set_result(message["problem"])
        self._break_off(WorkerProcessError(f"{self._settings.name} has ended before its work"))

    def _break_off(self, error: WorkerProcessError) -> None:
        answers: list[asyncio.Future[Any]] = [*self._playing.values(), self._ready, self._finished]
        for answer in answers:
            if not answer.done():
                answer.set_exception(error)
                # Whether anybody waits for it or not.
                answer.exception()
