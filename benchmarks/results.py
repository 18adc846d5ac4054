"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.spread import Spread


@dataclass(frozen=True, slots=True)
class Target:
    """What a number is to reach; `of` says which one."""

    limit: float
    of: str
    """`ratio`, `value`, or `errors`."""
    at_most: bool = False

    def met(self, measured: float) -> bool:
        """Tell whether a number reaches it."""
        return measured <= self.limit if self.at_most else measured >= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table."""

    name: str
    dialect: str
    unit: str
    value: Spread
    yardstick: str = ""
    """What `ratio` compares with; empty: nothing."""
    yardstick_value: Spread | None = None
    ratio: Spread | None = None
    target: Target | None = None
    errors: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    """Further numbers, and how the row was measured."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None: there is none."""
        match self.target:
            case None:
                return None
            case Target(of="errors"):
                return self.target.met(self.errors)
            case Target(of="ratio"):
                assert self.ratio is not None
                return self.target.met(self.ratio.median)
            case _:
                return self.target.met(self.value.median)


def print_table(results: Sequence[Result], console: Console) -> None:
    """Show the rows, and the further numbers of each below them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("what", "database"):
        table.add_column(column)
    for column in ("measured", "min - max"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("unit")
    for column in ("beside", "ratio", "target"):
        table.add_column(column, justify="right")
    table.add_column("met")
    for result in results:
        table.add_row(
            result.name,
            result.dialect,
            _number(result.value.median),
            f"{_number(result.value.low)} - {_number(result.value.high)}",
            result.unit,
            _beside(result),
            _ratio(result.ratio),
            _target(result.target),
            {None: "", True: "[green]met[/]", False: "[red]not met[/]"}[result.met],
        )
    console.print(table)
    for result in results:
        if result.details:
            words = ", ".join(f"{name} {_number(value)}" for name, value in result.details.items())
            console.print(f"[bold]{result.name}, {result.dialect}[/]: {words}", highlight=False)


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return str(value)
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _beside(result: Result) -> str:
    if result.yardstick_value is None:
        return ""
    return f"{result.yardstick} {_number(result.yardstick_value.median)}"


def _ratio(ratio: Spread | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def _target(target: Target | None) -> str:
    if target is None:
        return ""
    sign = "≤" if target.at_most else "≥"
    return f"{target.of} {sign} {_number(target.limit)}"


def write_json(path: Path, machine: dict[str, Any], results: Sequence[Result]) -> None:
    """Write everything, for comparison with other runs."""
    rows = [asdict(result) | {"met": result.met} for result in results]
    path.write_text(json.dumps({"machine": machine, "results": rows}, indent=2) + "\n")
