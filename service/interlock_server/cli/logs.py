"""`interlock logs`: what is done with the logs of many runs, and with files of them."""

from __future__ import annotations

import click

from interlock_server.cli.lazy import LazyGroup, Listed


@click.group(
    cls=LazyGroup,
    listed={
        "search": Listed(
            "interlock_server.cli.log_search:search", "Find lines in the logs of many runs."
        ),
        "delete": Listed("interlock_server.cli.log_deletion:delete", "Delete the log of a run."),
        "deliver": Listed(
            "interlock_server.cli.log_delivery:deliver", "Deliver log records that were left."
        ),
        "export": Listed("interlock_server.cli.log_export:export_log", "Write a log to a file."),
        "import": Listed("interlock_server.cli.log_import:import_log", "Read a file into a log."),
    },
)
def logs() -> None:
    """Look through logs, and keep them in order. To read one: interlock flow-run logs."""
