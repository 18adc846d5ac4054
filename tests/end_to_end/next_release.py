"""An Interlock of the next release: its schema has one revision more than this one's.

Run as a module with the command's own arguments. So long as there is but one revision, it is the
only way to meet a database that is behind.
"""

import shutil
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from interlock_server.cli.main import main
from interlock_server.storage import migrations

from tests.support.server_main import end_with_owner
from tests.support.servers import ServerProcess

REVISION = "next"

_SCRIPT = '''
"""What the next release adds."""
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("of_the_next_release", sa.Column("id", sa.Integer, primary_key=True))
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
        shutil.copytree(migrations.folder(), folder)
        script = _SCRIPT.format(revision=REVISION, head=migrations.head_revision())
        (folder / "versions" / f"{REVISION}.py").write_text(script)
        migrations.head_revision.cache_clear()
        migrations.folder = lambda: folder
        main(prog_name="interlock")


if __name__ == "__main__":
    if "start" in sys.argv:
        threading.Thread(target=end_with_owner, name="owner", daemon=True).start()
    _main()
