"""Writing the file of a new revision, for contributors."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from alembic import command
from alembic.script import Script
from sqlalchemy import Connection

from interlock_server.storage import migrations
from interlock_server.storage.errors import StorageError
from interlock_server.storage.revisions import (
    alembic_config,
    folder,
    history,
    parse_version,
    server_version,
)
from interlock_server.storage.sqlite import migrating


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
        config.cmd_opts = Namespace(quiet=True)
        script = command.revision(
            config, message, autogenerate=autogenerate, rev_id=f"{number:04d}"
        )
        return Path(script.path) if isinstance(script, Script) else None

    async with migrating.scratch() as scratch:
        await migrations.build(scratch, history(), history().head)
        file = await scratch.run(write)
    if file is None:
        raise NoNewRevisionError(
            "The tables of the code are those that the revisions build: there is nothing to write."
        )
    _tidy(file, unused=autogenerate)
    return file


def _release() -> str:
    numbers = [*parse_version(server_version()), 0, 0, 0][:3]
    return ".".join(map(str, numbers))


def _refuse_empty(context: Any, revision: Any, directives: list[Any]) -> None:
    if directives[0].upgrade_ops.is_empty():
        directives[:] = []


def _tidy(file: Path, unused: bool) -> None:
    """Drop Alembic's remarks, and bring a file into the form of the code.

    The tool for that is there where Interlock is developed. `unused` drops imports that nothing
    uses: in a file that is to be filled by hand they will be of use.
    """
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "# ### " not in line))
    rules = [] if unused else ["--select", "I"]
    for words in (["check", "--quiet", "--fix", *rules], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *words, str(file)], check=False)
