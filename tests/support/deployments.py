"""Deployments for tests of what their runs do."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from interlock_server.storage.dialects import open_database

from tests.support.runs import unique
from tests.support.stored import Rows


def make_deployment(database_url: str, flow_id: str) -> str:
    """Put a deployment of a flow into a database that a server has; answer its id.

    It blocks, so that fixtures and tests can call it with or without an event loop.
    """

    async def put() -> str:
        database = open_database(database_url)
        try:
            rows = Rows()
            id_ = rows.deployment(flow_id, unique("deployment"))
            await rows.put(database)
            return id_
        finally:
            await database.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, put()).result()
