"""`interlock server database backup | check | prune | vacuum`, with a server and without one."""

import json
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from interlock import Client
from interlock_server.storage.dialects import open_database

from tests.end_to_end.commands import Ended, interlock, interlock_on_terminal
from tests.support.postgresql import Postgresql
from tests.support.servers import IN_MEMORY, ServerProcess, sqlite_url
from tests.support.stored import Rows, ago

NOT_ASKED, FOUND = 2, 3


@pytest_asyncio.fixture(params=["sqlite", "postgresql_18"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database with two old runs and a young one."""
    if request.param == "sqlite":
        url = sqlite_url(tmp_path / "interlock.db")
        await fill(url)
        yield url
        return
    postgresql: Postgresql = request.getfixturevalue(request.param)
    with postgresql.database() as url:
        await fill(url)
        yield url


async def fill(url: str) -> None:
    with ServerProcess(url) as server, Client(server.target) as client:
        client.create_flow("nightly")
    rows = Rows()
    flow = rows.flow()
    for days in (40, 35, 1):
        run = rows.run("flow_run", ago(days), flow_id=flow)
        rows.run("task_run", ago(days), flow_run_id=run)
        rows.log(run, 2)
    database = open_database(url)
    await rows.put(database)
    await database.close()


@pytest.fixture(params=["served", "alone"])
def words(request: pytest.FixtureRequest, url: str) -> Iterator[list[str | Path]]:
    """The options that name the database: of a server that runs, or of none."""
    if request.param == "alone":
        nobody = Path("/nonexistent/admin.sock")
        yield ["--database", url, "--admin-socket", nobody]
        return
    with ServerProcess(url) as server:
        yield ["--admin-socket", server.admin_socket]


def database(command: str, *words: str | Path, answer: str = "") -> Ended:
    return interlock("server", "database", command, *words, answer=answer)


def test_runs_are_pruned_after_a_look_and_a_question(words: list[str | Path]) -> None:
    old = ["--older-than", "30d", *words]
    expected = "2 flow runs, 2 task runs, 4 chunks of logs, 0 notes of old deletions"

    looked = database("prune", *old, "--dry-run")
    assert (looked.returncode, looked.stdout) == (0, f"To delete: {expected}.\n")
    unasked = database("prune", *old, answer="y\n")  # no terminal: nobody may have typed that
    assert unasked.returncode == NOT_ASKED
    assert expected in unasked.stderr
    assert "There is no way back but a backup" in unasked.stderr
    done = database("prune", *old, "-y")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Deleted: {expected}.\n"
    again = database("prune", *old, "-y")
    assert (again.returncode, again.stdout[:20]) == (0, "To delete: 0 flow ru")
    logs = database("prune", *words, "--logs-older-than", "1h", "-y")
    assert "Deleted: 0 flow runs, 0 task runs, 2 chunks of logs" in logs.stdout, logs.stderr
    nothing = database("prune", *words, "-y")
    assert (nothing.returncode, "--logs-older-than" in nothing.stderr) == (2, True)
    rest = database("prune", *words, "--older-than", "1h", "-y")
    assert "Deleted: 1 flow runs" in rest.stdout
    checked = database("check", *words)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "All is well.")


@pytest.mark.parametrize(
    ("length", "words_of_it"),
    [("soon", "no length of time"), ("", "no length of time"), ("10m", "at least an hour")],
)
def test_an_age_that_makes_no_sense_is_refused(
    tmp_path: Path, length: str, words_of_it: str
) -> None:
    with ServerProcess() as server:
        done = database("prune", "--older-than", length, "--admin-socket", server.admin_socket)
    assert done.returncode != 0
    assert words_of_it in done.stderr


def test_a_backup_is_made_and_restored_by_being_used(
    words: list[str | Path], url: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copies" / "interlock.db"
    copy.parent.mkdir()
    done = database("backup", copy, *words)
    if url.startswith("postgresql"):
        assert done.returncode == 1
        assert "pg_dump" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert "checked" in done.stdout
    assert "copying pages" in done.stderr
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    again = database("backup", copy, *words)
    assert again.returncode == 1
    assert "exists" in again.stderr
    assert database("backup", copy, *words, "--overwrite").returncode == 0

    with ServerProcess(sqlite_url(copy)) as server:
        looked = database(
            "prune", "--older-than", "30d", "--dry-run", "--admin-socket", server.admin_socket
        )
        assert "2 flow runs" in looked.stdout


def test_a_vacuum_asks_and_says_what_it_gained(words: list[str | Path]) -> None:
    assert database("vacuum", *words, answer="y\n").returncode == NOT_ASKED
    done = database("vacuum", *words, "-y")
    assert done.returncode == 0, done.stderr
    assert "The database takes" in done.stdout


def test_what_is_wrong_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    with ServerProcess() as server, Client(server.target) as client:
        with client.flow_run("nightly"):
            pass
        with closing(sqlite3.connect(server.home / "interlock.db")) as stored, stored:
            stored.execute("UPDATE flow_run SET run_count = 7")
        words: list[str | Path] = ["--admin-socket", server.admin_socket]
        done = database("check", *words)
        assert done.returncode == FOUND
        assert "run count" in done.stdout
        assert "1 wrong" in done.stdout
        told = database("check", "--json", *words)
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert any(event.get("findings") for event in events)
    assert [event["check"] for event in events if event.get("done")] == [
        "integrity",
        "foreign keys",
        "flow runs",
        "task runs",
        "logs",
    ]


@pytest.mark.parametrize("command", [["vacuum", "-y"], ["prune", "--older-than", "30d", "-y"]])
def test_a_database_that_a_server_out_of_reach_serves_is_left_alone(
    command: list[str], tmp_path: Path
) -> None:
    url = sqlite_url(tmp_path / "interlock.db")
    with ServerProcess(url) as server, Client(server.target) as client:
        with client.flow_run("nightly"):
            pass
        done = database(*command, "--database", url, "--admin-socket", tmp_path / "no.sock")
    if command[0] == "prune":
        # There was nothing to delete, and counting disturbs nobody.
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert "Another server serves the database" in done.stderr


@pytest.mark.parametrize("command", [["check"], ["vacuum", "-y"], ["backup", "copy.db"]])
def test_a_database_that_is_not_there_is_one_line_and_none_is_made(
    command: list[str], tmp_path: Path
) -> None:
    url = sqlite_url(tmp_path / "folder" / "interlock.db")
    done = database(*command, "--database", url, "--admin-socket", tmp_path / "no.sock")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "There is no database" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_database_in_memory_is_saved_by_a_backup(tmp_path: Path) -> None:
    with ServerProcess(IN_MEMORY) as server, Client(server.target) as client:
        with client.flow_run("nightly") as run:
            pass
        done = database("backup", tmp_path / "saved.db", "--admin-socket", server.admin_socket)
        assert done.returncode == 0, done.stderr
    saved = ServerProcess(sqlite_url(tmp_path / "saved.db"))
    with saved as server, Client(server.target) as client:
        assert client.get_flow_run(run.id).id == run.id


def test_a_terminal_is_shown_a_bar() -> None:
    with ServerProcess() as server:
        shown = interlock_on_terminal(
            "server", "database", "check", "--admin-socket", server.admin_socket
        )
    assert "━" in shown
    assert "All is well." in shown
