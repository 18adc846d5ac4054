"""A process that starts a server, and sees to it that the server never outlives who wanted it.

Run as a script: `keeper.py SPECIFICATION`, in JSON the fields of `Specification`. Each line on its
standard input names a signal for the server. When the input ends, its owner is gone, perhaps by
`kill -9`: the server is shut down, and what it kept in `discard` deleted. Ends when the server and
all its children have.

Why a process: the kernel's own means, the parent-death signal, comes when the *thread* that started
the child ends. And why the server's parent: a child that has ended keeps its number until it was
waited for, so that no signal can ever hit a stranger.

A server that is killed leaves its children. They should notice and end, but PostgreSQL 13's
autovacuum launcher can take 20 s, and until then no new server starts. So the keeper adopts them,
and ends them.

Stands alone, without the rest of this package: it is started with nothing on its path.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict


class Specification(TypedDict):
    """What to run, as whom, and what nobody else would tidy away."""

    command: list[str]
    identity: dict[str, Any]
    discard: str | None


def main() -> None:
    """Keep one server."""
    specification: Specification = json.loads(sys.argv[1])
    _adopt_orphans()
    server = subprocess.Popen(
        specification["command"], stdin=subprocess.DEVNULL, **specification["identity"]
    )
    threading.Thread(target=_obey, args=(server, specification["discard"]), daemon=True).start()
    code = server.wait()
    _end_orphans()
    with _tidying:
        sys.exit(abs(code))


def _obey(server: subprocess.Popen[bytes], discard: str | None) -> None:
    for line in sys.stdin:
        server.send_signal(signal.Signals[line.strip()])
    with _tidying:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        if discard is not None:
            shutil.rmtree(discard, ignore_errors=True)


_tidying = threading.Lock()
"""Held while tidying up after an owner that is gone, so that the process does not end before."""


def _adopt_orphans() -> None:
    """Become the parent of the server's children when the server dies. Only Linux can do this."""
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def _end_orphans() -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    # Until there is no child left, or no such file where the system is another.
    with suppress(ChildProcessError, FileNotFoundError):
        while True:
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGKILL)
            os.wait()


if __name__ == "__main__":
    main()
