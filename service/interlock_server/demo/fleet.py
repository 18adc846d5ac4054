"""The worker processes, seen from the one that starts them: each gets packages, one at a time.

Spawned, not forked: gRPC and fork do not go together. This release has no work pools; when it has,
they take the place of this file.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

from interlock_server.demo.packages import Package
from interlock_server.demo.witness import Seen
from interlock_server.demo.worker import Assignment, run_worker
from interlock_server.demo.workflow import PackageIndex

_PATIENCE = 10.0
"""Seconds that a worker may take to end once it is told to."""


class WorkFailedError(Exception):
    """Some packages could not be indexed, or a worker process has died."""


class Fleet:
    """Some worker processes. Leave the block to end them."""

    def __init__(self, target: str, flow_run_id: str, workers: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, SpawnProcess] = {}
        self._assignments = [
            Assignment(target, flow_run_id, f"worker-{number}") for number in range(1, workers + 1)
        ]

    def __enter__(self) -> Self:
        try:
            for assignment in self._assignments:
                ours, theirs = self._context.Pipe()
                process = self._context.Process(
                    target=run_worker, args=(assignment, theirs), name=assignment.worker
                )
                # A worker takes Ctrl-C once it can end in order: not while it is being imported.
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                try:
                    process.start()
                finally:
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                # So that the pipe ends when the worker does.
                theirs.close()
                self._processes[ours] = process
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def index(self, packages: Iterable[Package]) -> tuple[list[PackageIndex], list[Seen]]:
        """Have all packages indexed; answer what was found, and what each worker has reported.

        Raises WorkFailedError.
        """
        todo, indexes, seen, failures = deque(packages), list[PackageIndex](), list[Seen](), []
        for pipe in self._processes:
            self._hand_out(pipe, todo)
        working = set(self._processes)
        while working:
            for ready in wait(working):
                assert isinstance(ready, Connection)
                answer = self._receive(ready)
                if isinstance(answer, Seen):
                    seen.append(answer)
                    working.discard(ready)
                    continue
                if isinstance(answer, PackageIndex):
                    indexes.append(answer)
                else:
                    failures.append(answer)
                self._hand_out(ready, todo)
        if failures:
            raise WorkFailedError("These packages could not be indexed: " + "; ".join(failures))
        return indexes, seen

    def _hand_out(self, pipe: Connection, todo: deque[Package]) -> None:
        try:
            pipe.send(todo.popleft() if todo else None)
        except BrokenPipeError:
            raise self._death(pipe) from None

    def _receive(self, pipe: Connection) -> PackageIndex | Seen | str:
        try:
            answer: PackageIndex | Seen | str = pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._death(pipe) from None
        return answer

    def _death(self, pipe: Connection) -> WorkFailedError:
        process = self._processes[pipe]
        process.join(_PATIENCE)
        return WorkFailedError(f"{process.name} has died (exit code {process.exitcode})")

    def _end(self) -> None:
        for pipe in self._processes:
            pipe.close()
        for process in self._processes.values():
            process.join(_PATIENCE)
            if process.is_alive():
                process.terminate()
                process.join()
            with contextlib.suppress(ValueError):
                process.close()
        self._processes.clear()
