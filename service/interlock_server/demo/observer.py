"""Watches a run from outside while it goes on: asks for its task runs, and follows its log."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from interlock import Client, InterlockError
from interlock.v1 import LogRecord, TaskRun, TaskRunFilter

_INTERVAL = 0.4
"""Seconds between two looks at the task runs."""

_LAST_LINES = 8
_LAST_CHANGES = 6
_LAST_SECONDS = 2.0
"""The time over which lines a second are counted."""

_DRAIN = 5.0
"""Seconds to wait for the last lines when the run has ended."""


class Observer:
    """What is known of a run so far. It has a client of its own, and threads that end with it."""

    def __init__(self, target: str, flow_run_id: str, on_change: Callable[[str], None]) -> None:
        """Prepare to watch; `on_change` is told each change of a state that is worth a line."""
        self.lines = 0
        """How many lines of the log have arrived."""
        self.last_lines: deque[LogRecord] = deque(maxlen=_LAST_LINES)
        self.last_changes: deque[str] = deque(maxlen=_LAST_CHANGES)
        self.runs: dict[str, TaskRun] = {}
        self.trouble = ""
        """Why nothing more is seen, if that is so."""
        self._flow_run_id = flow_run_id
        self._on_change = on_change
        self._client = Client(target, timeout=5)
        self._arrivals: deque[float] = deque(maxlen=10_000)
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"demo-{name}", daemon=True)
            for name, work in (("states", self._watch_states), ("logs", self._follow_log))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            # After a failure nobody waits for last lines.
            thread.join(_DRAIN if error is None else 0.5)
        self._client.close()

    def states(self) -> Counter[str]:
        """Answer how many task runs are in each state."""
        return Counter(run.state.name for run in list(self.runs.values()))

    def lines_per_second(self) -> float:
        """Answer how many lines arrived a second, of late."""
        since = time.monotonic() - _LAST_SECONDS
        return sum(moment > since for moment in list(self._arrivals)) / _LAST_SECONDS

    def _watch_states(self) -> None:
        wanted = TaskRunFilter(flow_run_ids=[self._flow_run_id])
        last = False
        while not last:
            last = self._ending.wait(_INTERVAL)
            try:
                runs = {run.id: run for run in self._client.list_task_runs(wanted)}
            except (InterlockError, ValueError) as error:
                self._say_trouble(error)
                return
            for run_id, run in runs.items():
                self._note(self.runs.get(run_id), run)
            self.runs = runs

    def _note(self, before: TaskRun | None, run: TaskRun) -> None:
        if before is not None and before.state.id == run.state.id:
            return
        earlier = before.state.name if before is not None else "new"
        change = f"{run.name}: {earlier} -> {run.state.name}"
        if run.state.message:
            change += f" ({run.state.message})"
        self.last_changes.append(change)
        if run.state.message:
            self._on_change(change)

    def _follow_log(self) -> None:
        try:
            for record in self._client.tail_logs(self._flow_run_id):
                self.lines += 1
                self.last_lines.append(record)
                self._arrivals.append(time.monotonic())
        except (InterlockError, ValueError) as error:
            self._say_trouble(error)

    def _say_trouble(self, error: Exception) -> None:
        # A client that is closed while it waits has done nothing wrong.
        if not self._ending.is_set():
            self.trouble = str(error)
            self._on_change(f"the display can not go on: {error}")
