"""One loop: when it looks, and that it goes on whatever happens."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest_asyncio
from interlock_server.background.loop import Look, Loop

FOR_EVER = 1000.0


class Term:
    """The term of a server that is alone; its clock is this process's."""

    held = True

    def now(self) -> int:
        return round(time.monotonic() * 1_000_000)


class Looks:
    """A loop's work, which a test follows look by look."""

    def __init__(self) -> None:
        self.term = Term()
        self.answers: list[Callable[[int], Look]] = []
        self._looks: asyncio.Queue[int] = asyncio.Queue()
        self.loop: Loop | None = None

    def start(self, period: float) -> Loop:
        self.loop = Loop("things", period, self._work, self.term)  # type: ignore[arg-type]
        self.loop.start()
        return self.loop

    async def _work(self, now: int) -> Look:
        self._looks.put_nowait(now)
        return self.answers.pop(0)(now) if self.answers else Look(0, None)

    async def next(self) -> int:
        """Wait for the next look, and answer its time."""
        async with asyncio.timeout(10):
            return await self._looks.get()

    @property
    def missed(self) -> bool:
        return self._looks.empty()


@pytest_asyncio.fixture
async def looks() -> AsyncIterator[Looks]:
    looks = Looks()
    yield looks
    if looks.loop is not None:
        await looks.loop.stop()


async def test_it_looks_at_the_time_when_something_is_due(looks: Looks) -> None:
    looks.answers = [lambda now: Look(0, now + 100_000)]
    looks.start(FOR_EVER)
    assert await looks.next() + 100_000 <= await looks.next()


async def test_what_becomes_due_earlier_wakes_it(looks: Looks) -> None:
    looks.answers = [lambda now: Look(0, now + 1_000_000_000)]
    loop = looks.start(FOR_EVER)
    first = await looks.next()
    loop.expect(first + 2_000_000_000)
    loop.expect(first + 100_000)
    assert await looks.next() >= first + 100_000


async def test_it_looks_once_in_a_period_in_any_case(looks: Looks) -> None:
    looks.start(0.05)
    for _ in range(3):
        await looks.next()


async def test_a_look_that_fails_is_told_and_the_next_one_is_made(looks: Looks) -> None:
    def fail(now: int) -> Look:
        raise RuntimeError("the database is away")

    looks.answers = [fail, lambda now: Look(3, None)]
    loop = looks.start(0.05)
    await looks.next()
    await asyncio.sleep(0)
    assert loop.report.last_error == "RuntimeError: the database is away"
    await looks.next()
    await looks.next()
    assert loop.report.last_error == ""
    assert loop.report.done == 3
    assert loop.report.last_done is not None


async def test_it_rests_until_the_term_is_held(looks: Looks) -> None:
    looks.term.held = False
    loop = looks.start(FOR_EVER)
    loop.expect(0)
    await asyncio.sleep(0.05)
    assert looks.missed
    looks.term.held = True
    loop.wake()
    await looks.next()


async def test_it_can_be_stopped_twice_and_started_again(looks: Looks) -> None:
    loop = looks.start(FOR_EVER)
    await looks.next()
    await loop.stop()
    await loop.stop()
    loop.start()
    await looks.next()
