"""Logs through kills of the server: exactly the lines that were sent read back, each once."""

import asyncio
import time

import pytest

from tests.faults.log_fleet import PRODUCERS, Fleet
from tests.support.servers import ServerProcess


async def _soak(
    database_url: str, fleet: Fleet, kills: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    server = ServerProcess(database_url)
    try:
        await asyncio.to_thread(server.start)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.work(server.target))
            for share in kills:
                await fleet.reaches(share)
                server.kill()
                await asyncio.to_thread(server.start)
        sent = time.monotonic()
        assert fleet.sent.lines == fleet.lines
        assert not fleet.refusals()
        await fleet.check(server)
        with capsys.disabled():
            print(
                f"\n{fleet.lines:,} lines from {PRODUCERS} producers in {sent - began:.1f} s, read "
                f"back in {time.monotonic() - sent:.1f} s, {len(kills)} kills, {fleet.resent} "
                f"batches sent again: all there, once, in order ({database_url.partition(':')[0]})"
            )
    finally:
        await asyncio.to_thread(server.close)


async def test_three_kills_lose_double_and_reorder_no_line(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await _soak(database_url, Fleet(200_000, largest=600), [0.2, 0.5, 0.8], capsys)


@pytest.mark.soak
async def test_three_kills_among_five_million_lines(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await _soak(database_url, Fleet(5_000_000, largest=2_000), [0.2, 0.5, 0.8], capsys)
