"""`interlock logs delete`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from interlock_server.cli.connection import connected, server_option
from interlock_server.cli.database import ask, yes_option
from interlock_server.cli.text import safe
from interlock_server.cli.times import since

_DAY = 86_400.0
"""Seconds that a deletion may take: a large log goes in many small transactions."""


@click.command()
@click.argument("run_id", metavar="RUN_ID")
@click.option(
    "--before",
    callback=since,
    metavar="TIME|AGE",
    help="Only what reached the server before: 30d, 12h, or 2025-06-01T12:00.",
)
@yes_option
@server_option
def delete(run_id: str, before: datetime | None, yes: bool, target: str) -> None:
    """Delete the log of a flow run, or of a task run that is part of none, or its oldest part.

    The run stays, and may go on logging. Broken off (Ctrl-C) it leaves a log that is shorter: call
    it again.

    Exit codes: 0, it is deleted, or there was nothing; 1, it is not; 2, it asks, and there is no
    terminal and no -y.
    """
    part = ""
    if before is not None:
        shown = before.replace(microsecond=0).astimezone(UTC).isoformat(sep=" ")
        part = f" as far as it came before {shown.removesuffix('+00:00')} UTC"
    with connected(target) as client:
        # Whether the server is there, and the run, is said before anything is asked.
        next(client.list_logs(run_id, page_size=1), None)
        ask(f"Delete the log of {safe(run_id)}{part}? There is no way back but a backup.", yes)
        answer = client.with_timeout(_DAY).delete_logs(run_id, before=before)
    click.echo(
        f"Deleted: {answer.deleted:,} records. The log of {safe(run_id)} begins at ordinal "
        f"{answer.first_ordinal:,} now."
    )
