"""The `interlock` command."""

from __future__ import annotations

import click

from interlock_server.cli.server import server


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Track the runs of a fleet of workflow workers."""


main.add_command(server)
