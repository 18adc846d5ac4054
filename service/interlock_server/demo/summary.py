"""What the demo says at its end: the table of the run, its timeline, what failed, what to try."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from interlock.v1 import FlowRun, TaskRun
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock_server.demo import timeline
from interlock_server.demo.check import Verification
from interlock_server.demo.timeline import Span
from interlock_server.demo.witness import SeenState
from interlock_server.demo.workflow import Counts

_MOST_FAILURES = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that is known of a run that has ended, as the server told it."""

    run: FlowRun
    tasks: Sequence[TaskRun]
    states: dict[str, list[SeenState]]
    """By the id of the run."""
    counts: Counts
    verification: Verification
    folder: Path
    database_url: str


def show(console: Console, outcome: Outcome) -> None:
    """Print it all."""
    console.print()
    console.print(_table(outcome))
    console.print()
    console.print("Timeline", style="bold")
    console.print(timeline.render(spans(outcome.run, outcome.tasks), console.width))
    _show_failures(console, outcome)
    _show_next_steps(console, outcome)


def spans(run: FlowRun, tasks: Sequence[TaskRun]) -> list[Span]:
    """Answer when each task ran, since the run began; by the server's clock."""
    began = run.start_time.ToMicroseconds()
    return [
        Span(
            name=task.name,
            worker=task.labels.get("worker", "main"),
            start=(task.start_time.ToMicroseconds() - began) / 1e6,
            end=(task.end_time.ToMicroseconds() - began) / 1e6,
            retried=task.run_count > 1,
        )
        for task in tasks
        if task.HasField("start_time") and task.HasField("end_time")
    ]


def failures(tasks: Sequence[TaskRun], states: dict[str, list[SeenState]]) -> list[tuple[str, str]]:
    """Answer the name of each task that was tried again, and why."""
    return [
        (task.name, state.message)
        for task in sorted(tasks, key=lambda task: task.name)
        for state in states.get(task.id, ())
        if state.name == "AwaitingRetry"
    ]


def command(path: str = sys.executable, here: Path | None = None) -> str:
    """Answer what to type for the `interlock` of this Python."""
    program = Path(path).parent / "interlock"
    here = here or Path.cwd()
    if program.is_relative_to(here):
        program = program.relative_to(here)
    return shlex.quote(str(program)) if (here / program).exists() else "interlock"


def _table(outcome: Outcome) -> Table:
    run, counts = outcome.run, outcome.counts
    seconds = (run.end_time.ToMicroseconds() - run.start_time.ToMicroseconds()) / 1e6
    by_state = Counter(task.state.name for task in outcome.tasks)
    table = Table(title=f"Flow run {run.name}: {run.state.name}", title_justify="left")
    table.add_column("what")
    table.add_column("how many", justify="right")
    for name, count in by_state.most_common():
        table.add_row(f"tasks {name}", f"{count:,}")
    table.add_row("retries", f"{sum(task.run_count - 1 for task in outcome.tasks):,}")
    table.add_row("files", f"{counts.files:,}")
    table.add_row("lines of Python", f"{counts.lines:,}")
    table.add_row("functions, classes", f"{counts.functions:,}, {counts.classes:,}")
    table.add_row("log lines", f"{outcome.verification.lines:,}")
    table.add_row("states", f"{outcome.verification.states:,}")
    table.add_row("time", f"{seconds:.1f} s")
    return table


def _show_failures(console: Console, outcome: Outcome) -> None:
    found = failures(outcome.tasks, outcome.states)
    console.print()
    console.print("What failed, and was tried again", style="bold")
    console.print("The first attempt reads strictly; the next with all that this Python can read.")
    for name, message in found[:_MOST_FAILURES]:
        console.print(Text.assemble((f"  {name}: ", "yellow"), message), soft_wrap=True)
    if len(found) > _MOST_FAILURES:
        console.print(f"  and {len(found) - _MOST_FAILURES} more")


def _show_next_steps(console: Console, outcome: Outcome) -> None:
    interlock, run_id = command(), outcome.run.id
    retried = next((task for task in outcome.tasks if task.run_count > 1), None)
    steps = [
        ("start a server on what the demo leaves behind", ""),
        ("", f"{interlock} server start --database {shlex.quote(outcome.database_url)}"),
        ("and in another terminal", ""),
        ("", f"{interlock} flow-run inspect {run_id}"),
        ("", f"{interlock} flow-run logs {run_id}"),
        ("", f"{interlock} task-run ls --flow-run {run_id}"),
    ]
    if retried is not None:
        logs = f"{interlock} flow-run logs {run_id} --task-run {retried.id}"
        steps += [(f"the log of {retried.name}, which was tried again", ""), ("", logs)]
    console.print()
    console.print("What to try next", style="bold")
    for words, line in steps:
        text = f"# {words}" if words else line
        style = "dim" if words else ""
        console.print(f"  {text}", style=style, markup=False, highlight=False, soft_wrap=True)
    console.print()
    report = outcome.folder / "report.txt"
    console.print(f"The report: {report}", markup=False, highlight=False, soft_wrap=True)
