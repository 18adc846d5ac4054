"""`interlock server database`: where the schema stands, and upgrading it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock_server.cli.configuration import read_settings
from interlock_server.cli.migrations import find_migrations

if TYPE_CHECKING:
    from collections.abc import Callable

    from interlock.admin.v1.migration_pb2 import GetStatusResponse, UpgradeResponse

NEEDS_UPGRADE, NEEDS_NEWER_SERVER = 3, 4
"""Exit codes for scripts."""


def _which(command: Callable[..., Any]) -> Callable[..., Any]:
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


@click.group()
def database() -> None:
    """Look after the database's schema.

    A running server is asked through its admin socket. Where none runs, the database is opened
    directly.
    """


@database.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@_which
def status(database: str | None, admin_socket: Path | None, as_json: bool) -> None:
    """Show the schema's revision, what is pending, and what to do.

    Exit codes: 0, this server can serve the schema; 1, the database can not be reached; 3, it
    needs `interlock server database upgrade`; 4, it needs a newer server.
    """
    settings = read_settings(database_connection_url=database, admin_socket=admin_socket)
    found = find_migrations(settings).status()
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
        ("revision", found.current_revision or "none: the database is empty"),
        ("head", found.head_revision),
    ):
        click.echo(f"{name:<10}{value}")
    for position, revision in enumerate(found.pending):
        click.echo(f"{'' if position else 'pending':<10}{revision.id}  {revision.description}")
    click.echo(_advice(found))


def _advice(found: GetStatusResponse) -> str:
    if found.servable:
        return "Nothing to do: this version of Interlock can serve it."
    if found.pending:
        return f"To do: {found.advice}"
    return f"To do: {found.advice}."


def _exit_code(found: GetStatusResponse) -> int:
    if found.servable:
        return 0
    return NEEDS_UPGRADE if found.pending else NEEDS_NEWER_SERVER


@database.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_which
def upgrade(database: str | None, admin_socket: Path | None, yes: bool) -> None:
    """Apply the pending revisions, each whole or not at all.

    Asks first, unless the database is empty. A running server serves the schema as soon as it can.

    Exit codes: 0, the schema is at the newest revision; 1, it is not; 4, it needs a newer server.
    """
    settings = read_settings(database_connection_url=database, admin_socket=admin_socket)
    migrations = find_migrations(settings)
    found = migrations.status()
    if not found.pending:
        click.echo(_advice(found), err=not found.servable)
        click.get_current_context().exit(_exit_code(found))
    if found.current_revision and not yes:
        click.confirm(
            f"Upgrade {found.database_url} from {found.current_revision} to "
            f"{found.head_revision}? There is no way back but a backup.",
            abort=True,
            err=True,
        )
    migrations.upgrade(_tell)
    click.echo(f"The schema is at {found.head_revision}, the newest revision.")


def _tell(event: UpgradeResponse) -> None:
    from interlock.admin.v1.migration_pb2 import UPGRADE_STAGE_APPLYING

    revision = event.revision
    if event.stage == UPGRADE_STAGE_APPLYING:
        place = f"{event.position}/{event.total}"
        click.echo(f"{place} {revision.id}  {revision.description} ... ", nl=False)
    else:
        click.echo("done")
