"""Writing the file of a new revision, for contributors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from alembic import command
from sqlalchemy import Connection

from interlock_server.storage import migrations, sqlite_migrating
from interlock_server.storage.errors import StorageError
from interlock_server.storage.revisions import (
    alembic_config,
    folder,
    history,
    parse_version,
    server_version,
)


class NoNewRevisionError(StorageError):
    """No file was written; the message says why."""


async def write_revision(message: str, autogenerate: bool) -> Path:
    """Write a revision that comes after the newest one; answer its file.

    `autogenerate` fills it with what the tables of the code have that the revisions before it do
    not build. They are built in memory for that: no database is asked. Raises NoNewRevisionError.
    """
    if not (folder().parent / "protos").is_dir():
        raise NoNewRevisionError(
            f"A revision is a file of Interlock's source code, and {folder()} is an installed "
            "copy. Run this in a checkout of the repository, as docs/migrations.md tells."
        )
    number = len(history().revisions) + 1

    def write(connection: Connection) -> Path | None:
        config = alembic_config(
            connection=connection,
            template_args={"compatible_from": _release()},
            on_new_revision=_refuse_empty if autogenerate else None,
        )
        # Without the `%%`, the configuration would take its own meaning from them.
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        config.set_main_option("revision_environment", "true")
        config.print_stdout = lambda *_: None  # type: ignore[method-assign]
        script = command.revision(
            config, message, autogenerate=autogenerate, rev_id=f"{number:04d}"
        )
        return None if script is None else Path(script.path)  # type: ignore[union-attr]

    async with sqlite_migrating.scratch() as scratch:
        await migrations.build(scratch, history(), history().head)
        file = await scratch.run(write)
    if file is None:
        raise NoNewRevisionError(
            "The tables of the code are those that the revisions build: there is nothing to write."
        )
    _format(file)
    return file


def _release() -> str:
    numbers = [*parse_version(server_version()), 0, 0, 0][:3]
    return ".".join(map(str, numbers))


def _refuse_empty(context: Any, revision: Any, directives: list[Any]) -> None:
    if directives[0].upgrade_ops.is_empty():
        directives[:] = []


def _format(file: Path) -> None:
    """Bring a file into the form of the code, if the tool is there, as it is in a checkout."""
    for words in (["check", "--quiet", "--fix"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *words, str(file)], check=False)
