"""The timeline that the demo draws at its end."""

import io

import pytest
from interlock_server.demo.timeline import Span, bar, render
from rich.console import Console


def test_a_bar_stands_where_its_task_ran() -> None:
    span = Span("a", "worker-1", start=2.0, end=4.0, retried=False)
    assert bar([span], whole=8.0, columns=8).plain == "  ██    "


def test_a_task_too_short_to_see_is_seen() -> None:
    span = Span("a", "worker-1", start=8.0, end=8.0, retried=False)
    assert bar([span], whole=8.0, columns=4).plain == "   █"


def test_neighbours_are_told_apart_and_retries_coloured() -> None:
    spans = [Span("a", "w", 0.0, 2.0, retried=False), Span("b", "w", 2.0, 4.0, retried=True)]
    line = bar(spans, whole=4.0, columns=4)
    assert line.plain == "██░░"
    styles = [str(each.style) for each in line.spans]
    assert styles == ["green", "green", "yellow", "yellow"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    spans = [
        Span(f"a-package-of-a-long-name-{n}", f"worker-{n % 2}", n, n + 1.5, n == 3)
        for n in range(20)
    ]
    console = Console(file=io.StringIO(), width=width)
    console.print(render(spans, console.width))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    # Two workers, an empty line, ten tasks, the axis, the legend.
    assert len(lines) == 2 + 1 + 10 + 1 + 1


def test_a_run_without_tasks_has_a_timeline_too() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(render([], 80))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "Nothing ran.\n"
