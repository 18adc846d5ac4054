"""`interlock logs`: what is done with the logs of runs as a whole."""

from __future__ import annotations

import click

from interlock_server.cli.lazy import LazyGroup, Listed


@click.group(
    cls=LazyGroup,
    listed={
        "delete": Listed("interlock_server.cli.log_deletion:delete", "Delete the log of a run."),
    },
)
def logs() -> None:
    """Keep logs in order. To read one: interlock flow-run logs."""
