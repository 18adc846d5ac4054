"""`interlock server start`: what it refuses, what it waits for, and how it ends."""

import asyncio
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2
from interlock import Client
from interlock.ids import uuid7
from interlock.v1.flow_run_pb2 import FlowRunServiceSetStateRequest
from interlock.v1.log_pb2 import TAIL_END_SERVER_DRAINING, TailLogsRequest
from interlock.v1.server_pb2 import GetServerInfoRequest
from interlock.v1.state_pb2 import (
    STATE_TYPE_RUNNING,
    VERDICT_ACCEPT,
    Proposal,
    StateDraft,
)
from sqlalchemy import make_url

from tests.end_to_end.commands import Ended, interlock
from tests.support.postgresql import NEWEST, Postgresql, PostgresqlServer, ports
from tests.support.servers import ServerProcess, sqlite_url
from tests.support.stubs import Stubs, connected

OPEN_FLAG = "--open-to-network-without-encryption-or-login"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_DEADLINE = 30.0
"""Seconds for what takes one or two."""


def start(home: Path, *options: str | Path) -> Ended:
    """Start a server that does not come to serve, and answer how it ended."""
    return interlock("server", "start", "--port", "0", *options, variables=settings(home))


def settings(home: Path) -> dict[str, str]:
    return {"INTERLOCK_HOME": str(home)}


def refusal(done: Ended) -> str:
    """The error's words: one line, and no traceback."""
    assert done.returncode == 1, done
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith('{"')]
    assert line.startswith("Error: ")
    return line


def execute(url: str, *statements: str) -> None:
    """Run statements in a PostgreSQL database."""

    async def run() -> None:
        plain = make_url(url).set(drivername="postgresql")
        connection = await asyncpg.connect(plain.render_as_string(hide_password=False))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


def health(stubs: Stubs) -> Any:
    return stubs.health.Check(health_pb2.HealthCheckRequest()).status


def wait_until_serving(stubs: Stubs) -> None:
    """Wait for the server's own word that it serves."""
    watch = stubs.health.Watch(health_pb2.HealthCheckRequest(), timeout=_DEADLINE)
    for answer in watch:
        if answer.status == SERVING:
            watch.cancel()
            return


def refused(stubs: Stubs) -> str:
    """Make a call that must be answered UNAVAILABLE, and answer the words."""
    with pytest.raises(grpc.RpcError) as error:
        stubs.server.GetServerInfo(GetServerInfoRequest())
    call: Any = error.value
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    return str(call.details())


# Addresses


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_an_address_that_others_reach_takes_a_flag_in_plain_words(
    tmp_path: Path, host: str
) -> None:
    done = start(tmp_path, "--host", host)

    assert OPEN_FLAG in refusal(done)
    assert not list(tmp_path.iterdir())


def test_the_flag_opens_the_server_to_others() -> None:
    with ServerProcess(options=["--host", "0.0.0.0", OPEN_FLAG]) as server:
        assert f"listens on 0.0.0.0:{server.port}" in server.log


def test_a_port_in_use_is_refused(interlock_on_sqlite_file: ServerProcess, tmp_path: Path) -> None:
    port = interlock_on_sqlite_file.port
    words = refusal(start(tmp_path, "--port", str(port)))

    assert f"127.0.0.1:{port} is not free" in words
    assert "--port" in words


def test_an_admin_socket_in_use_is_refused_and_stays_its_owners(
    interlock_on_sqlite_file: ServerProcess, tmp_path: Path
) -> None:
    socket = interlock_on_sqlite_file.admin_socket
    words = refusal(start(tmp_path, "--admin-socket", socket))

    assert str(socket) in words
    status = interlock("server", "database", "status", "--admin-socket", socket)
    assert interlock_on_sqlite_file.database_url in status.stdout


def test_an_admin_socket_that_a_killed_server_left_is_taken_over() -> None:
    with ServerProcess() as server:
        server.kill()
        assert server.admin_socket.exists()
        server.start()
        done = interlock("server", "database", "status", "--admin-socket", server.admin_socket)
        assert done.returncode == 0


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    assert "too long" in refusal(start(tmp_path, "--admin-socket", tmp_path / ("x" * 100)))


def test_home_and_admin_socket_are_for_their_owner_only() -> None:
    with ServerProcess() as parent:
        home = parent.home / "new"
        options = ["--admin-socket", str(home / "admin.sock")]
        with ServerProcess(sqlite_url(home / "interlock.db"), options=options):
            assert stat.S_IMODE((home / "admin.sock").stat().st_mode) == 0o600
            assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("variable", "value"), [("INTERLOCK_PORT", "many"), ("INTERLOCK_LOG_LEVEL", "LOUD")]
)
def test_a_setting_that_makes_no_sense_is_named(tmp_path: Path, variable: str, value: str) -> None:
    done = interlock("server", "start", variables=settings(tmp_path) | {variable: value})

    assert done.returncode == 2
    assert variable in done.stderr


# Databases


