"""`interlock server database`: the schema, with a server that runs and without one."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from interlock import Client
from interlock_server.storage import revisions
from sqlalchemy import make_url

from tests.end_to_end.commands import TIMEOUT, Ended, environment, interlock, on_terminal
from tests.end_to_end.next_release import REVISION, NextServer
from tests.end_to_end.test_server_start import (
    NOT_SERVING,
    health,
    refused,
    wait_until_serving,
)
from tests.support.postgresql import Postgresql, ports
from tests.support.servers import ServerProcess, sqlite_url
from tests.support.stubs import connected

REAL = [revision.id for revision in revisions.history().revisions]
CURRENT, UNREACHABLE, NOT_ASKED, NEEDS_UPGRADE, NEEDS_NEWER_SERVER = range(5)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "interlock.db")
        return
    postgresql: Postgresql = request.getfixturevalue("postgresql_18")
    with postgresql.database() as database_url:
        yield database_url


@pytest.fixture
def old(url: str) -> str:
    """A database with the schema of this release, and a flow in it."""
    with ServerProcess(url) as server, Client(server.target) as client:
        client.create_flow("kept")
    return url


def database(command: str, *words: str | Path, url: str, answer: str = "") -> Ended:
    """Run this release's command without a server."""
    return _run("interlock_server.cli.main", command, *words, url=url, answer=answer)


def next_database(command: str, *words: str | Path, url: str, answer: str = "") -> Ended:
    """Run the next release's command without a server."""
    return _run("tests.end_to_end.next_release", command, *words, url=url, answer=answer)


def _on_terminal(command: str, *words: str, url: str, answer: str) -> tuple[int, str]:
    """Run the next release's command on a terminal of its own, and type an answer."""
    start = [sys.executable, "-m", "tests.end_to_end.next_release", "server", "database", command]
    return on_terminal(
        [*start, "--database", url, *words],
        answer=answer,
        environment=environment(INTERLOCK_HOME="/nonexistent"),
        folder=Path(__file__).parents[2],
    )


def _run(module: str, command: str, *words: str | Path, url: str, answer: str) -> Ended:
    if module == "interlock_server.cli.main":
        start = [str(Path(sys.executable).with_name("interlock"))]
    else:
        start = [sys.executable, "-m", module]
    return subprocess.run(
        [*start, "server", "database", command, "--database", url, *map(str, words)],
        input=answer,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environment(INTERLOCK_HOME="/nonexistent"),
        cwd=Path(__file__).parents[2],
    )


def test_status_and_upgrade_without_a_server(url: str) -> None:
    before = database("status", url=url)
    assert before.returncode == NEEDS_UPGRADE
    assert "revision  none" in before.stdout
    assert before.stdout.endswith("To do: interlock server database upgrade\n")

    # An empty database holds nothing that one would ask about.
    upgraded = database("upgrade", url=url)
    assert upgraded.returncode == 0, upgraded.stderr
    lines = upgraded.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        [f"{place}/{len(REAL)}", id_] for place, id_ in enumerate(REAL, 1)
    ]
    assert lines[0].endswith("... done")

    assert database("status", url=url).returncode == CURRENT
    again = database("upgrade", url=url)
    assert (again.returncode, again.stderr) == (0, "")
    assert "Nothing to do" in again.stdout


def test_the_status_shows_no_password(old: str) -> None:
    password = make_url(old).password
    done = database("status", url=old)

    assert done.returncode == CURRENT
    for name in ("dialect", "version", "database", "revision", "head"):
        assert f"\n{name} " in f"\n{done.stdout}"
    assert not password or password not in done.stdout


def test_the_status_for_scripts(old: str) -> None:
    found = json.loads(next_database("status", "--json", url=old).stdout)

    assert found["current_revision"] == REAL[-1]
    assert found["head_revision"] == REVISION
    assert [revision["id"] for revision in found["pending"]] == [REVISION]


