"""The proxy cuts where it is told to."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import make_url

from tests.support.postgresql import Postgresql
from tests.support.proxy import Cut, PostgresqlProxy


async def _connect(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    return connection


@pytest.mark.parametrize(("cut", "written"), [(Cut.BEFORE_COMMIT, 0), (Cut.AFTER_COMMIT, 1)])
async def test_a_cut_at_commit(postgresql_18: Postgresql, cut: Cut, written: int) -> None:
    with postgresql_18.database() as url:
        async with PostgresqlProxy(url) as proxy:
            connection = await _connect(proxy.url)
            await connection.execute("CREATE TABLE t (n int)")
            proxy.cut_at_commit(cut)
            await connection.execute("BEGIN")
            await connection.execute("INSERT INTO t VALUES (1)")
            with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
                await connection.execute("COMMIT")
            assert proxy.was_cut.is_set()

            later = await _connect(proxy.url)
            assert await later.fetchval("SELECT count(*) FROM t") == written
            await later.close()


async def test_a_stall_holds_everything_back_until_it_ends(postgresql_18: Postgresql) -> None:
    with postgresql_18.database() as url:
        async with PostgresqlProxy(url) as proxy:
            connection = await _connect(proxy.url)
            proxy.stall()
            asking = asyncio.ensure_future(connection.fetchval("SELECT 1"))
            done, _ = await asyncio.wait({asking}, timeout=0.2)
            assert not done
            proxy.go_on()
            assert await asking == 1
            proxy.cut_all()
            with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
                await connection.fetchval("SELECT 1")
