"""`kill -9` of the server under load: all that was acknowledged is there, once."""

import asyncio

import pytest

from tests.faults import load, readback
from tests.faults.history import History
from tests.faults.load import Load
from tests.support.servers import ServerProcess


async def _kill_under_load(database_url: str, amount: load.Amount, shares: list[float]) -> None:
    history = History()
    server = ServerProcess(database_url)
    try:
        await asyncio.to_thread(server.start)
        working = Load(server.target, history, amount)
        async with asyncio.TaskGroup() as group:
            group.create_task(working.run())
            for share in shares:
                await working.reaches(share)
                server.kill()
                await asyncio.to_thread(server.start)
        assert not history.unanswered
        await readback.check(server.target, history)
    finally:
        await asyncio.to_thread(server.close)


async def test_clients_carry_on_and_nothing_acknowledged_is_lost(database_url: str) -> None:
    await _kill_under_load(database_url, load.SHORT, [0.15, 0.4, 0.7])


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_many_kills_in_a_row(database_url: str) -> None:
    await _kill_under_load(database_url, load.LONG, [i / 40 for i in range(1, 39)])
