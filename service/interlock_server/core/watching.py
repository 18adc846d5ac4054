"""Watching runs: what was committed, in order, nothing missing and nothing twice.

    commits here, hints, a clock -> reader -> ring of the last events -> watchers that are current
                                                     database -> watchers that are behind

One reader a server reads each event once, while anybody watches. What it has read last stays in a
ring of bounded size. A watcher is a place in the order of events: it takes what is behind its place
from the ring, or from the database where the ring no longer reaches back that far. So a client that
reads slowly costs no memory and loses nothing, and a token that names a place is all that is needed
to go on, on any server of the database.

The reader is woken by commits of this server, by hints of others, and by a clock where neither
comes. It goes no further than the horizon (`storage.event_order`). Where somebody's long
transaction holds that, watchers are told that they wait, and for how long.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog

from interlock_server.core.errors import CallError, OutOfRangeError
from interlock_server.core.event_filters import EventFilter
from interlock_server.rules.states import Micros
from interlock_server.storage import event_queries
from interlock_server.storage.database import Database
from interlock_server.storage.errors import ClosedError, UnavailableError
from interlock_server.storage.event_order import KEPT, Epoch, EventOrder, Horizon, Place
from interlock_server.storage.event_queries import RunEvent
from interlock_server.storage.facts import Facts
from interlock_server.storage.hints import Hints

TOPIC = "runs"
"""Of the hints that tell of events."""

GOOD_FOR: Micros = KEPT - 60 * 60 * 1_000_000
"""How long a token is good. The hour is for transactions that commit late, and pruning that comes
early: what a token has not seen is still there when it comes back."""

POLL = 1.0
"""Seconds between two looks where nobody gives a sign."""

_PAUSE = 0.005
"""Seconds between two reads, however many signs come: under load each read has many events."""

_SLOWEST_RETRY = 0.25
"""Seconds between two looks for what was committed while the horizon is held below it."""

_PAGE = 500
"""Events in a read."""

_RING_EVENTS, _RING_BYTES = 20_000, 16 * 1024 * 1024

_MESSAGE_BYTES = 512 * 1024
"""How large the events of one part become, about."""

STALLED: Micros = 2_000_000
"""How long the horizon is held before watchers are told: no batch takes so long."""

_REPORTED: Micros = 10_000_000
"""How long it is held before the operator is told who holds it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """Where a watcher goes on: behind a place in the order of an epoch."""

    epoch: Epoch
    place: Place
    time: Micros
    """All that was committed before this has been told, but for what was under way."""
    since: Micros = 0
    """What was decided before this is not told."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a watch begins: behind a token, with a time, or, without either, now."""

    token: Token | None = None
    since: Micros | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Some events; none: just how far the watch has come."""

    events: Sequence[RunEvent]
    token: Token
    stalled: Micros = 0
    """For how long the horizon has been held; 0: it is not."""


class Watches:
    """The watches of this server."""

    def __init__(self, database: Database, hints: Hints, draining: asyncio.Event) -> None:
        self._database = database
        self._order = database.event_order()
        self._hints = hints
        self._draining = draining
        self._reader: _Reader | None = None

    def committed(self, facts: Facts) -> None:
        """Hear of a batch of this server."""
        if facts.has_events:
            self._hints.tell(TOPIC)
            if self._reader is not None:
                self._reader.wake()

    def wake_all(self) -> None:
        """Wake everyone, as the server goes away."""
        if self._reader is not None:
            self._reader.tell()

    async def watch(
        self, start: Start, wanted: EventFilter, most: int, interval: float
    ) -> AsyncGenerator[Part]:
        """Watch for ever: parts of at most `most` events, and one without any each `interval`.

        The first part comes at once, without events: what is committed from then on is told. An
        interval is in seconds. Raises OutOfRangeError where the start is not to be had, or the
        order breaks; UnavailableError where the database is away, or this server goes.
        """
        horizon = await self._order.horizon()
        token = await self._begin(start, horizon)
        with self._joined(horizon) as (reader, news):
            yield Part((), token)
            told = time.monotonic()
            while True:
                news.clear()
                if self._draining.is_set():
                    raise ClosedError
                reader.check()
                events, token = await self._next(reader, token)
                found = [e for e in events if e.time >= token.since and wanted.meets(e)]
                for part in _parts(found, token, most):
                    yield part
                    told = time.monotonic()
                left = told + interval - time.monotonic()
                if left <= 0:
                    # Also on a long way through what is not wanted: who is cut off there would
                    # have to begin it anew.
                    yield Part((), token, reader.stalled)
                    told = time.monotonic()
                    continue
                if token.place < reader.end:
                    await asyncio.sleep(0)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await news.wait()

    async def _begin(self, start: Start, horizon: Horizon) -> Token:
        """Answer where a watch begins."""
        if start.token is not None:
            _check(start.token, horizon)
            return start.token
        if start.since is None:
            return Token(horizon.epoch, horizon.end, horizon.now)
        if start.since < horizon.now - GOOD_FOR:
            raise OutOfRangeError(
                "WATCH_START_EXPIRED",
                "Deletions are remembered for 7 days, so that a watch can not begin earlier.",
            )
        since = min(start.since, horizon.now)
        place = await event_queries.place_before(self._database, since, horizon.position)
        return Token(horizon.epoch, place, since, since)

    async def _next(self, reader: _Reader, token: Token) -> tuple[Sequence[RunEvent], Token]:
        """Read on behind a token; answer what is there, and the token behind it."""
        if reader.reaches_back_to(token.place):
            events = reader.behind(token.place, _PAGE)
            end, as_of = reader.end, reader.as_of
        else:
            end, as_of = reader.horizon.end, reader.as_of
            events = await event_queries.list_events(
                self._database, token.place, reader.horizon.position, _PAGE
            )
        if len(events) == _PAGE:
            end, as_of = events[-1].place, events[-1].time
        return events, Token(
            token.epoch, max(token.place, end), max(token.time, as_of), token.since
        )

    @contextmanager
    def _joined(self, horizon: Horizon) -> Iterator[tuple[_Reader, asyncio.Event]]:
        """Have a reader that reads within the context, and an event that tells when it has."""
        reader = self._reader
        if reader is None or not reader.reads or reader.horizon.epoch != horizon.epoch:
            reader = self._reader = _Reader(self._database, self._order, self._hints, horizon)
        with reader.joined() as news:
            yield reader, news


def _check(token: Token, horizon: Horizon) -> None:
    if token.epoch.number < horizon.epoch.number:
        raise _epoch_ended()
    if token.epoch != horizon.epoch:
        raise OutOfRangeError(
            "WATCH_TOKEN_UNKNOWN",
            "The token is of another database. Read the runs, then watch anew.",
        )
    if token.place.position > horizon.latest:
        raise OutOfRangeError(
            "WATCH_TOKEN_UNKNOWN",
            "The token knows of changes that this database does not have: it was restored from an "
            "older copy, or the token is of another one. Read the runs, then watch anew.",
        )
    if token.time < horizon.now - GOOD_FOR:
        raise OutOfRangeError(
            "WATCH_TOKEN_EXPIRED",
            "The token is older than deletions are remembered, 7 days. Read the runs, then watch "
            "anew.",
        )


def _epoch_ended() -> OutOfRangeError:
    return OutOfRangeError(
        "WATCH_EPOCH_ENDED",
        "The database was restored, copied or taken over by a standby since the token was made: "
        "what it has seen may be undone. Read the runs, then watch anew.",
    )


def _parts(events: list[RunEvent], end: Token, most: int) -> Iterator[Part]:
    """Cut events into parts; the last one's token is the end of what was looked at."""
    part: list[RunEvent] = []
    size = 0
    for event in events:
        if part and (len(part) == most or size + event.size > _MESSAGE_BYTES):
            last = part[-1]
            yield Part(part, Token(end.epoch, last.place, last.time, end.since))
            part, size = [], 0
        part.append(event)
        size += event.size
    if part:
        yield Part(part, end)


