"""The databases that tests stand on are what they are said to be."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import asyncpg
import pytest
from sqlalchemy import make_url

from tests.support.needs import Unavailable, go_without
from tests.support.postgresql import NEWEST, OLDEST, Postgresql, PostgresqlServer


@pytest.fixture(params=[OLDEST, NEWEST], ids=lambda major: f"postgresql-{major}")
def postgresql(request: pytest.FixtureRequest) -> Postgresql:
    server: Postgresql = request.getfixturevalue(f"postgresql_{request.param}")
    if server.major != request.param:
        pytest.skip(f"PostgreSQL {server.version} stands in for {request.param}")
    return server


@pytest.fixture(params=[OLDEST, NEWEST], ids=lambda major: f"postgresql-{major}")
def own_server(request: pytest.FixtureRequest) -> Iterator[PostgresqlServer]:
    try:
        server = PostgresqlServer(request.param, durable=True)
    except Unavailable as reason:
        go_without("POSTGRESQL", reason)
    with server:
        yield server


async def connect(url: str) -> asyncpg.Connection:
    parts = make_url(url).set(drivername="postgresql")
    return await asyncpg.connect(parts.render_as_string(hide_password=False))


async def is_refused(url: str) -> None:
    """Return once nobody listens any more; a server that is shutting down does for a while."""
    while True:
        try:
            connection = await connect(url)
        except ConnectionRefusedError:
            return
        except (asyncpg.CannotConnectNowError, ConnectionResetError):
            await asyncio.sleep(0.01)
        else:
            await connection.close()


async def test_trigrams_can_be_had(postgresql: Postgresql) -> None:
    with postgresql.database() as url:
        connection = await connect(url)
        await connection.execute("CREATE EXTENSION pg_trgm")
        assert await connection.fetchval("SELECT similarity('interlock', 'interlocks') > 0.5")
        await connection.close()


async def test_two_databases_are_apart(postgresql: Postgresql) -> None:
    with postgresql.database() as one, postgresql.database() as other:
        in_one, in_other = await connect(one), await connect(other)
        await in_one.execute("CREATE TABLE only_here ()")
        with pytest.raises(asyncpg.UndefinedTableError):
            await in_other.execute("SELECT FROM only_here")
        # Left open: dropping a database cuts them off.


async def test_nobody_enters_without_the_password(postgresql: Postgresql) -> None:
    url = postgresql.url.set(password="guessed").render_as_string(hide_password=False)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(url)


@pytest.mark.parametrize("interruption", [PostgresqlServer.stop, PostgresqlServer.kill])
async def test_what_is_committed_outlasts_the_server(
    own_server: PostgresqlServer, interruption: Callable[[PostgresqlServer], None]
) -> None:
    url = own_server.create_database("kept")
    before = await connect(url)
    await before.execute("CREATE TABLE kept AS SELECT 42 AS number")

    interruption(own_server)
    with pytest.raises(ConnectionRefusedError):
        await connect(url)
    own_server.start()

    after = await connect(url)
    assert await after.fetchval("SELECT number FROM kept") == 42
    assert await after.fetchval("SHOW fsync") == "on"
    await after.close()


async def test_a_server_does_not_outlive_its_owner() -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.postgresql", "--no-durable", stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    url = (await owner.stdout.readline()).decode().strip()
    connection = await connect(url)
    ended = asyncio.Event()
    connection.add_termination_listener(lambda _: ended.set())

    owner.kill()
    await owner.wait()

    async with asyncio.timeout(10):
        await ended.wait()
        await is_refused(url)


def run_on_sqlite(statement: str, environment: dict[str, str]) -> str:
    """What a new process gets for a statement: its first value, or the error."""
    program = f"""
import sqlite3
try:
    print(sqlite3.connect(":memory:").execute({statement!r}).fetchone()[0])
except sqlite3.OperationalError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ("SELECT sqlite_version()", "3.24.0"),
        ("INSERT INTO t VALUES (1) RETURNING 1", 'near "RETURNING": syntax error'),
        ("SELECT row_number() OVER ()", 'near "(": syntax error'),
        ("SELECT json('{}')", "no such function: json"),
    ],
)
def test_sqlite_is_as_old_as_it_gets(
    statement: str, answer: str, sqlite_324_environment: dict[str, str]
) -> None:
    assert run_on_sqlite(statement, sqlite_324_environment) == answer
