"""How the news of a migrator looks on a terminal and in a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from interlock_server.cli.text import safe

if TYPE_CHECKING:
    from interlock.admin.v1.migration_pb2 import LockHolder, MigrationEvent


class ProgressLines:
    """A line for each step: what it is, and `done` when it is; between them how far it is."""

    def __init__(self) -> None:
        self._open = ""

    def tell(self, event: MigrationEvent) -> None:
        """Tell one piece of news."""
        from interlock.admin.v1 import migration_pb2 as pb

        match event.stage:
            case pb.MIGRATION_STAGE_WAITING:
                self.end()
                click.echo(f"Waiting for {_holder(event.holder)}.", err=True)
            case pb.MIGRATION_STAGE_DROPPING:
                self._begin("Dropping all tables ... ")
            case pb.MIGRATION_STAGE_APPLYING:
                place = f"{event.position}/{event.total}"
                self._begin(f"{place} {event.revision.id}  {event.revision.description} ... ")
            case pb.MIGRATION_STAGE_WORKING:
                self._work(event)
            case pb.MIGRATION_STAGE_APPLIED | pb.MIGRATION_STAGE_DROPPED:
                click.echo("done")
                self._open = ""

    def end(self) -> None:
        """End a line that is not ended, as when its step has failed."""
        if self._open:
            click.echo()
            self._open = ""

    def _begin(self, words: str) -> None:
        self._open = words
        click.echo(words, nl=False)

    def _work(self, event: MigrationEvent) -> None:
        # A pipe gets its lines whole: only whoever looks at a terminal sees a number grow.
        if sys.stdout.isatty():
            of = f" of {event.rows_total:,}" if event.rows_total else ""
            words = f"{self._open}{event.table}: {event.rows_done:,}{of} rows ... "
            click.echo(f"\r{words}", nl=False)


def write_plan(event: MigrationEvent) -> None:
    """Write what a step would do, as SQL with comments."""
    from interlock.admin.v1 import migration_pb2 as pb

    if event.stage != pb.MIGRATION_STAGE_PLANNED:
        return
    click.echo(
        f"-- {event.position}/{event.total} {event.revision.id}  {event.revision.description}"
    )
    if event.interrupts_service:
        click.echo("-- Data services answer UNAVAILABLE meanwhile.")
    for lock in event.locks:
        rows = (
            "rows not counted" if lock.estimated_rows < 0 else f"some {lock.estimated_rows:,} rows"
        )
        click.echo(f"-- locks {lock.table}: {lock.mode} ({lock.bytes:,} bytes, {rows})")
    for statement in event.statements:
        click.echo(f"{statement};")
    click.echo()


def _holder(holder: LockHolder) -> str:
    if not holder.pid:
        return "another migrator, which has not said who it is"
    since = holder.since.ToJsonString()
    return f"the migrator in process {holder.pid} on {safe(holder.host)}, at work since {since}"