class _Reader:
    """Reads events while anybody watches, and keeps the last ones."""

    def __init__(
        self, database: Database, order: EventOrder, hints: Hints, horizon: Horizon
    ) -> None:
        self._database = database
        self._order = order
        self._hints = hints
        self._ring = _Ring(horizon.end)
        self._listeners: set[asyncio.Event] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._awaited = 0
        """The highest position when a sign came last: until it can be read, it is looked for."""
        self._stuck_since: Micros | None = None
        """Since when the horizon has been held where it is; None: it is not."""
        self._reported = False
        self.horizon = horizon
        self.end = horizon.end
        """The place behind all that was read."""
        self.as_of = horizon.now
        """The time at which all that was committed had been read."""

    @property
    def reads(self) -> bool:
        """Whether it reads, and goes on."""
        return bool(self._listeners) and self._failure is None

    @property
    def stalled(self) -> Micros:
        """For how long the horizon has been held; 0: it is not, or not for long."""
        if self._stuck_since is None:
            return 0
        held = self.horizon.now - self._stuck_since
        return held if held >= STALLED else 0

    def check(self) -> None:
        """Raise why it reads no more, if so."""
        if self._failure is not None:
            raise self._failure

    def reaches_back_to(self, place: Place) -> bool:
        """Tell whether all that was read behind a place is still at hand."""
        return place >= self._ring.begin

    def behind(self, place: Place, limit: int) -> Sequence[RunEvent]:
        """Answer the first events behind a place that it reaches back to."""
        return self._ring.behind(place, limit)

    def wake(self) -> None:
        """Hear that something was committed."""
        self._wake.set()

    def tell(self) -> None:
        """Tell all who have joined that there is news."""
        for news in self._listeners:
            news.set()

    @contextmanager
    def joined(self) -> Iterator[asyncio.Event]:
        """Read within the context; the event is set at each news, and its user clears it."""
        news = asyncio.Event()
        self._listeners.add(news)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="event reader")
        try:
            yield news
        finally:
            self._listeners.discard(news)
            if not self._listeners:
                self._task.cancel()

    async def _run(self) -> None:
        try:
            with self._hints.listen(TOPIC, lambda _: self.wake()):
                retry = _PAUSE
                while True:
                    moved = await self._read_on()
                    await asyncio.sleep(_PAUSE)
                    waits = self.horizon.position <= self._awaited
                    retry = min(retry * 2, _SLOWEST_RETRY) if waits and not moved else _PAUSE
                    with suppress(TimeoutError):
                        async with asyncio.timeout(retry if waits else POLL):
                            await self._wake.wait()
        except Exception as error:
            self._failure = error
            if not isinstance(error, CallError | UnavailableError):
                log.exception("event_reader_failed")
            self.tell()

    async def _read_on(self) -> bool:
        """Read what is new; answer whether the horizon has moved."""
        woken = self._wake.is_set()
        self._wake.clear()
        before, horizon = self.horizon, await self._order.horizon()
        if horizon.epoch != before.epoch:
            raise _epoch_ended()
        moved = horizon.position != before.position
        self.horizon = horizon
        if woken:
            self._awaited = horizon.latest
        await self._note_stall(moved)
        while self.end < horizon.end:
            events = await event_queries.list_events(
                self._database, self.end, horizon.position, _PAGE
            )
            self._ring.append(events)
            self.end = events[-1].place if len(events) == _PAGE else horizon.end
            self.tell()
        return moved

    async def _note_stall(self, moved: bool) -> None:
        horizon = self.horizon
        if moved or not horizon.held:
            self._stuck_since = None
            self._reported = False
            self.as_of = horizon.now
        if not horizon.held:
            return
        # It may have been where it is before anything was committed above it.
        stuck_since = self._stuck_since = self._stuck_since or horizon.now
        if self._reported or horizon.now - stuck_since < _REPORTED:
            return
        self._reported = True
        holder = await self._order.holder()
        seconds = (horizon.now - stuck_since) / 1_000_000
        log.warning("watch_horizon_held", seconds=round(seconds), holder=holder)


class _Ring:
    """The last events that were read: all of them behind `begin`."""

    def __init__(self, begin: Place) -> None:
        self.begin = begin
        self._events: list[RunEvent] = []
        self._bytes = 0

    def append(self, events: Sequence[RunEvent]) -> None:
        """Add events, and let go of the oldest where there are too many, or too large ones."""
        self._events += events
        self._bytes += sum(event.size for event in events)
        gone = 0
        while len(self._events) - gone > _RING_EVENTS or self._bytes > _RING_BYTES:
            self._bytes -= self._events[gone].size
            self.begin = self._events[gone].place
            gone += 1
        del self._events[:gone]

    def behind(self, place: Place, limit: int) -> Sequence[RunEvent]:
        """Answer the first events behind a place, at `begin` or later."""
        first = bisect_right(self._events, place, key=lambda event: event.place)
        return self._events[first : first + limit]
