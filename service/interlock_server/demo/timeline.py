"""A run's timeline in the terminal: which worker did what, and which tasks took longest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_LONGEST = 10
_LABEL_WIDTH = 18
_TIME_WIDTH = 10
_SHORTEST_BAR = 10


@dataclass(frozen=True, slots=True)
class Span:
    """One task run: who ran it and when, in seconds since the run began."""

    name: str
    worker: str
    start: float
    end: float
    retried: bool


def render(spans: Sequence[Span], width: int) -> RenderableType:
    """Draw the timeline into so many columns."""
    if not spans:
        return Text("Nothing ran.")
    whole = max(span.end for span in spans)
    columns = max(_SHORTEST_BAR, width - _LABEL_WIDTH - _TIME_WIDTH)
    grid = Table.grid()
    grid.add_column(width=_LABEL_WIDTH, no_wrap=True, overflow="ellipsis")
    grid.add_column(width=columns, no_wrap=True)
    grid.add_column(width=_TIME_WIDTH, justify="right", no_wrap=True)
    for worker in sorted({span.worker for span in spans}):
        own = [span for span in spans if span.worker == worker]
        grid.add_row(
            Text(worker, "bold"), bar(own, whole, columns), f"{busy(own) / whole:.0%} busy"
        )
    grid.add_row("", "", "")
    longest = sorted(spans, key=lambda span: span.end - span.start, reverse=True)[:_LONGEST]
    for span in sorted(longest, key=lambda span: span.start):
        grid.add_row(span.name, bar([span], whole, columns), f"{span.end - span.start:.2f} s")
    grid.add_row("", axis(whole, columns), "")
    return Group(grid, legend())


def bar(spans: Sequence[Span], whole: float, columns: int) -> Text:
    """Draw spans into one line; neighbours differ in shade, retries are lighter and coloured."""
    cells = [(" ", "")] * columns
    for number, span in enumerate(sorted(spans, key=lambda span: span.start)):
        first = min(columns - 1, int(span.start / whole * columns))
        last = min(columns - 1, max(first, int(span.end / whole * columns) - 1))
        style, shades = ("yellow", "▒░") if span.retried else ("green", "█▓")
        for column in range(first, last + 1):
            cells[column] = (shades[number % 2], style)
    line = Text()
    for character, style in cells:
        line.append(character, style)
    return line


def axis(whole: float, columns: int) -> Text:
    """Draw the line of times below the bars."""
    end = f"{whole:.1f} s"
    return Text("0 s" + " " * max(1, columns - 3 - len(end)) + end, "dim")


def legend() -> Text:
    """Say what colours and shades mean."""
    return Text.assemble(
        ("█▓", "green"), " at the first attempt   ", ("▒░", "yellow"), " tried again"
    )


def busy(spans: Sequence[Span]) -> float:
    """Answer how many seconds a worker had a task; its tasks do not overlap."""
    return sum(span.end - span.start for span in spans)
