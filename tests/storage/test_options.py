"""What an operator may choose about a database: that each choice has its effect."""

import asyncio
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from interlock.ids import uuid7
from interlock_server.storage import migrations
from interlock_server.storage.database import Database
from interlock_server.storage.dialects import open_database
from interlock_server.storage.errors import UnavailableError, UnusableDatabaseError
from interlock_server.storage.facts import Needs
from interlock_server.storage.options import DatabaseOptions
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.postgresql import Postgresql
from tests.support.servers import sqlite_url

SOON = 5.0
"""Seconds. Far less than any default would take to show."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "interlock.db"


@pytest.fixture
def on_postgresql(postgresql_18: Postgresql) -> Iterator[str]:
    with postgresql_18.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database of each dialect."""
    if request.param == "sqlite":
        return sqlite_url(request.getfixturevalue("file"))
    postgresql: str = request.getfixturevalue("on_postgresql")
    return postgresql


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Database]:
    """The database with its schema."""
    database = open_database(url, DatabaseOptions(**options))
    try:
        await database.check()
        database.create()
        await migrations.upgrade(database)
        yield database
    finally:
        await database.close()


async def value(database: Database, statement: str) -> Any:
    async def work(connection: AsyncConnection) -> Any:
        return (await connection.execute(text(statement))).scalar_one()

    return await database.read(work)


async def refused(work: Awaitable[object]) -> str:
    """The reason for which something is refused, soon."""
    began = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        await work
    assert time.monotonic() - began < SOON
    return caught.value.reason


@pytest.mark.parametrize("pool_size", [1, 3])
async def test_so_many_reads_go_on_at_once_and_the_next_one_waits_so_long(
    url: str, pool_size: int
) -> None:
    async with opened(url, pool_size=pool_size, pool_timeout=0.1) as database:
        writer = await database.open_writer()
        await writer.begin(Needs())
        await writer.rollback()
        reading, done = asyncio.Semaphore(0), asyncio.Event()

        async def hold(_: AsyncConnection) -> None:
            reading.release()
            await done.wait()

        reads = [asyncio.create_task(database.read(hold)) for _ in range(pool_size)]
        for _ in reads:
            await asyncio.wait_for(reading.acquire(), SOON)
        assert await refused(database.read(hold)) == "DATABASE_BUSY"
        done.set()
        await asyncio.gather(*reads)
        await writer.close()


SLOW = {
    "sqlite": (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    ),
    "postgresql": "SELECT pg_sleep(60)",
}


async def test_a_read_that_takes_too_long_is_ended(url: str) -> None:
    async with opened(url, read_timeout=0.1) as database:
        reason = await refused(value(database, SLOW[database.dialect]))
        assert reason in ("READ_TIMEOUT", "DATABASE_TIMEOUT")
        assert await value(database, "SELECT 1") == 1


async def test_a_batch_waits_so_long_for_the_lock_of_a_sqlite_file(file: Path) -> None:
    async with opened(sqlite_url(file), lock_timeout=0.2) as database:
        writer = await database.open_writer()
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert await refused(writer.begin(Needs())) == "DATABASE_LOCKED"
        assert time.monotonic() - began >= 0.2
        other.close()
        await writer.begin(Needs())
        await writer.rollback()
        await writer.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lock_timeout": 0.1}, "DATABASE_LOCKED"),
        ({"statement_timeout": 0.1, "lock_timeout": 60.0}, "DATABASE_TIMEOUT"),
    ],
)
async def test_a_batch_waits_so_long_for_a_lock_and_for_a_statement_of_postgresql(
    on_postgresql: str, options: dict[str, float], reason: str
) -> None:
    async with opened(on_postgresql, **options) as database:
        writer = await database.open_writer()
        plain = make_url(on_postgresql).set(drivername="postgresql")
        other = await asyncpg.connect(plain.render_as_string(hide_password=False))
        needs = Needs()
        needs.flows_to_write.add(uuid7())
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE flow IN ACCESS EXCLUSIVE MODE")
                assert await refused(writer.begin(needs)) == reason
            await writer.begin(needs)
            await writer.rollback()
        finally:
            await other.close()
            await writer.close()


Step = Callable[[Database], Awaitable[object]]


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda database: database.check(), id="read"),
        pytest.param(lambda database: database.open_writer(), id="writer"),
        pytest.param(lambda database: database.migrate(lambda _: None), id="migrate"),
    ],
)
async def test_a_postgresql_that_takes_calls_and_says_nothing_counts_as_away(step: Step) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        database = open_database(
            f"postgresql://me:secret@127.0.0.1:{port}/db", DatabaseOptions(connect_timeout=0.2)
        )
        assert await refused(step(database)) == "DATABASE_UNAVAILABLE"
        await database.close()


async def test_each_connection_to_sqlite_may_keep_so_much_of_the_file(file: Path) -> None:
    async with opened(sqlite_url(file), sqlite_cache_mib=7) as database:
        assert await value(database, "PRAGMA cache_size") == -7 * 1024


@pytest.mark.parametrize(
    "options", [{}, {"lock_timeout": 1.0, "pool_size": 1, "sqlite_cache_mib": 1}]
)
async def test_a_commit_to_sqlite_is_durable_whatever_is_chosen(
    file: Path, options: dict[str, Any]
) -> None:
    async with opened(sqlite_url(file), **options) as database:
        assert await value(database, "PRAGMA journal_mode") == "wal"
        assert await value(database, "PRAGMA synchronous") == 2  # FULL


async def test_a_url_names_the_application_and_keeps_statements_off_a_pooler(
    on_postgresql: str,
) -> None:
    url = f"{on_postgresql}?application_name=mine&statement_cache_size=0"
    async with opened(f"{url}&prepared_statement_cache_size=0") as database:
        writer = await database.open_writer()
        named = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mine'"
        # The one that asks, and the writer.
        assert await value(database, f"{named} AND datname = current_database()") == 2
        assert await value(database, "SELECT count(*) FROM pg_prepared_statements") == 0
        await writer.close()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("timeout=5", "options that are not known: timeout. Known are application_name, "),
        ("sslmode=always", "TLS mode 'always' is not known; there are disable, prefer, require"),
        ("statement_cache_size=some", "statement_cache_size has to be a whole number"),
    ],
)
def test_an_option_in_a_url_that_nobody_understands_is_refused(query: str, words: str) -> None:
    with pytest.raises(UnusableDatabaseError, match=words):
        open_database(f"postgresql://me:secret@host/db?{query}")
