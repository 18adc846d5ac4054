"""The demo from beginning to end: a server, a flow run on a fleet, the check, the summary."""

from __future__ import annotations

import logging
from pathlib import Path

from interlock import InterlockHandler
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

FLOW = "index-standard-library"


def run_demo(console: Console, folder: Path, packages: int | None, workers: int) -> int:
    """Run it all and answer the exit code. Raises CanNotStartError, WorkFailedError, OSError."""
    library = standard_library()
    chosen = find_packages(library)[:packages]
    _say(console, f"Indexing {len(chosen)} packages of {library} with {workers} workers.")
    with DemoServer(folder) as server:
        _say(console, f"An Interlock server on {server.target} keeps states and logs in {folder}.")
        reported = Seen()
        with WitnessedClient(server.target, reported, proposed_by="demo") as client:
            run_id, counts = _run_flow(
                console, client, server.target, reported, chosen, workers, folder
            )
            kept = read_back(client, run_id)
            verification = compare(reported, kept)
            wanted = TaskRunFilter(flow_run_ids=[run_id])
            outcome = Outcome(
                run=client.get_flow_run(run_id),
                tasks=list(client.list_task_runs(wanted)),
                states=kept.states,
                counts=counts,
                verification=verification,
                folder=folder,
                database_url=server.database_url,
            )
    summary.show(console, outcome)
    return _verdict(console, verification)


def _run_flow(
    console: Console,
    client: WitnessedClient,
    target: str,
    reported: Seen,
    packages: list[Package],
    workers: int,
    folder: Path,
) -> tuple[str, Counts]:
    logger = logging.getLogger("demo")
    logger.setLevel(logging.INFO)
    handlers = [InterlockHandler(target), WitnessHandler(reported)]
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    try:
        flow = client.create_flow(FLOW)
        parameters = {"packages": len(packages), "workers": workers}
        created = client.create_flow_run(flow, parameters=parameters)
        with (
            # Outside of the run's block, so that it also sees how the run ends.
            progress(console, target, created.id, len(packages) + 1),
            client.enter_flow_run(created) as run,
        ):
            logger.info("%d packages, %d workers", len(packages), workers)
            with Fleet(target, run.id, workers) as fleet:
                indexes, seen = fleet.index(largest_first(packages))
            reported.merge(seen)
            counts = run.run_task(write_report, indexes, folder)
    finally:
        for handler in handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
    return run.id, counts


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
