"""The demo from beginning to end: a server, a flow run on a fleet, the check, the summary."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock import FlowRunContext, InterlockHandler
from interlock.v1 import TaskRunFilter
from rich.console import Console

from interlock_server.demo import summary
from interlock_server.demo.check import Verification, compare, read_back
from interlock_server.demo.display import progress
from interlock_server.demo.fleet import Fleet
from interlock_server.demo.packages import (
    Package,
    find_packages,
    largest_first,
    standard_library,
)
from interlock_server.demo.server import DemoServer
from interlock_server.demo.summary import Outcome
from interlock_server.demo.witness import Seen, WitnessedClient, WitnessHandler
from interlock_server.demo.workflow import Counts, write_report

logger = logging.getLogger("demo")

FLOW = "index-standard-library"


def run_demo(console: Console, folder: Path, packages: int | None, workers: int) -> int:
    """Run it all and answer the exit code.

    Args:
        console: where to show it.
        folder: where the database and the report are left; absolute.
        packages: how many packages to index; None: all that there are.
        workers: how many worker processes to start.

    Raises CanNotStartError, WorkFailedError, InterlockError, OSError.
    """
    library = standard_library()
    chosen = find_packages(library)[:packages]
    _say(console, f"Indexing {len(chosen)} packages of {library} with {workers} workers.")
    reported = Seen()
    with (
        DemoServer(folder) as server,
        WitnessedClient(server.target, reported, proposed_by="demo") as client,
    ):
        _say(console, f"An Interlock server on {server.target} keeps states and logs in {folder}.")
        parameters = {"packages": len(chosen), "workers": workers}
        created = client.create_flow_run(client.create_flow(FLOW), parameters=parameters)
        with (
            _logs_shipped(server.target, reported),
            # Around the run's block, so that it also sees how the run ends.
            progress(console, server.target, created.id, tasks=len(chosen) + 1),
            client.enter_flow_run(created) as run,
            Fleet(server.target, run.id, workers) as fleet,
        ):
            counts = index_library(run, fleet, chosen, folder, reported)
        kept = read_back(client, run.id)
        outcome = Outcome(
            run=client.get_flow_run(run.id),
            tasks=list(client.list_task_runs(TaskRunFilter(flow_run_ids=[run.id]))),
            states=kept.states,
            counts=counts,
            verification=compare(reported, kept),
            folder=folder,
            database_url=server.database_url,
        )
    summary.show(console, outcome)
    return _verdict(console, outcome.verification)


def index_library(
    run: FlowRunContext, fleet: Fleet, packages: list[Package], folder: Path, reported: Seen
) -> Counts:
    """Fan out to the workers, then in to the task that writes the report: the flow itself."""
    logger.info("%d packages to index", len(packages))
    indexes, seen = fleet.index(largest_first(packages))
    reported.merge(seen)
    return run.run_task(write_report, indexes, folder)


@contextmanager
def _logs_shipped(target: str, reported: Seen) -> Iterator[None]:
    logger.setLevel(logging.INFO)
    handlers = [InterlockHandler(target), WitnessHandler(reported)]
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()


def _verdict(console: Console, verification: Verification) -> int:
    if not verification.differences:
        _say(
            console,
            f"{verification.states:,} states and {verification.lines:,} log lines read back "
            "as reported.",
        )
        return 0
    _say(console, f"Not as reported, in {len(verification.differences):,} places:")
    for difference in verification.differences:
        _say(console, f"  {difference}")
    return 1


def _say(console: Console, words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)
