"""`kill -9` of the server under load: all that was acknowledged is there, once."""

import asyncio
import logging
from pathlib import Path

import pytest
from interlock import AsyncClient, InterlockHandler

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
    await _kill_under_load(database_url, load.SHORT, [0.2, 0.6])


async def test_a_log_handler_carries_on_and_ships_each_record_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine what moves records to the file may have to wait for its turn.
    monkeypatch.setattr("interlock.logs.outbox._PATIENCE", 20.0)
    server = ServerProcess(database_url)
    logger = logging.Logger("fleet")
    try:
        await asyncio.to_thread(server.start)
        async with AsyncClient(server.target) as client:
            run = await client.create_flow_run(await client.create_flow("flow"))
            handler = InterlockHandler(
                server.target,
                run_id=run.id,
                batch_interval=0.01,
                max_queue_records=500,
                spill_folder=tmp_path,
            )
            logger.addHandler(handler)
            for i in range(3):
                for j in range(2_000):
                    logger.info("part %d line %d", i, j)
                if i == 0:
                    server.kill()
                elif i == 1:
                    # While there is no server a part of it has to go to the file.
                    await asyncio.to_thread(server.start)
            assert await asyncio.to_thread(handler.flush, 60)
            counts = handler.statistics
            assert counts.spilled
            assert not counts.dropped
            await asyncio.to_thread(handler.close)
            lines = [record.message async for record in client.list_logs(run)]
        assert lines == [f"part {i} line {j}" for i in range(3) for j in range(2_000)]
    finally:
        await asyncio.to_thread(server.close)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_many_kills_in_a_row(database_url: str) -> None:
    await _kill_under_load(database_url, load.LONG, [i / 40 for i in range(1, 39)])
