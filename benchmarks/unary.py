"""Driving unary SetState: as many calls in flight as asked for, each driver with a run of its own.

h2load (Debian's nghttp2-client) drives where it is installed: written in C, it leaves the machine to
the server. Else Python clients do, and the results say so: they take more of the machine than the
server, so that an echo looks slower than it is, and ratios to it better.

h2load can repeat one request only, so there is a process for each run. It does not look at gRPC's
status: whoever calls reads back from the server that the calls were accepted.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import ChildFailed, together
from benchmarks.requests import SET_STATE, set_state

MOST_DRIVERS = 64
"""More in flight than this is several calls at once on each run."""


@dataclass(frozen=True, slots=True)
class Driven:
    """What clients saw: calls that were answered well by what they could tell, and the others."""

    answered: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.answered / self.seconds


def driver_name() -> str:
    """Name what drives, for the results."""
    return "h2load" if shutil.which("h2load") else "Python clients"


def drive(target: str, run_ids: Sequence[str], in_flight: int, seconds: float) -> Driven:
    """Call SetState for some time, `in_flight` at once spread over the runs."""
    run_ids = run_ids[: min(in_flight, MOST_DRIVERS)]
    streams = in_flight // len(run_ids)
    if shutil.which("h2load"):
        return _h2load(target, run_ids, streams, seconds)
    return _python(target, run_ids, streams, seconds)


# --- h2load ---------------------------------------------------------------------------------------

_FINISHED = re.compile(r"finished in ([\d.]+)(us|ms|s),")
_REQUESTS = re.compile(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def _h2load(target: str, run_ids: Sequence[str], streams: int, seconds: float) -> Driven:
    with TemporaryDirectory(prefix="interlock-bench-") as folder:
        commands = []
        for number, run_id in enumerate(run_ids):
            body = set_state(run_id)
            path = Path(folder) / str(number)
            path.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
            commands.append(
                [
                    *("h2load", "--clients=1", f"--max-concurrent-streams={streams}"),
                    *(f"--duration={seconds:g}", f"--data={path}"),
                    *("--header=content-type: application/grpc", "--header=te: trailers"),
                    f"http://{target}{SET_STATE}",
                ]
            )
        processes, starts = [], []
        for command in commands:
            starts.append(time.monotonic())
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        said = [process.communicate()[0] for process in processes]
    answered = failed = 0
    last = 0.0
    for start, words in zip(starts, said, strict=True):
        finished, requests = _FINISHED.search(words), _REQUESTS.search(words)
        if finished is None or requests is None:
            raise ChildFailed(f"h2load said:\n{words}")
        last = max(last, start + float(finished[1]) * _UNITS[finished[2]])
        _, good, *bad = map(int, requests.groups())
        answered += good
        failed += sum(bad)
    return Driven(answered, failed, last - starts[0])


# --- Python clients -------------------------------------------------------------------------------

_PYTHON_PROCESSES = 2


def _python(target: str, run_ids: Sequence[str], streams: int, seconds: float) -> Driven:
    shares = [run_ids[i::_PYTHON_PROCESSES] for i in range(_PYTHON_PROCESSES)]
    jobs = [(target, share, streams, seconds) for share in shares if share]
    parts, taken = together(_python_client, jobs)
    return Driven(sum(p.answered for p in parts), sum(p.failed for p in parts), taken)


def _python_client(
    job: tuple[str, Sequence[str], int, float], ready: Callable[[], None]
) -> tuple[Driven, float]:
    import uvloop

    return uvloop.run(_call(*job, ready))


async def _call(
    target: str,
    run_ids: Sequence[str],
    streams: int,
    seconds: float,
    ready: Callable[[], None],
) -> tuple[Driven, float]:
    import grpc

    answered = failed = 0
    async with grpc.aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        call = channel.unary_unary(SET_STATE)
        await asyncio.to_thread(ready)
        began = time.monotonic()

        async def worker(body: bytes) -> None:
            nonlocal answered, failed
            while time.monotonic() < began + seconds:
                try:
                    await call(body)
                    answered += 1
                except grpc.RpcError:
                    failed += 1

        await asyncio.gather(
            *(worker(set_state(run_id)) for run_id in run_ids for _ in range(streams))
        )
    ended = time.monotonic()
    return Driven(answered, failed, ended - began), ended
