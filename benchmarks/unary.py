"""Driving unary SetState: as many calls in flight as asked for, each driver with a run of its own.

h2load (Debian's nghttp2-client) drives where it is installed: written in C, it leaves the machine
to the server. Else Python clients do, and the results say so: they take more of the machine than
the server, so that an echo looks slower than it is, and ratios to it better.

h2load can repeat one request only, so there is a process for each run. It does not look at gRPC's
status: whoever drives asks the server how many calls it has accepted, and how many failed. What is
timed is a window in the middle, in which all drivers run, by the server's own counts and clock: a
driver's clock is late on a busy machine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import ChildFailed
from benchmarks.requests import SET_STATE, set_state
from benchmarks.scale import Scale

MOST_DRIVERS = 64
"""More in flight than this is several calls at once on each run."""

_COOL_DOWN = 0.3
"""Seconds that drivers go on behind the window."""

_PYTHON_CLIENTS = 2


@dataclass(frozen=True, slots=True)
class Driven:
    """How many calls were answered and failed by what clients could tell, window or not."""

    answered: int
    failed: int


def driver_name() -> str:
    """Name what drives, for the results."""
    return "h2load" if shutil.which("h2load") else "Python clients"


def drive(
    target: str,
    run_ids: Sequence[str],
    in_flight: int,
    window: AbstractContextManager[None],
    scale: Scale,
) -> Driven:
    """Call SetState, `in_flight` at once spread over the runs, with `window` open for a while."""
    run_ids = run_ids[: min(in_flight, MOST_DRIVERS)]
    streams = in_flight // len(run_ids)
    duration = scale.warm_up + scale.seconds + _COOL_DOWN
    with TemporaryDirectory(prefix="interlock-bench-") as folder:
        if shutil.which("h2load"):
            commands = _h2load(target, run_ids, streams, duration, Path(folder))
        else:
            commands = _python(target, run_ids, streams, duration)
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands
        ]
        time.sleep(scale.warm_up)
        with window:
            time.sleep(scale.seconds)
        answers = [_answer(process.communicate()[0]) for process in processes]
    return Driven(sum(a.answered for a in answers), sum(a.failed for a in answers))


def _h2load(
    target: str, run_ids: Sequence[str], streams: int, duration: float, folder: Path
) -> list[list[str]]:
    commands = []
    for number, run_id in enumerate(run_ids):
        body = set_state(run_id)
        path = folder / str(number)
        path.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
        commands.append(
            [
                *("h2load", "--clients=1", f"--max-concurrent-streams={streams}"),
                *(f"--duration={round(duration * 1000)}ms", f"--data={path}"),
                *("--header=content-type: application/grpc", "--header=te: trailers"),
                f"http://{target}{SET_STATE}",
            ]
        )
    return commands


def _python(target: str, run_ids: Sequence[str], streams: int, duration: float) -> list[list[str]]:
    shares = [run_ids[start::_PYTHON_CLIENTS] for start in range(_PYTHON_CLIENTS)]
    command = [sys.executable, "-m", "benchmarks.unary_client", target, f"{streams}", f"{duration}"]
    return [[*command, *share] for share in shares if share]


_DONE = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")


def _answer(words: str) -> Driven:
    done = _DONE.search(words)
    if done is None:
        raise ChildFailed(f"A driver said:\n{words}")
    answered, *failed = map(int, done.groups())
    return Driven(answered, sum(failed))
