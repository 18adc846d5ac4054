"""A process that starts a server, and sees to it that the server never outlives who wanted it.

Run as a script: `keeper.py SPECIFICATION`, in JSON the fields of `Specification`. Each line on its
standard input names a signal for the server. When the input ends, its owner is gone, perhaps by
`kill -9`: the server is shut down, and what it kept in `discard` deleted. Ends when the server
does.

Why a process: the kernel's own means, the parent-death signal, comes when the *thread* that started
the child ends. And why the server's parent: a child that has ended keeps its number until it was
waited for, so that no signal can ever hit a stranger.

Stands alone, without the rest of this package: it is started with nothing on its path.
"""

import json
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any, TypedDict


class Specification(TypedDict):
    """What to run, as whom, and what nobody else would tidy away."""

    command: list[str]
    identity: dict[str, Any]
    discard: str | None


def main() -> None:
    """Keep one server."""
    specification: Specification = json.loads(sys.argv[1])
    server = subprocess.Popen(
        specification["command"], stdin=subprocess.DEVNULL, **specification["identity"]
    )
    threading.Thread(target=_obey, args=(server, specification["discard"]), daemon=True).start()
    code = server.wait()
    with _orphan:
        sys.exit(abs(code))


def _obey(server: subprocess.Popen[bytes], discard: str | None) -> None:
    for line in sys.stdin:
        server.send_signal(signal.Signals[line.strip()])
    with _orphan:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        if discard is not None:
            shutil.rmtree(discard, ignore_errors=True)


_orphan = threading.Lock()
"""Held while tidying up after an owner that is gone, so that the process does not end before."""


if __name__ == "__main__":
    main()