def test_a_second_server_on_a_sqlite_file_is_refused(
    interlock_on_sqlite_file: ServerProcess, tmp_path: Path
) -> None:
    url = interlock_on_sqlite_file.database_url

    assert "Another server serves the database" in refusal(start(tmp_path, "--database", url))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("no url at all", "can not be read"),
        ("mysql+aiomysql://localhost/x", "'mysql+aiomysql' is not supported"),
        ("postgresql+psycopg://user:s3cret@localhost/x", "'postgresql+psycopg' is not supported"),
        ("postgresql://user:s3cret@localhost:port/x", "can not be read"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_password(
    tmp_path: Path, url: str, words: str
) -> None:
    done = start(tmp_path, "--database", url)

    assert done.returncode == 2
    assert words in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite+aiosqlite:////proc/nowhere/interlock.db", "/proc/nowhere"),
        ("postgresql://user:s3cret@localhost/x?sslmode=always", "TLS mode 'always' is not known"),
    ],
)
def test_a_url_that_can_not_serve_is_refused_without_its_password(
    tmp_path: Path, url: str, words: str
) -> None:
    done = start(tmp_path, "--database", url)

    assert words in refusal(done)
    assert "s3cret" not in done.stderr


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Not a database, but long enough to have a header. " * 50)
    before = file.read_bytes()

    assert str(file) in refusal(start(tmp_path, "--database", sqlite_url(file)))
    assert file.read_bytes() == before


def test_a_folder_in_the_place_of_the_database_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(start(tmp_path, "--database", sqlite_url(tmp_path)))


def test_a_file_in_the_place_of_the_home_folder_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.touch()

    assert str(home) in refusal(start(home))


@pytest.fixture
def stranger(postgresql_18: Postgresql) -> Iterator[str]:
    """The URL of a database in which its user may make nothing."""
    user = f"stranger_{uuid7().replace('-', '')}"
    with postgresql_18.database() as url:
        execute(url, f"CREATE USER {user} PASSWORD 's3cret'")
        yield make_url(url).set(username=user, password="s3cret").render_as_string(False)
        execute(url, f"DROP OWNED BY {user}", f"DROP USER {user}")


def test_pg_trgm_that_the_user_may_not_enable_is_refused_with_what_to_do(
    stranger: str, tmp_path: Path
) -> None:
    done = start(tmp_path, "--database", stranger)

    assert "CREATE EXTENSION pg_trgm" in refusal(done)
    assert "s3cret" not in done.stderr


def test_tables_that_the_user_may_not_make_are_refused(
    stranger: str, postgresql_18: Postgresql, tmp_path: Path
) -> None:
    name = make_url(stranger).database
    assert name is not None
    execute(
        postgresql_18.database_url(name),
        "CREATE EXTENSION pg_trgm",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    words = refusal(start(tmp_path, "--database", stranger))

    assert "The tables can not be made" in words
    assert "permission denied" in words


def test_a_postgresql_that_is_away_at_the_start_is_waited_for_and_then_migrated() -> None:
    with PostgresqlServer(NEWEST) as postgresql:
        url = postgresql.create_database("late")
        postgresql.stop()
        with ServerProcess(url) as server, connected(server.target) as stubs:
            assert health(stubs) == NOT_SERVING
            assert "The database can not be reached" in refused(stubs)
            postgresql.start()
            wait_until_serving(stubs)
            with Client(server.target) as client:
                assert client.create_flow("first").name == "first"


# Ending


def test_a_server_whose_database_never_comes_ends_in_order_when_told() -> None:
    away = f"postgresql://user:s3cret@127.0.0.1:{ports.free()}/x"
    with ServerProcess(away) as server, connected(server.target) as stubs:
        assert "The database can not be reached" in refused(stubs)
        server.stop()
        assert "s3cret" not in server.log


def _running_flow_run(target: str) -> str:
    with Client(target) as client:
        run = client.create_flow_run(client.create_flow("drained"))
        client.set_flow_run_state(run.id, "running")
        return run.id


def test_a_tail_in_progress_is_told_that_the_server_goes_away() -> None:
    with ServerProcess() as server, connected(server.target) as stubs:
        run_id = _running_flow_run(server.target)
        tail = stubs.logs.TailLogs(TailLogsRequest(run_id=run_id))
        # The server has the call: it answers later ones on the same connection.
        stubs.server.GetServerInfo(GetServerInfoRequest())
        with ThreadPoolExecutor(1) as thread:
            stopping = thread.submit(server.stop)
            answers = list(tail)
            stopping.result()
        assert answers[-1].end == TAIL_END_SERVER_DRAINING


def test_a_call_in_flight_is_answered_before_the_server_ends() -> None:
    with ServerProcess() as server, connected(server.target) as stubs:
        run_id = _running_flow_run(server.target)
        other = sqlite3.connect(server.home / "interlock.db", isolation_level=None)
        # Another program holds the write lock: the proposal can not be committed yet.
        other.execute("BEGIN IMMEDIATE")
        draft = StateDraft(type=STATE_TYPE_RUNNING, name="Again")
        proposal = Proposal(id=uuid7(), run_id=run_id, state=draft, force=True)
        call = stubs.flow_runs.SetState.future(FlowRunServiceSetStateRequest(proposal=proposal))
        stubs.server.GetServerInfo(GetServerInfoRequest())
        with ThreadPoolExecutor(1) as thread:
            stopping = thread.submit(server.stop)
            _wait(lambda: "Stopping" in server.log)
            assert not call.done()
            other.execute("ROLLBACK")
            assert call.result(_DEADLINE).decision.verdict == VERDICT_ACCEPT
            stopping.result()
        other.close()
        server.start()
        with Client(server.target) as client:
            assert client.get_flow_run(run_id).state.name == "Again"


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)
