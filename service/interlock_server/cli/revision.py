"""`interlock server database revision`: the file of a new revision, for contributors."""

from __future__ import annotations

import asyncio

import click


@click.command()
@click.option("-m", "--message", required=True, help="What it does, in a line.")
@click.option(
    "--autogenerate",
    is_flag=True,
    help="Fill it with what the code's tables have and the revisions do not build.",
)
def revision(message: str, autogenerate: bool) -> None:
    """Write the file of a new revision. Only in a checkout of Interlock's source code.

    `docs/migrations.md` tells how to go on from there. No database is asked or changed.
    """
    from interlock_server.storage.new_revision import NoNewRevisionError, write_revision

    try:
        file = asyncio.run(write_revision(message, autogenerate))
    except NoNewRevisionError as error:
        raise click.ClickException(str(error)) from None
    click.echo(file)
