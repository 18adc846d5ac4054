"""A worker process: it takes packages, runs a task for each, and reports to Interlock.

This is what a worker of yours might look like; only the witness is for the demo's own sake.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from interlock import FlowRunContext, InterlockHandler

from interlock_server.demo.packages import Package
from interlock_server.demo.witness import Seen, WitnessedClient, WitnessHandler
from interlock_server.demo.workflow import PackageIndex, index_package

RETRIES = 2
RETRY_DELAY = 0.2
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a worker reports, and for which run it works."""

    target: str
    flow_run_id: str
    worker: str


def run_worker(assignment: Assignment, pipe: Connection) -> None:
    """Index the packages that come through the pipe until a None comes.

    Through it go back: a PackageIndex for each, or in words why there is none; at the end a Seen.
    """
    seen = Seen()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `Fleet`
        with (
            WitnessedClient(assignment.target, seen, proposed_by=assignment.worker) as client,
            logs_shipped(assignment, seen),
        ):
            run = client.enter_flow_run(assignment.flow_run_id)
            while (package := pipe.recv()) is not None:
                try:
                    pipe.send(index(run, package, assignment.worker))
                except Exception as error:
                    pipe.send(f"{package.name}: {error}")
        pipe.send(seen)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        # Ctrl-C, or the demo is gone: the block of the task has said that it crashed.
        return


def index(run: FlowRunContext, package: Package, worker: str) -> PackageIndex:
    """Run one task: strictly at first; when that fails, Interlock says when to try again."""
    task = run.task(
        "index_package",
        name=package.name,
        dynamic_key=package.name,
        labels={"worker": worker},
        retries=RETRIES,
        retry_delay=RETRY_DELAY,
    )

    def attempt() -> PackageIndex:
        strict = task.run_count == 1
        logging.info(
            "attempt %d at %s: %d files, %s",
            task.run_count,
            package.name,
            len(package.files),
            "strictly" if strict else "with all that this Python can read",
        )
        return index_package(package, strict=strict)

    return task.repeat(attempt)


@contextmanager
def logs_shipped(assignment: Assignment, seen: Seen) -> Iterator[None]:
    """Send what is logged within the runs of this process to their log; at the end, all of it."""
    handler = InterlockHandler(assignment.target)
    logging.basicConfig(level=logging.INFO, handlers=[handler, WitnessHandler(seen)])
    try:
        yield
    finally:
        handler.end_run(assignment.flow_run_id)
        handler.close()
