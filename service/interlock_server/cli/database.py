"""`interlock server database`: where the schema stands, and moving it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock_server.cli.configuration import read_settings
from interlock_server.cli.lazy import LazyGroup, Listed
from interlock_server.cli.migration_progress import ProgressLines, write_plan
from interlock_server.cli.migrations import Migrations, find_migrations

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.duration_pb2 import Duration
    from interlock.admin.v1.migration_pb2 import GetStatusResponse

NOT_ASKED, NEEDS_UPGRADE, NEEDS_NEWER_SERVER = 2, 3, 4
"""Exit codes for scripts. 5 is `ANOTHER_MIGRATES`."""


def which_database(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which database is meant."""
    socket = click.option(
        "--admin-socket",
        type=click.Path(path_type=Path),
        help="The running server's admin socket.  [default: admin.sock in the home folder]",
    )
    url = click.option(
        "--database", help="The database's URL.  [default: what the server would take]"
    )
    return url(socket(command))


yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Show the SQL, and change nothing.")
wait_option = click.option(
    "--wait",
    type=click.FloatRange(0, 86_400),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for another migrator.",
)


def _revision_option(default: str) -> Callable[..., Any]:
    return click.option(
        "-r",
        "--revision",
        default=default,
        show_default=True,
        help="A revision, the beginning of one, head, base, or steps such as +1 or -1.",
    )


@click.group(
    cls=LazyGroup,
    listed={
        "backup": Listed("interlock_server.cli.maintenance:backup", "Copy the database."),
        "check": Listed("interlock_server.cli.maintenance:check", "Check what is stored."),
        "prune": Listed(
            "interlock_server.cli.maintenance:prune", "Delete runs that ended long ago."
        ),
        "vacuum": Listed("interlock_server.cli.maintenance:vacuum", "Give free room back."),
        "revision": Listed(
            "interlock_server.cli.revision:revision", "Write the file of a new revision."
        ),
    },
)
def database() -> None:
    """Look after the database.

    A running server is asked through its admin socket. Where none runs, the database is opened
    directly.

    Exit codes: 0, it is done, or there was nothing to do; 1, it could not be done, and the schema
    is where the last line says; 2, the command makes no sense, or asks, and there is no terminal
    and no -y; 3, the schema needs an upgrade; 4, it needs a newer server; 5, another migrator did
    not end in time.
    """


def _find(database: str | None, admin_socket: Path | None) -> Migrations:
    settings = read_settings(database_connection_url=database, admin_socket=admin_socket)
    return find_migrations(settings)


@database.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@which_database
def status(database: str | None, admin_socket: Path | None, as_json: bool) -> None:
    """Show the schema's revision, what is pending, and what to do.

    Exit codes: 0, this server can serve the schema; 1, the database can not be reached, or holds
    the tables of another program; 3, it needs `interlock server database upgrade`; 4, it needs a
    newer server.
    """
    found = _find(database, admin_socket).status()
    if as_json:
        from interlock_server.cli.output import as_json as to_json
        from interlock_server.cli.output import write_json

        write_json(to_json(found))
    else:
        _show(found)
    click.get_current_context().exit(_exit_code(found))


def _show(found: GetStatusResponse) -> None:
    for name, value in (
        ("dialect", found.dialect),
        ("version", found.database_version),
        ("database", found.database_url),
        ("revision", found.current_revision or _no_revision(found)),
        ("head", found.head_revision),
    ):
        click.echo(f"{name:<10}{value}")
    for position, revision in enumerate(found.pending):
        click.echo(f"{'' if position else 'pending':<10}{revision.id}  {revision.description}")
    click.echo(_advice(found))


def _no_revision(found: GetStatusResponse) -> str:
    if found.other_programs_database:
        return "none: the tables are another program's"
    return "none: the database is empty"


def _advice(found: GetStatusResponse) -> str:
    if found.servable:
        return "Nothing to do: this version of Interlock can serve it."
    if found.pending and not found.other_programs_database:
        return f"To do: {found.advice}"
    return f"To do: {found.advice}."


def _exit_code(found: GetStatusResponse) -> int:
    if found.servable:
        return 0
    if found.other_programs_database:
        return 1
    return NEEDS_UPGRADE if found.pending else NEEDS_NEWER_SERVER


@database.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@which_database
def history(database: str | None, admin_socket: Path | None, as_json: bool) -> None:
    """List the revisions, the newest first; a star marks the one that the schema is at."""
    found = _find(database, admin_socket).revisions()
    if as_json:
        from interlock_server.cli.output import as_json as to_json
        from interlock_server.cli.output import write_json

        write_json(to_json(found))
        return
    known = [each.id for each in found.revisions]
    if found.current_revision and found.current_revision not in known:
        click.echo(f"* {found.current_revision}  unknown to this version of Interlock")
    for each in reversed(found.revisions):
        mark = "*" if each.id == found.current_revision else " "
        click.echo(f"{mark} {each.id}  {each.description}  (from {each.compatible_from} on)")
    if not found.current_revision:
        click.echo("* base  no schema yet")


