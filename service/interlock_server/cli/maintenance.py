"""`interlock server database backup`, `check`, `prune` and `vacuum`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock_server.cli.configuration import read_settings
from interlock_server.cli.database import ask, which_database, yes_option
from interlock_server.cli.maintainers import Maintainer, find_maintainer
from interlock_server.cli.text import safe
from interlock_server.cli.times import length, seconds

if TYPE_CHECKING:
    from interlock.admin.v1.maintenance_pb2 import CheckResponse, PruneCounts

FOUND = 3
"""Exit code of a check that has found something."""


def _maintainer(database: str | None, admin_socket: Path | None) -> Maintainer:
    settings = read_settings(database_connection_url=database, admin_socket=admin_socket)
    return find_maintainer(settings)


# --- backup ---------------------------------------------------------------------------------------


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@which_database
def backup(path: Path, overwrite: bool, database: str | None, admin_socket: Path | None) -> None:
    """Copy a SQLite database into the file PATH, while it is in use.

    The copy is the database at the moment of the start. It is checked before it gets its name, and
    is for its owner only. For PostgreSQL use pg_dump.

    Exit codes: 0, the copy is there; 1, it is not.
    """
    from interlock.admin.v1 import maintenance_pb2 as pb

    request = pb.BackupRequest(path=str(path.absolute()), overwrite=overwrite)
    size = 0
    with _progress() as show:
        for event in _maintainer(database, admin_socket).backup(request):
            if event.stage == pb.BACKUP_STAGE_COPYING:
                show("copying pages", event.pages_copied, event.pages_total)
            elif event.stage == pb.BACKUP_STAGE_VERIFYING:
                show("checking the copy", 0, None)
            size = event.size_bytes
    click.echo(f"{safe(str(path))} is a copy of the database: {size:,} bytes, checked.")


# --- vacuum ---------------------------------------------------------------------------------------


@click.command()
@yes_option
@which_database
def vacuum(yes: bool, database: str | None, admin_socket: Path | None) -> None:
    """Give the room of deleted rows back to the disk.

    On SQLite all that is written waits until it is done, and the disk needs room for two more
    copies meanwhile. On PostgreSQL, which does it by itself bit by bit, everything goes on.

    Exit codes: 0, it is done; 1, it is not; 2, it asks, and there is no terminal and no -y.
    """
    found = _maintainer(database, admin_socket)
    ask(
        f"Vacuum {safe(found.shown_url())}? Where it is a file, writes wait meanwhile.",
        yes,
    )
    before = after = 0
    with _progress() as show:
        for event in found.vacuum():
            if event.step:
                show(event.step, event.steps_done, event.steps_total)
            before, after = event.size_before_bytes, event.size_bytes
    click.echo(f"The database takes {after:,} bytes; before it took {before:,}.")


# --- check ----------------------------------------------------------------------------------------


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a message.")
@which_database
def check(as_json: bool, database: str | None, admin_socket: Path | None) -> None:
    """Check what is stored. Nothing is changed, and everything goes on meanwhile.

    The file (SQLite), each run against its history, each log against its head, and each chunk of a
    log against its records.

    Exit codes: 0, all is well; 1, it could not be checked; 3, something is wrong.
    """
    found: dict[str, int] = {}
    events = _maintainer(database, admin_socket).check()
    if as_json:
        from interlock_server.cli.output import as_json as to_json
        from interlock_server.cli.output import write_json

        for event in events:
            found[event.check] = event.findings_total
            write_json(to_json(event))
    else:
        with _progress() as show:
            for event in events:
                found[event.check] = event.findings_total
                show(f"{event.check}: {event.examined:,} looked at", 0, None)
                _tell(event)
        total = sum(found.values())
        click.echo(f"In all: {total:,} wrong." if total else "All is well.")
    click.get_current_context().exit(FOUND if any(found.values()) else 0)


def _tell(event: CheckResponse) -> None:
    for finding in event.findings:
        click.echo(f"{safe(finding.subject)}: {safe(finding.description)}")
    if event.done:
        count = event.findings_total
        click.echo(f"{event.check}: {f'{count:,} wrong' if count else 'well'}")


# --- prune ----------------------------------------------------------------------------------------


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else seconds(context, parameter, value)


@click.command()
@click.option(
    "--older-than",
    metavar="LENGTH",
    callback=_age,
    help="How long ago a run must have ended: 30d, 12h, 90m; at least 1h.",
)
@click.option(
    "--logs-older-than",
    metavar="LENGTH",
    callback=_age,
    help="How long ago the parts of logs must have come that go, also of runs that stay.",
)
@click.option("--dry-run", is_flag=True, help="Just count what would be deleted.")
@yes_option
@which_database
def prune(
    older_than: int | None,
    logs_older_than: int | None,
    dry_run: bool,
    yes: bool,
    database: str | None,
    admin_socket: Path | None,
) -> None:
    """Delete runs that ended long ago, with their task runs, histories and logs.

    With --logs-older-than also, or only, what came to logs long ago, from their beginning on.

    A running server goes on meanwhile. Broken off (Ctrl-C) it leaves no run half: call it again.

    Exit codes: 0, they are deleted, or there are none; 1, they are not; 2, it asks, and there is no
    terminal and no -y.
    """
    from interlock.admin.v1 import maintenance_pb2 as pb

    request = pb.PruneRequest(dry_run=True)
    which = []
    if older_than is not None:
        request.older_than.FromSeconds(older_than)
        which.append(f"of runs that ended more than {length(request.older_than)} ago")
    if logs_older_than is not None:
        request.logs_older_than.FromSeconds(logs_older_than)
        which.append(f"of logs what came more than {length(request.logs_older_than)} ago")
    if not which:
        raise click.UsageError("Say what is old: --older-than, --logs-older-than, or both.")
    found = _maintainer(database, admin_socket)
    (counted,) = found.prune(request)
    total = counted.total
    if dry_run or not _sum(total):
        click.echo(f"To delete: {_words(total)}.")
        return
    ask(
        f"Delete {_words(total)} ({'; '.join(which)}) from {safe(found.shown_url())}? "
        "There is no way back but a backup.",
        yes,
    )
    request.dry_run = False
    deleted = pb.PruneCounts()
    with _progress() as show:
        for event in found.prune(request):
            deleted = event.deleted
            show("deleting", _sum(deleted), _sum(event.total))
    click.echo(f"Deleted: {_words(deleted)}.")


def _sum(counts: PruneCounts) -> int:
    return counts.flow_runs + counts.task_runs + counts.log_chunks + counts.tombstones


def _words(counts: PruneCounts) -> str:
    return (
        f"{counts.flow_runs:,} flow runs, {counts.task_runs:,} task runs, "
        f"{counts.log_chunks:,} chunks of logs, {counts.tombstones:,} notes of old deletions"
    )


# --- progress -------------------------------------------------------------------------------------

Show = Callable[[str, int, int | None], None]
"""Is told what is done now, how much of it is done, and how much there is; None: not known."""


@contextmanager
def _progress() -> Iterator[Show]:
    """Show progress on standard error: a bar on a terminal, elsewhere a line a step."""
    import sys

    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda step, done, total: bar.update(
            task, description=step, completed=done, total=total
        )


def _lines() -> Show:
    """Write a line when a step begins, and one each tenth of the way."""
    said: tuple[str, int] = ("", 0)

    def show(step: str, done: int, total: int | None) -> None:
        nonlocal said
        step = step.partition(":")[0]
        tenth = 10 * done // total if total else 0
        if (step, tenth) != said:
            said = (step, tenth)
            click.echo(f"{step} ... {f'{done:,} of {total:,}' if total else ''}".rstrip(), err=True)

    return show
