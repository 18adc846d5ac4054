"""Enabling PostgreSQL's extension where a server finds a fresh database."""

import asyncio

from interlock_server.storage.dialects import open_database

from tests.support.postgresql import Postgresql


async def test_servers_that_enable_the_extension_at_once_are_not_in_each_others_way(
    postgresql_18: Postgresql,
) -> None:
    for _ in range(5):
        with postgresql_18.database("extension") as url:
            databases = [open_database(url) for _ in range(6)]
            versions = await asyncio.gather(*(database.check() for database in databases))
            assert len(set(versions)) == 1
            await asyncio.gather(*(database.close() for database in databases))
