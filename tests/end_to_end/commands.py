"""The `interlock` command as a user types it: a process with its output and its exit code."""

import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_COMMAND = str(Path(sys.executable).with_name("interlock"))

TIMEOUT = 60.0
"""Seconds. A command takes one; what does not end by itself is a failure."""

Ended = subprocess.CompletedProcess[str]


def environment(**variables: str) -> dict[str, str]:
    """An environment without settings of Interlock other than those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    # Not the home folder of whoever runs the tests: its profiles would count.
    nobodys = {"INTERLOCK_HOME": "/nonexistent"}
    return kept | nobodys | {"TERM": "xterm-256color"} | variables


def interlock(
    *words: str | Path, variables: Mapping[str, str] | None = None, answer: str = ""
) -> Ended:
    """Run the command to its end; `answer` is what the user types."""
    return subprocess.run(
        [_COMMAND, *map(str, words)],
        input=answer,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environment(**(variables or {})),
    )


def start_interlock(
    *words: str | Path, variables: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start the command; whoever started it waits for it."""
    return subprocess.Popen(
        [_COMMAND, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**(variables or {})),
    )


def interlock_on_terminal(*words: str | Path, columns: int = 160) -> str:
    """Run the command on a terminal of its own; answer what it has written there."""
    code, written = on_terminal(
        [_COMMAND, *map(str, words)], environment=environment(COLUMNS=str(columns))
    )
    assert code == 0, written
    return written


def on_terminal(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    answer: str = "",
    folder: Path | None = None,
) -> tuple[int, str]:
    """Run a command on a terminal of its own; answer its exit code, and what it has written.

    `answer` is a line that the user types.
    """
    ours, its = pty.openpty()
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=environment, cwd=folder
    )
    os.close(its)
    if answer:
        os.write(ours, f"{answer}\n".encode())
    written = b""
    try:
        while part := os.read(ours, 65_536):
            written += part
    except OSError:
        pass  # Linux says EIO when the last one has closed the terminal.
    finally:
        os.close(ours)
    return process.wait(TIMEOUT), written.decode().replace("\r\n", "\n")
