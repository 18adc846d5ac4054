"""`interlock server database revision`, as a contributor types it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from interlock_server.storage import revisions

from tests.end_to_end.commands import TIMEOUT, Ended, environment

REPOSITORY = Path(__file__).parents[2]
HEAD = revisions.history().head
NEXT = f"{int(HEAD) + 1:04}"
FLOW_TABLE = """flow = Table(
    "flow",
    metadata,
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A checkout of its own, for changes."""
    skipped = shutil.ignore_patterns("__pycache__")
    for part in ("service", "migrations", "protos"):
        shutil.copytree(REPOSITORY / part, tmp_path / part, ignore=skipped)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    yield tmp_path
    revisions.history.cache_clear()


def revision(checkout: Path, *words: str) -> Ended:
    # Not by the installed command, which is that of this checkout.
    program = "from interlock_server.cli.main import main; main(prog_name='interlock')"
    return subprocess.run(
        [sys.executable, "-c", program, "server", "database", "revision", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        cwd=checkout,
        env=environment(PYTHONPATH=str(checkout / "service")),
    )


def edit_tables(checkout: Path, before: str, after: str) -> None:
    tables = checkout / "service" / "interlock_server" / "storage" / "tables.py"
    text = tables.read_text()
    assert before in text
    tables.write_text(text.replace(before, after, 1))


def test_what_the_code_has_more_is_written(checkout: Path) -> None:
    owner = '    Column("owner", IdType, index=True),\n'
    edit_tables(checkout, FLOW_TABLE, FLOW_TABLE + owner)
    done = revision(checkout, "-m", "Flows have owners", "--autogenerate")

    assert done.returncode == 0, done.stderr
    file = checkout / "migrations" / "versions" / f"{NEXT}_flows_have_owners.py"
    assert done.stdout.strip() == str(file)
    written = file.read_text()
    assert written.startswith('"""Flows have owners"""\n')
    for part in (
        f'revision = "{NEXT}"',
        f'down_revision = "{HEAD}"',
        'compatible_from = "0.1.0"',
        'op.batch_alter_table("flow"',
        'sa.Column("owner", IdType(), nullable=True)',
        "from interlock_server.storage.types import IdType",
        'drop_column("owner")',
        "ix_flow__owner",
    ):
        assert part in written
    form = [sys.executable, "-m", "ruff"]
    for words in (["check"], ["format", "--check"]):
        subprocess.run([*form, *words, str(file)], check=True, cwd=checkout, capture_output=True)
    # With it, the revisions build all that the code has.
    again = revision(checkout, "-m", "Once more", "--autogenerate")
    assert again.returncode == 1
    assert "nothing to write" in again.stderr


def test_an_empty_one_is_for_what_the_tables_do_not_say(checkout: Path) -> None:
    done = revision(checkout, "-m", "Fill something")
    assert done.returncode == 0, done.stderr
    written = (checkout / "migrations" / "versions" / f"{NEXT}_fill_something.py").read_text()
    assert "def upgrade() -> None:\n    pass\n" in written


def test_outside_of_a_checkout_there_is_nothing_to_write(checkout: Path) -> None:
    package = checkout / "service" / "interlock_server"
    (checkout / "migrations").rename(package / "migrations")
    done = revision(checkout, "-m", "Try", "--autogenerate")
    assert done.returncode == 1
    assert "checkout" in done.stderr
