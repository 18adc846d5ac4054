"""Run the benchmarks: `python -m benchmarks [--quick] [--dialect NAME] [--only WORD]`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from benchmarks.databases import Databases, open_databases
from benchmarks.measure_lists import measure_lists
from benchmarks.measure_live_logs import measure_live_logs
from benchmarks.measure_logs import measure_append_logs
from benchmarks.measure_memory import measure_memory
from benchmarks.measure_search import measure_search
from benchmarks.measure_server import measure_start
from benchmarks.measure_states import COMMIT_DELAY, measure_batch_set_states, measure_set_state
from benchmarks.measure_tails import measure_tails
from benchmarks.measure_watch import measure_watch
from benchmarks.results import Result, Target, print_table, write_json
from benchmarks.scale import FULL, QUICK, Scale
from tests.support.needs import Unavailable

_RESULTS = Path(__file__).with_name("results.json")
_DIALECTS = ("sqlite", "postgresql")

_WIDTH = 150
"""Of the table where the output is no terminal."""

Measure = Callable[[Databases, Scale], list[Result]]

_NO_ERRORS = Target(0, "errors", at_most=True)
_MEASURES: dict[str, Measure] = {
    "set-state-64": lambda d, s: [measure_set_state(d, s, 64, Target(1 / 2, "ratio"))],
    "set-state-256": lambda d, s: [measure_set_state(d, s, 256, _NO_ERRORS)],
    "set-state-slow-disk": lambda d, s: [measure_set_state(d, s, 64, _NO_ERRORS, COMMIT_DELAY)],
    "batch-1000": lambda d, s: [measure_batch_set_states(d, s, 1000)],
    "batch-100": lambda d, s: [measure_batch_set_states(d, s, 100)],
    "logs-1": lambda d, s: [measure_append_logs(d, s, 1)],
    "logs-8": lambda d, s: [measure_append_logs(d, s, 8)],
    "live-logs": lambda d, s: [measure_live_logs(d, s)],
    "search": measure_search,
    "watch": measure_watch,
    "tails": measure_tails,
    "lists": measure_lists,
    "start": measure_start,
    "memory": measure_memory,
}


def main() -> None:
    """Measure, print the table, write `results.json`."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    wanted = [name for name in _MEASURES if not options.only or options.only in name]
    if not wanted:
        sys.exit(f"Nothing is called {options.only}; there are: {', '.join(_MEASURES)}.")
    scale = QUICK if options.quick else FULL
    machine = _machine() | {"quick": options.quick, "rounds": scale.rounds}
    results: list[Result] = []
    began = time.monotonic()
    for dialect in options.dialect or _DIALECTS:
        try:
            for result in _measured(dialect, wanted, scale, machine, console):
                results.append(result)
                # What is measured is not lost with what fails later.
                machine["seconds"] = round(time.monotonic() - began)
                write_json(_RESULTS, machine, results)
        except Unavailable as error:
            console.print(f"{dialect} is left out: {error}", style="yellow")
    print_table(results, console)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    console.print(f"All of it is in {_RESULTS}.")


def _measured(
    dialect: str, wanted: list[str], scale: Scale, machine: dict[str, Any], console: Console
) -> Iterator[Result]:
    with open_databases(dialect) as databases:
        machine[dialect] = databases.version
        for name in wanted:
            began = time.monotonic()
            yield from _MEASURES[name](databases, scale)
            console.print(f"{dialect}: {name} took {time.monotonic() - began:.0f} s", style="dim")


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "Python": platform.python_version(),
        "grpc": grpc.__version__,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute or two, less exact")
    parser.add_argument("--dialect", action="append", choices=_DIALECTS)
    parser.add_argument("--only", metavar="WORD", help=f"of {', '.join(_MEASURES)}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