@database.command()
@_revision_option("head")
@yes_option
@dry_run_option
@wait_option
@click.option(
    "--beside-other-programs",
    is_flag=True,
    help="Build the schema although the database holds the tables of another program.",
)
@which_database
def upgrade(
    database: str | None,
    admin_socket: Path | None,
    revision: str,
    yes: bool,
    dry_run: bool,
    wait: float,
    beside_other_programs: bool,
) -> None:
    """Apply the pending revisions, each whole or not at all.

    Asks first, unless the database is empty. A running server serves the schema as soon as it can.
    """
    from interlock.admin.v1.migration_pb2 import UpgradeRequest

    migrations = _find(database, admin_socket)
    found = migrations.status()
    if not found.pending and revision == "head":
        click.echo(_advice(found), err=not found.servable)
        click.get_current_context().exit(_exit_code(found))
    request = UpgradeRequest(
        revision=revision,
        dry_run=dry_run,
        wait=_duration(wait),
        beside_other_programs=beside_other_programs,
    )
    if dry_run:
        migrations.move(request, write_plan)
        return
    if found.current_revision:
        target = found.head_revision if revision == "head" else revision
        ask(
            f"Upgrade {found.database_url} from {found.current_revision} to {target}? "
            "What a revision deletes comes back only from a backup.",
            yes,
        )
    _move(migrations, request)


@database.command()
@_revision_option("-1")
@yes_option
@dry_run_option
@wait_option
@which_database
def downgrade(
    database: str | None,
    admin_socket: Path | None,
    revision: str,
    yes: bool,
    dry_run: bool,
    wait: float,
) -> None:
    """Take revisions back, down to one that stays. What they have added is lost."""
    from interlock.admin.v1.migration_pb2 import DowngradeRequest

    migrations = _find(database, admin_socket)
    request = DowngradeRequest(revision=revision, dry_run=dry_run, wait=_duration(wait))
    if dry_run:
        migrations.move(request, write_plan)
        return
    found = migrations.status()
    target = _target_of(revision, found.current_revision)
    lost = (
        "All of Interlock's data in it is deleted."
        if target == "base"
        else "What the revisions have added is lost."
    )
    current = found.current_revision or "base"
    ask(f"Downgrade {found.database_url} from {current} to {target}? {lost}", yes)
    _move(migrations, request)


def _target_of(revision: str, current: str) -> str:
    """Say which revision is meant, for the question; what is unknown is the service's to refuse."""
    from interlock_server.storage.errors import StorageError
    from interlock_server.storage.revisions import history

    if current and not history().knows(current):
        return revision
    try:
        return history().resolve(revision, current) or "base"
    except StorageError:
        return revision


@database.command()
@click.argument("revision_argument", metavar="[REVISION]", required=False)
@click.option("-r", "--revision", "revision_option", help="The same as REVISION.")
@yes_option
@wait_option
@which_database
def stamp(
    database: str | None,
    admin_socket: Path | None,
    revision_argument: str | None,
    revision_option: str | None,
    yes: bool,
    wait: float,
) -> None:
    """Write down that the schema is at REVISION, and change nothing else.

    For a schema that was changed by hand.
    """
    from interlock.admin.v1.migration_pb2 import StampRequest

    if (revision_argument is None) == (revision_option is None):
        raise click.UsageError("Say which revision the schema is at, once.")
    revision = revision_argument or revision_option or ""
    migrations = _find(database, admin_socket)
    found = migrations.status()
    ask(
        f"Write down that {found.database_url} is at {revision}, not at "
        f"{found.current_revision or 'base'}? Nothing else changes.",
        yes,
    )
    answer = migrations.stamp(StampRequest(revision=revision, wait=_duration(wait)))
    before, now = answer.previous_revision or "base", answer.current_revision or "base"
    click.echo(f"The schema is at {now}, as is written now; before that it was {before}.")


@database.command()
@yes_option
@wait_option
@click.option(
    "--drop-tables-of-other-programs",
    is_flag=True,
    help="Drop all tables that are there, also those that Interlock does not know.",
)
@which_database
def reset(
    database: str | None,
    admin_socket: Path | None,
    yes: bool,
    wait: float,
    drop_tables_of_other_programs: bool,
) -> None:
    """Delete everything that is stored, and build the schema anew."""
    from interlock.admin.v1.migration_pb2 import ResetRequest

    migrations = _find(database, admin_socket)
    found = migrations.status()
    whose = " and of other programs" if drop_tables_of_other_programs else ""
    ask(f"Delete all data of Interlock{whose} in {found.database_url}? It is gone then.", yes)
    _move(
        migrations,
        ResetRequest(
            wait=_duration(wait), drop_tables_of_other_programs=drop_tables_of_other_programs
        ),
    )


def ask(question: str, yes: bool) -> None:
    """Ask whether to go on; ends the command where the answer is no, or nobody is there."""
    if yes:
        return
    if not sys.stdin.isatty():
        click.echo(
            f"{question}\nError: nobody is at a terminal to answer. Give -y for yes.", err=True
        )
        click.get_current_context().exit(NOT_ASKED)
    click.confirm(question, abort=True, err=True)


def _move(migrations: Migrations, request: Any) -> None:
    lines = ProgressLines()
    try:
        migrations.move(request, lines.tell)
    finally:
        lines.end()
    found = migrations.status()
    if found.current_revision == found.head_revision:
        click.echo(f"The schema is at {found.head_revision}, the newest revision.")
    else:
        click.echo(f"The schema is at {found.current_revision or 'base: the database is empty'}.")


def _duration(seconds: float) -> Duration:
    from google.protobuf.duration_pb2 import Duration

    made = Duration()
    made.FromMicroseconds(round(seconds * 1_000_000))
    return made
