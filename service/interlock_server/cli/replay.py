"""`interlock replay`: a recorded workflow run, played against a server as a fleet would."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock_server.cli.connection import be_quiet, failure, server_option
from interlock_server.cli.text import safe

if TYPE_CHECKING:
    from interlock_server.replay import Trace
    from interlock_server.replay.player import Options, Progress, Report

_PLAIN_INTERVAL = 2.0
"""Seconds between two lines of progress where there is no terminal."""
_DIFFERENCES_SHOWN = 20


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--workers",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="How many tasks may run at once.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="How many processes the workers live in.",
)
@click.option(
    "--time-scale",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Seconds for each recorded second: 0.01 is a hundred times faster, 0 as fast as it goes.",
)
@click.option("--name", default="", help="The flow run's name.")
@click.option("--no-logs", is_flag=True, help="Write no log lines.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@server_option
def replay(
    file: Path,
    workers: int,
    processes: int,
    time_scale: float,
    name: str,
    no_logs: bool,
    as_json: bool,
    target: str,
) -> None:
    """Play the recorded workflow run in FILE against a server, and check what the server tells.

    FILE is a WfFormat JSON instance, a Pegasus jobstate.log or .bp file, or a Nextflow trace file.
    Exits with 0 only if the server tells afterwards exactly what FILE says: each task's states in
    their order, no task before its parents, all counts, every log line.
    """
    be_quiet()
    from interlock import InterlockError

    from interlock_server.replay import TraceError, load
    from interlock_server.replay.player import Options
    from interlock_server.replay.pool import WorkerProcessError

    options = Options(
        target=target,
        workers=workers,
        processes=min(processes, workers),
        time_scale=time_scale,
        name=name,
        logs=not no_logs,
    )
    try:
        trace = load(file)
        report = asyncio.run(_play(file, trace, options))
    except (TraceError, WorkerProcessError) as error:
        raise click.ClickException(safe(str(error))) from None
    except InterlockError as error:
        raise failure(error, target) from None
    if as_json:
        click.echo(json.dumps(_as_json(file, trace, report), indent=2))
    else:
        _print(trace, report)
    sys.exit(0 if report.agrees else 1)


async def _play(file: Path, trace: Trace, options: Options) -> Report:
    from rich.console import Console

    from interlock_server.replay.player import replay as play

    console = Console(stderr=True)
    if not console.is_terminal:
        return await play(file, trace, options, _PlainProgress())
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn()
    running = TextColumn("{task.fields[running]} running")
    with Bar(*columns, running, TimeElapsedColumn(), console=console) as bar:
        shown = bar.add_task("connecting", total=None, running=0)

        def tell(progress: Progress) -> None:
            bar.update(
                shown,
                description=progress.stage,
                total=progress.total,
                completed=progress.ended,
                running=progress.running,
            )

        return await play(file, trace, options, tell)


class _PlainProgress:
    """Lines of progress: one for each stage, and from time to time while tasks are played."""

    def __init__(self) -> None:
        self._stage = ""
        self._told = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage == self._stage and now - self._told < _PLAIN_INTERVAL:
            return
        self._stage, self._told = progress.stage, now
        done = f"{progress.ended} of {progress.total} tasks ended, {progress.running} running"
        click.echo(f"{progress.stage}: {done}", err=True)


def _print(trace: Trace, report: Report) -> None:
    from rich.text import Text

    from interlock_server.cli import output

    console = output.console()
    table = output.table("", "THE TRACE", "THE SERVER", "", flexible=("THE TRACE", "THE SERVER"))
    for check in report.checks:
        mark = Text("agrees", "green") if check.agrees else Text("DIFFERS", "bold red")
        table.add_row(check.what, safe(check.expected), safe(check.found), mark)
    console.print(table)
    kind, message = report.end
    rate = report.states / report.play_seconds if report.play_seconds else 0.0
    click.echo(
        f"\nFlow run {safe(report.flow_run_name)} ({report.flow_run_id}) of {safe(trace.name)}: "
        f"{kind}, {message}.\n"
        f"{report.states:,} states in {report.play_seconds:.1f} s, {rate:,.0f} a second."
    )
    differences = (each for check in report.checks for each in check.differences)
    amiss = list(dict.fromkeys([*report.problems, *differences]))
    for difference in amiss[:_DIFFERENCES_SHOWN]:
        click.echo(f"Differs: {safe(difference)}")
    if len(amiss) > _DIFFERENCES_SHOWN:
        click.echo(f"... and {len(amiss) - _DIFFERENCES_SHOWN:,} more; --json tells all.")


def _as_json(file: Path, trace: Trace, report: Report) -> dict[str, Any]:
    return {
        "agrees": report.agrees,
        "file": str(file),
        "format": trace.source_format,
        "flow": trace.name,
        "flow_run_id": report.flow_run_id,
        "flow_run_name": report.flow_run_name,
        "end": {"type": report.end[0], "message": report.end[1]},
        "tasks": len(trace.tasks),
        "edges": trace.edge_count,
        "attempts": trace.attempt_count,
        "states": report.states,
        "play_seconds": round(report.play_seconds, 6),
        "problems": list(report.problems),
        "checks": [
            {
                "what": check.what,
                "expected": check.expected,
                "found": check.found,
                "agrees": check.agrees,
                "differences": list(check.differences),
            }
            for check in report.checks
        ],
    }