def test_an_upgrade_asks_before_it_changes_a_database_that_is_used(old: str) -> None:
    code, written = _on_terminal("upgrade", url=old, answer="n")
    assert code == 1
    assert f"from {REAL[-1]} to next?" in written
    # A script that can not answer is told what to do.
    nobody = next_database("upgrade", url=old, answer="y\n")
    assert nobody.returncode == NOT_ASKED
    assert "Give -y for yes" in nobody.stderr
    assert next_database("status", url=old).returncode == NEEDS_UPGRADE

    code, written = _on_terminal("upgrade", url=old, answer="y")
    assert code == 0, written
    assert next_database("status", url=old).returncode == CURRENT


def test_a_server_whose_schema_is_behind_serves_by_itself_after_the_upgrade(old: str) -> None:
    with NextServer(old) as server, connected(server.target) as stubs:
        assert health(stubs) == NOT_SERVING
        assert "interlock server database upgrade" in refused(stubs)
        ask = ["--admin-socket", str(server.admin_socket)]
        # This release's command, the next release's server: it is the server that knows.
        status = interlock("server", "database", "status", *ask)
        assert status.returncode == NEEDS_UPGRADE
        assert f"pending   {REVISION}  What the next release adds." in status.stdout

        upgraded = interlock("server", "database", "upgrade", "--yes", *ask)
        assert upgraded.returncode == 0, upgraded.stderr
        assert f"1/1 {REVISION}  What the next release adds. ... done" in upgraded.stdout
        wait_until_serving(stubs)
        with Client(server.target) as client:
            assert client.get_flow(name="kept").name == "kept"
        assert interlock("server", "database", "status", *ask).returncode == CURRENT


def test_a_server_that_meets_a_newer_schema_says_that_it_needs_a_newer_server(old: str) -> None:
    assert next_database("upgrade", "-y", url=old).returncode == 0

    with ServerProcess(old) as server, connected(server.target) as stubs:
        assert health(stubs) == NOT_SERVING
        assert "run a newer server" in refused(stubs)
        for command in ("status", "upgrade"):
            done = interlock("server", "database", command, "--admin-socket", server.admin_socket)
            assert done.returncode == NEEDS_NEWER_SERVER
            assert "run a newer server" in done.stdout + done.stderr
    assert database("upgrade", "-y", url=old).returncode == NEEDS_NEWER_SERVER


def test_a_server_of_another_database_is_left_alone(
    interlock_on_sqlite_file: ServerProcess, url: str
) -> None:
    socket = interlock_on_sqlite_file.admin_socket
    done = database("upgrade", "--admin-socket", socket, url=url)

    assert done.returncode == 0, done.stderr
    assert "serves another database" in done.stderr
    assert database("status", url=url).returncode == CURRENT


def test_a_database_that_a_server_out_of_reach_serves_is_not_upgraded_behind_its_back(
    tmp_path: Path,
) -> None:
    url = sqlite_url(tmp_path / "interlock.db")
    with ServerProcess(url):
        done = next_database("upgrade", "-y", url=url)
    assert done.returncode == 1
    assert "Another server serves the database" in done.stderr


def test_looking_at_a_database_that_is_not_there_makes_none(tmp_path: Path) -> None:
    done = database("status", url=sqlite_url(tmp_path / "folder" / "interlock.db"))

    assert done.returncode == NEEDS_UPGRADE
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["status", "upgrade"])
def test_a_database_that_can_not_be_reached_is_one_line(command: str) -> None:
    away = f"postgresql://user:s3cret@127.0.0.1:{ports.free()}/x"
    done = database(command, url=away)

    assert (done.returncode, done.stdout) == (UNREACHABLE, "")
    assert len(done.stderr.splitlines()) == 1
    assert "can not be reached" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "wrong"}, "are user and password right?"),
        ({"database": "nowhere"}, "make it with CREATE DATABASE"),
        ({"host": "nowhere.invalid"}, "Its host name is not known"),
        ({"port": 1}, "is PostgreSQL running there?"),
    ],
)
def test_what_keeps_postgresql_out_of_reach_is_said_with_what_to_do(
    postgresql_18: Postgresql, change: dict[str, Any], said: str
) -> None:
    with postgresql_18.database("reach") as url:
        wrong = make_url(url).set(**change).render_as_string(hide_password=False)
        done = database("status", url=wrong)
        assert done.returncode == UNREACHABLE
        assert said in done.stderr
        assert "***" in done.stderr
