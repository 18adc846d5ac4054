"""An Interlock of the next release: its schema has one revision more than this one's.

Run as a module with the command's own arguments. Before it, every database of today is behind.
"""

import os
import shutil
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from interlock_server.cli.main import main
from interlock_server.storage import revisions

from tests.support.server_main import end_with_owner
from tests.support.servers import ServerProcess

REVISION = "next"

VERSION = "0.2.0"

FLOOR_VARIABLE = "NEXT_RELEASE_FLOOR"
"""The environment variable that says which version can serve the new schema; else only the next."""

_SCRIPT = '''
"""What the next release adds."""
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{head}"
branch_labels = None
depends_on = None
compatible_from = "{floor}"


def upgrade() -> None:
    op.create_table("of_the_next_release", sa.Column("id", sa.Integer, primary_key=True))


def downgrade() -> None:
    op.drop_table("of_the_next_release")
'''


class NextServer(ServerProcess):
    """A server of the next release."""

    @property
    def _command(self) -> list[str]:
        command = super()._command
        module = command.index("-m") + 1
        return [*command[:module], "tests.end_to_end.next_release", *command[module + 1 :]]


def _main() -> None:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "migrations"
        shutil.copytree(revisions.folder(), folder)
        floor = os.environ.get(FLOOR_VARIABLE, VERSION)
        script = _SCRIPT.format(revision=REVISION, head=revisions.history().head, floor=floor)
        (folder / "versions" / f"{REVISION}.py").write_text(script)
        revisions.history.cache_clear()
        revisions.folder = lambda: folder
        revisions.server_version = lambda: VERSION  # type: ignore[assignment]
        main(prog_name="interlock")


if __name__ == "__main__":
    if "start" in sys.argv:
        threading.Thread(target=end_with_owner, name="owner", daemon=True).start()
    _main()
