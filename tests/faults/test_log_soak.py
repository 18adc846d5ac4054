"""Logs through kills of the server: exactly the lines that were sent read back, each once."""

import asyncio
import time
from collections.abc import Callable, Coroutine

import pytest

from tests.faults.log_fleet import PRODUCERS, Fleet
from tests.support.servers import ServerProcess

_KILLED_AT = (0.2, 0.5, 0.8)
"""After which parts of the work the server dies."""

Work = Callable[[Fleet, str], Coroutine[None, None, None]]
"""How a fleet does its work on a target."""


async def _soak(
    database_url: str, fleet: Fleet, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ServerProcess(database_url)
    try:
        await asyncio.to_thread(server.start)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(work(fleet, server.target))
            for share in _KILLED_AT:
                await fleet.reaches(share)
                server.kill()
                await asyncio.to_thread(server.start)
        sent = time.monotonic()
        assert fleet.sent.lines == fleet.lines
        assert not fleet.refusals()
        await fleet.check(server)
        # The client's writers do not tell.
        again = f"{fleet.resent} batches sent again: " if fleet.producers else ""
        with capsys.disabled():
            print(
                f"\n{fleet.lines:,} lines from {PRODUCERS} producers in {sent - began:.1f} s, read "
                f"back in {time.monotonic() - sent:.1f} s, {len(_KILLED_AT)} kills, {again}"
                f"all there, once, in order ({database_url.partition(':')[0]})"
            )
    finally:
        await asyncio.to_thread(server.close)


async def test_three_kills_lose_double_and_reorder_no_line(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await _soak(database_url, Fleet(200_000, largest=600), Fleet.work, capsys)


@pytest.mark.soak
async def test_three_kills_among_five_million_lines(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await _soak(database_url, Fleet(5_000_000, largest=2_000), Fleet.work, capsys)


@pytest.mark.soak
async def test_three_kills_cost_the_clients_writers_no_line(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await _soak(database_url, Fleet(1_000_000, largest=200), Fleet.write, capsys)
