"""Releases of Interlock with further revisions of the schema, made for a test.

In the test's own process: `Release.install`. As processes: `python -m tests.support.revisions` with
the command's own arguments, in the environment that `Release.environment` gives.
"""

import os
import shutil
import sys
import threading
from pathlib import Path
from textwrap import indent

import pytest
from interlock_server.storage import revisions

from tests.support.server_main import end_with_owner

_FOLDER, _VERSION = "RELEASE_FOLDER", "RELEASE_VERSION"

_REVISION = '''"""{words}"""

import sqlalchemy as sa
from alembic import op
from interlock_server.storage.migration_tools import backfill, build_index, drop_index

revision = "{id}"
down_revision = "{before}"
branch_labels = None
depends_on = None
compatible_from = "{floor}"
required = {required}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
'''


class Release:
    """A release with the real revisions, or the first of them, and some more."""

    def __init__(self, folder: Path, version: str = "0.1.0", *, only_first: bool = False) -> None:
        self.folder = folder / "migrations"
        self.version = version
        first, *others = (each.id for each in revisions.history().revisions)
        left_out = [f"{id_}_*.py" for id_ in others] if only_first else []
        skipped = shutil.ignore_patterns("__pycache__", *left_out)
        shutil.copytree(revisions.folder(), self.folder, ignore=skipped)
        self._last = first if only_first else revisions.history().head

    def add(
        self,
        id_: str,
        upgrade: str,
        downgrade: str = "pass",
        *,
        floor: str = "0.1.0",
        required: bool = True,
    ) -> None:
        """Add a revision after the last one; `upgrade` and `downgrade` are Python."""
        text = _REVISION.format(
            words=f"Try {id_}",
            id=id_,
            before=self._last,
            floor=floor,
            required=required,
            upgrade=indent(upgrade.strip("\n"), "    "),
            downgrade=indent(downgrade.strip("\n"), "    "),
        )
        (self.folder / "versions" / f"{id_}.py").write_text(text)
        self._last = id_
        revisions.history.cache_clear()

    @property
    def environment(self) -> dict[str, str]:
        """What makes `python -m tests.support.revisions` this release."""
        return {_FOLDER: str(self.folder), _VERSION: self.version}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this process this release. Whoever does clears `revisions.history` at the end."""
        monkeypatch.setattr(revisions, "folder", lambda: self.folder)
        monkeypatch.setattr(revisions, "server_version", lambda: self.version)
        revisions.history.cache_clear()


def _main() -> None:
    from interlock_server.cli.main import main

    folder, version = Path(os.environ[_FOLDER]), os.environ[_VERSION]
    revisions.folder = lambda: folder
    revisions.server_version = lambda: version  # type: ignore[assignment]
    if "start" in sys.argv:
        threading.Thread(target=end_with_owner, name="owner", daemon=True).start()
    main(prog_name="interlock")


if __name__ == "__main__":
    _main()
