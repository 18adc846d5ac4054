"""The demo's own server: the real `interlock server start`, on SQLite, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

_START_TIMEOUT = 30.0
"""Seconds. A start takes one; on a busy machine several."""

_STOP_TIMEOUT = 30.0
"""Seconds. The server itself gives running calls 15."""

_POLL = 0.02
"""Seconds between two looks at a server that starts."""

_LISTENS = re.compile(r"listens on (\S+:\d+)")


class CanNotStartError(Exception):
    """The server does not start; the message says why, and what to do."""


class DemoServer:
    """A server on a free port, its database and log in a folder. Leave the block to stop it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "interlock.db"
        self.database_url = f"sqlite+aiosqlite:///{self._file}"
        self.log_file = folder / "server.log"
        self.target = ""
        """Where it listens, once it does."""
        self._process: subprocess.Popen[bytes] | None = None
        # Not the folder itself: the path of a socket must be short.
        self._home = TemporaryDirectory(prefix="interlock-")

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self) -> None:
        self.log_file.unlink(missing_ok=True)
        if self._file.exists():
            self._upgrade()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("start", "--host", "127.0.0.1", "--port", "0"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                # Ctrl-C is for the demo, which stops the server after the workers.
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while (found := _LISTENS.search(said := self.log_file.read_text(errors="replace"))) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise CanNotStartError(
                    f"The server does not start. It said:\n\n{said.strip() or '(nothing)'}\n\n"
                    "If it is about the database, try another folder: --folder FOLDER."
                )
            time.sleep(_POLL)
        self.target = found[1]

    def _upgrade(self) -> None:
        """Bring the database of an earlier demo to the schema of this version."""
        upgrade = self._command("database", "upgrade", "-y")
        done = subprocess.run(
            upgrade, capture_output=True, text=True, env=self._environment(), check=False
        )
        self.log_file.write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            raise CanNotStartError(
                f"The database of an earlier demo can not be used:\n\n{done.stderr.strip()}\n\n"
                f"Delete {self._file}, or name another folder: --folder FOLDER."
            )

    def _command(self, *arguments: str) -> list[str]:
        run = "from interlock_server.cli.main import main; main(prog_name='interlock')"
        return [sys.executable, "-c", run, "server", *arguments, "--database", self.database_url]

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
        return kept | {"INTERLOCK_HOME": self._home.name}

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._home.cleanup()
