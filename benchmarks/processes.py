"""Processes to measure: servers of their own, and clients that begin together."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BrokenBarrierError
from types import MappingProxyType
from typing import Any, TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")

_REPOSITORY = Path(__file__).parents[1]
_STOP_TIMEOUT = 30.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

PREPARE_TIMEOUT = 120.0
"""Seconds that clients may take to prepare: they make what they will send beforehand."""


class ChildFailed(Exception):
    """A process that ended, or said something else than was awaited."""


def cpu_seconds(pid: int) -> float:
    """Read how much processor time a process has used, its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Read how much memory a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ChildFailed(f"Process {pid} has no memory of its own any more.")


class _Child:
    """A program with its input and output at hand, that ends with its owner."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                bufsize=1,
                cwd=_REPOSITORY,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")

    def hear(self) -> str:
        """Read a line. Raises ChildFailed where there is none any more."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ChildFailed(f"A process has ended:\n{self.log}")
        return line.rstrip("\n")

    def end(self) -> None:
        """Tell it to end, and wait until it has."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ChildFailed(f"A process does not stop:\n{self.log}") from None
        finally:
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()


class Server:
    """A server that runs, and where it listens."""

    def __init__(self, child: _Child, port: int) -> None:
        self._child = child
        self.port = port

    @property
    def target(self) -> str:
        """The address, as gRPC calls it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    def cpu_seconds(self) -> float:
        """Read how much processor time it has used so far."""
        return cpu_seconds(self.pid)

    def failed_calls(self) -> int:
        """Count the calls that ended with an error so far: Interlock logs each."""
        return self._child.log.count("call_failed")

    def counts(self) -> dict[str, float]:
        """Ask what it has done so far; see `server_main` and `echo`."""
        self._child.say("counts")
        counts: dict[str, float] = json.loads(self._child.hear())
        return counts


@contextmanager
def echo_server() -> Iterator[Server]:
    """Run a server that does nothing; see `echo`."""
    with TemporaryDirectory(prefix="interlock-bench-") as home:
        command = [sys.executable, "-m", "benchmarks.echo"]
        child = _Child(command, _environment(Path(home)), Path(home) / "log")
        try:
            yield Server(child, int(child.hear()))
        finally:
            child.process.stdin.close()  # type: ignore[union-attr]
            child.process.wait(_STOP_TIMEOUT)
            child.process.stdout.close()  # type: ignore[union-attr]


@contextmanager
def interlock_server(
    database_url: str,
    *,
    commit_delay: float = 0.0,
    count_statements: bool = False,
    loops: bool = True,
) -> Iterator[Server]:
    """Run Interlock with instruments; see `server_main`."""
    command = [sys.executable, "-m", "benchmarks.server_main"]
    if commit_delay:
        command.append(f"--commit-delay={commit_delay}")
    if count_statements:
        command.append("--count-statements")
    environment = {} if loops else {"INTERLOCK_LOOPS": "false"}
    with _started([*command, "--"], database_url, environment) as server:
        yield server


@contextmanager
def plain_interlock_server(database_url: str) -> Iterator[Server]:
    """Run Interlock without instruments; like all servers here it ends with this process."""
    command = [sys.executable, "-m", "tests.support.server_main"]
    with _started(command, database_url) as server:
        yield server


@contextmanager
def _started(
    command: Sequence[str], database_url: str, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Server]:
    with TemporaryDirectory(prefix="interlock-bench-") as home:
        arguments = ["server", "start", "--port", "0", "--database", database_url]
        environment = {**_environment(Path(home)), **settings}
        child = _Child([*command, *arguments], environment, Path(home) / "log")
        try:
            line = ""
            while " listens on " not in line:
                line = child.hear()
            server = Server(child, int(line.rpartition(":")[2]))
            while not line.startswith("Stop it"):
                line = child.hear()
            yield server
        finally:
            child.end()


def _environment(home: Path) -> dict[str, str]:
    """An environment in which nothing configures a server but its arguments."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("INTERLOCK_")}
    return kept | {"INTERLOCK_HOME": str(home)}


def together(
    work: Callable[[Job, Callable[[], None]], tuple[Done, float]], jobs: Sequence[Job]
) -> tuple[list[Done], float]:
    """Run work in a process for each job; answer what each made of it, and the seconds it took.

    `work` prepares, calls its second argument, which returns when all are prepared, and begins. It
    answers its result, and the time (of `time.monotonic`) at which it was through. The seconds are
    those from the beginning to the end of the last one.
    """
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(jobs) + 1)
    pipes: list[Connection[Any, Any]] = []
    children = []
    for job in jobs:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(work, job, start, theirs), daemon=True)
        child.start()
        theirs.close()
        pipes.append(ours)
        children.append(child)
    try:
        start.wait(PREPARE_TIMEOUT)
        began = time.monotonic()
        results = [pipe.recv() for pipe in pipes]
    except (BrokenBarrierError, EOFError):
        raise ChildFailed("A client has failed; it has said why above.") from None
    finally:
        for child in children:
            child.join(_STOP_TIMEOUT)
            if child.is_alive():
                child.kill()
    return [result for result, _ in results], max(ended for _, ended in results) - began


def _work(work: Any, job: Any, start: Any, pipe: Connection[Any, Any]) -> None:
    try:
        pipe.send(work(job, lambda: start.wait(PREPARE_TIMEOUT)))
    except BaseException:
        start.abort()
        raise
