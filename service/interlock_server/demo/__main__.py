"""`python -m interlock_server.demo`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

INTERRUPTED = 130
"""The exit code that a shell gives a command that Ctrl-C has ended."""


@click.command()
@click.option("--packages", type=click.IntRange(1), help="Index only so many.  [default: all]")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=min(4, max(2, os.cpu_count() or 2)),
    show_default=True,
    help="How many worker processes.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".interlock-demo"),
    show_default=True,
    help="Where the database and the report are left.",
)
def demo(packages: int | None, workers: int, folder: Path) -> None:
    """Index this machine's Python library as a workflow, on a server of its own.

    Ends with 0 only if all states and log lines that are read back from the server are exactly
    those that the workers reported.
    """
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        sys.exit(_run(folder, packages, workers))
    except KeyboardInterrupt:
        click.echo("Stopped. Nothing is left running.", err=True)
        sys.exit(INTERRUPTED)


def _run(folder: Path, packages: int | None, workers: int) -> int:
    # Imported here, so that Ctrl-C has its proper end from the first moment on.
    from interlock import InterlockError
    from rich.console import Console

    from interlock_server.demo.fleet import WorkFailedError
    from interlock_server.demo.scene import run_demo
    from interlock_server.demo.server import CanNotStartError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        return run_demo(Console(), folder.absolute(), packages, workers)
    except CanNotStartError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(
            f"{error}. Is {folder} a folder that can be written to, on a disk with room? "
            "Name another one with --folder FOLDER."
        ) from None
    except (WorkFailedError, InterlockError) as error:
        raise click.ClickException(
            f"{error}\nThe server's log is {folder / 'server.log'}."
        ) from None


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    demo(prog_name="python -m interlock_server.demo")
