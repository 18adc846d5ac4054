"""The progress display: a live one in a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from interlock_server.demo.observer import Observer

_PLAIN_INTERVAL = 2.0
"""Seconds between two plain lines."""

STYLES = {
    "Completed": "green",
    "Running": "cyan",
    "Retrying": "cyan",
    "AwaitingRetry": "yellow",
    "Failed": "red",
    "Crashed": "red",
    "Pending": "dim",
}


@contextmanager
def progress(console: Console, target: str, flow_run_id: str, tasks: int) -> Iterator[None]:
    """Show how a run of so many tasks goes on, until the block ends."""
    plain = not console.is_terminal

    def on_change(change: str) -> None:
        if plain:
            console.print(f"  {change}", markup=False, highlight=False, soft_wrap=True)

    observer = Observer(target, flow_run_id, on_change)
    if plain:
        with _plain_lines(console, observer, tasks), observer:
            yield
        return
    began = time.monotonic()
    with (
        Live(
            get_renderable=lambda: render(observer, tasks, time.monotonic() - began),
            console=console,
            refresh_per_second=5,
            transient=True,
        ),
        observer,
    ):
        yield


@contextmanager
def _plain_lines(console: Console, observer: Observer, tasks: int) -> Iterator[None]:
    ending = threading.Event()

    def work() -> None:
        while not ending.wait(_PLAIN_INTERVAL):
            console.print(plain_line(observer, tasks), markup=False, highlight=False)

    thread = threading.Thread(target=work, name="demo-lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        console.print(plain_line(observer, tasks), markup=False, highlight=False)


def plain_line(observer: Observer, tasks: int) -> str:
    """Say in one line how far the run is."""
    states = observer.states()
    shown = ", ".join(f"{count} {name}" for name, count in states.most_common())
    return f"  {states['Completed']} of {tasks} tasks done ({shown or 'none begun'}), " + (
        f"{observer.lines:,} log lines"
    )


def render(observer: Observer, tasks: int, elapsed: float) -> RenderableType:
    """Draw the live display; `elapsed` in seconds."""
    states, runs = observer.states(), list(observer.runs.values())
    head = Table.grid(padding=(0, 2))
    head.add_row(
        ProgressBar(total=tasks, completed=states["Completed"], width=30),
        f"{states['Completed']}/{tasks} tasks",
        f"{elapsed:.0f} s",
        f"{observer.lines:,} log lines, {observer.lines_per_second():,.0f}/s",
    )
    counts = Text("  ").join(
        Text(f"{name} {count}", STYLES.get(name, "")) for name, count in sorted(states.items())
    )
    working = [run for run in runs if run.state.name not in ("Completed", "Pending")]
    workers = Table.grid(padding=(0, 2))
    for run in sorted(working, key=lambda run: run.labels["worker"]):
        style = STYLES.get(run.state.name, "")
        workers.add_row(run.labels["worker"], Text(run.state.name, style), Text(run.name))
    return Group(
        head,
        counts,
        workers,
        Panel(
            _lines(list(observer.last_changes)), title="states (ListTaskRuns)", title_align="left"
        ),
        Panel(
            _lines(record.message for record in list(observer.last_lines)),
            title="log (TailLogs)",
            title_align="left",
        ),
    )


def _lines(texts: Iterable[str]) -> Text:
    shown = [" ".join(each.split()) for each in texts]
    return Text("\n".join(shown), no_wrap=True, overflow="ellipsis")
