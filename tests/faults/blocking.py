"""Another program that keeps everybody from writing to a database, for a while; reads go on."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import make_url


@asynccontextmanager
async def no_logs_written(database_url: str) -> AsyncIterator[None]:
    """While in the context, who writes logs waits; not for longer than its patience lasts."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        assert url.database
        other = sqlite3.connect(url.database, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield
        finally:
            other.close()
        return
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE log_chunk IN SHARE MODE")
            yield
    finally:
        await connection.close()
