"""What the demo shows while it runs, and what it says to type when it has."""

import io
from pathlib import Path

from interlock.v1 import FlowRun, LogRecord, State, TaskRun
from interlock_server.demo.display import plain_line, render
from interlock_server.demo.observer import Observer
from interlock_server.demo.summary import command, failures, spans
from interlock_server.demo.witness import SeenState
from rich.console import Console


def observer() -> Observer:
    """One that has seen something, and is connected to nothing."""
    seen = Observer("127.0.0.1:1", "run", on_change=lambda change: None)
    for number, state in enumerate(["Completed", "Completed", "AwaitingRetry"]):
        task = TaskRun(id=str(number), name=f"package-{number}", state=State(name=state))
        task.labels["worker"] = f"worker-{number}"
        seen.runs[task.id] = task
    seen.lines = 1234
    seen.last_lines.append(LogRecord(message="[bold]no markup[/bold]\nof many lines " + "x" * 200))
    seen.last_changes.append("package-2: Running -> AwaitingRetry (why)")
    return seen


def test_a_plain_line_says_how_far_it_is() -> None:
    assert plain_line(observer(), 9) == (
        "  2 of 9 tasks done (2 Completed, 1 AwaitingRetry), 1,234 log lines"
    )


def test_the_live_display_fits_and_shows_what_was_logged_to_the_letter() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(render(observer(), tasks=9, elapsed=3.2))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "[bold]no markup[/bold] of many lines" in shown
    assert "2/9 tasks" in shown
    assert "worker-2" in shown
    assert "package-2: Running -> AwaitingRetry (why)" in shown
    assert "worker-0" not in shown, "its task is over"
    assert max(map(len, shown.splitlines())) <= 80


def test_the_command_is_named_as_it_can_be_typed_here(tmp_path: Path) -> None:
    program = tmp_path / "my venv" / "bin" / "interlock"
    program.parent.mkdir(parents=True)
    program.touch()
    python = str(program.with_name("python"))
    assert command(python, here=tmp_path) == "'my venv/bin/interlock'"
    assert command(python, here=tmp_path / "elsewhere") == f"'{program}'"
    program.unlink()
    assert command(python, here=tmp_path) == "interlock"


def test_each_failure_that_was_tried_again_is_told_with_its_reason() -> None:
    tasks = [TaskRun(id="2", name="b"), TaskRun(id="1", name="a"), TaskRun(id="3", name="c")]
    states = {
        "1": [SeenState("p", "REJECT", "SCHEDULED", "AwaitingRetry", "why a", 1)],
        "2": [SeenState("q", "REJECT", "SCHEDULED", "AwaitingRetry", "why b", 1)],
        "3": [SeenState("r", "ACCEPT", "COMPLETED", "Completed", "", 1)],
    }
    assert failures(tasks, states) == [("a", "why a"), ("b", "why b")]


def test_a_task_that_has_not_ended_has_no_span() -> None:
    run = FlowRun()
    run.start_time.FromMicroseconds(1_000_000)
    ended, running = TaskRun(name="a", run_count=2), TaskRun(name="b")
    ended.start_time.FromMicroseconds(1_500_000)
    ended.end_time.FromMicroseconds(3_000_000)
    running.start_time.FromMicroseconds(1_500_000)
    [span] = spans(run, [ended, running])
    assert (span.worker, span.start, span.end, span.retried) == ("main", 0.5, 2.0, True)
