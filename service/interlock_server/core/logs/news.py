"""News of the logs that are followed on this server: who has to look when, and who may sleep on.

    commits here: how far a log goes ----------------------> its tails
    commits here: its run has ended, or is gone ----.
    hints of other servers, with the runs' ids -----+---> reader ---> tails of the logs that moved
    a clock ----------------------------------------'

A tail is woken where its log has moved, and for nothing else. A commit of this server says itself
how far a log goes, so that its tails need not ask. For all else there is one reader a server: it
asks in one go how those logs stand that are said to have moved, and now and then how all stand
that are followed, since a hint may be lost. So a thousand tails cost two statements or three a
second while nothing happens, and a hint of another server costs one look at the logs that it names
and are followed here: none, mostly, however much is committed there.

Hints name runs (`TOPIC`, with ids) instead of having a topic for each run, since topics are asked
for every few seconds, and a thousand of them would be a thousand words. The reader rests after
each look four times as long as that took: hints that come meanwhile share the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import structlog

from interlock_server.core.errors import CallError, NotFoundError
from interlock_server.core.logs.ends import TailEnd, drained
from interlock_server.rules.states import TERMINAL, Id
from interlock_server.storage.database import Database
from interlock_server.storage.errors import UnavailableError
from interlock_server.storage.facts import Facts
from interlock_server.storage.hints import Hints
from interlock_server.storage.log_status_queries import AT_ONCE, LogStatus, list_log_statuses
from interlock_server.storage.records import RunKind

TOPIC = "logs"
"""Of the hints that tell whose logs have moved."""

POLL = 1.0
"""Seconds between two looks at all logs that are followed."""

_PAUSE, _REST = 0.003, 4.0
"""How long the reader rests after a look: so many seconds at least, and so many times as long as
the look took."""

log = structlog.get_logger(__name__)


class LogNews:
    """Which logs are followed on this server, and how they stand."""

    def __init__(self, database: Database, hints: Hints) -> None:
        self._database = database
        self._hints = hints
        self._logs: dict[Id, _Log] = {}
        self._to_look_at: set[Id] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._looks = 0
        """How many looks have begun."""

    @contextmanager
    def following(self, run_id: Id) -> Iterator[Follower]:
        """Follow a run's log within the context."""
        followed = self._logs.get(run_id)
        if followed is None:
            followed = self._logs[run_id] = _Log()
        follower = Follower(run_id, followed, self._looks)
        followed.followers.add(follower)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="log news")
        self._look_at([run_id])
        try:
            yield follower
        finally:
            followed.followers.discard(follower)
            if not followed.followers and self._logs.get(run_id) is followed:
                del self._logs[run_id]
            if not self._logs and self._task is not None:
                self._task.cancel()
                self._task = None

    def committed(self, facts: Facts) -> None:
        """Hear of a batch of this server."""
        if self._hints.asked(TOPIC):
            moved = {*facts.moved_log_heads, *_ended(facts)}
            if moved:
                self._hints.tell(TOPIC, moved)
        if not self._logs:
            return
        for run_id, head in facts.moved_log_heads.items():
            if (followed := self._logs.get(run_id)) is not None:
                followed.reach(head.next_ordinal)
        self._look_at(_ended(facts))

    def wake_all(self) -> None:
        """Wake everyone, as the server goes away."""
        for followed in self._logs.values():
            followed.tell()

    def _look_at(self, run_ids: Iterable[Id]) -> None:
        followed = self._logs.keys() & set(run_ids)
        if followed:
            self._to_look_at |= followed
            self._wake.set()

    async def _run(self) -> None:
        try:
            with self._hints.listen(TOPIC, lambda names: self._look_at(names or self._logs)):
                all_due = time.monotonic() + POLL
                while True:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(all_due - time.monotonic()):
                            await self._wake.wait()
                    began = time.monotonic()
                    if began >= all_due:
                        self._to_look_at |= self._logs.keys()
                    await self._look()
                    now = time.monotonic()
                    if began >= all_due:
                        all_due = now + POLL
                    await asyncio.sleep(max(_PAUSE, _REST * (now - began)))
        except Exception as error:
            if not isinstance(error, CallError | UnavailableError):
                log.exception("log_news_failed")
            self._fail(error)

    async def _look(self) -> None:
        self._wake.clear()
        self._looks += 1
        look = self._looks
        run_ids = sorted(self._to_look_at)
        self._to_look_at.clear()
        for start in range(0, len(run_ids), AT_ONCE):
            part = run_ids[start : start + AT_ONCE]
            statuses = await list_log_statuses(self._database, part)
            for run_id in part:
                if (followed := self._logs.get(run_id)) is not None:
                    followed.stand(statuses.get(run_id), look)

    def _fail(self, error: Exception) -> None:
        """Tell all who follow that nobody looks any more; who comes next begins anew."""
        self._task = None
        self._to_look_at.clear()
        logs, self._logs = self._logs, {}
        for followed in logs.values():
            followed.failure = error
            followed.tell()


def _ended(facts: Facts) -> Iterator[Id]:
    """Name the runs to whose logs a batch may have put an end."""
    for kind in RunKind:
        for run_id, run in facts.moved_runs[kind].items():
            if run.state is not None and run.state.type in TERMINAL:
                yield run_id
        yield from facts.deleted_run_ids[kind]
        yield from (run.id for run in facts.newly_doomed_runs[kind])
    for (_, run_id), producer in facts.moved_log_producers.items():
        if producer.closed:
            yield run_id


class _Log:
    """A log that is followed: how it stood when it was looked at last."""

    def __init__(self) -> None:
        self.followers: set[Follower] = set()
        self.next_ordinal = 0
        self.end: TailEnd | None = None
        self.gone = False
        self.look = 0
        """The number of the last look at it."""
        self.failure: Exception | None = None

    def reach(self, next_ordinal: int) -> None:
        """Note how far it goes."""
        if next_ordinal > self.next_ordinal:
            self.next_ordinal = next_ordinal
            self.tell()

    def stand(self, status: LogStatus | None, look: int) -> None:
        """Note how it stands; None: its run is gone."""
        before = (self.next_ordinal, self.end, self.gone)
        self.gone = status is None
        self.end = None if status is None else drained(status)
        if status is not None:
            self.next_ordinal = max(self.next_ordinal, status.next_ordinal)
        moved = before != (self.next_ordinal, self.end, self.gone)
        for follower in self.followers:
            if moved or not follower.knows:
                follower.news.set()
        self.look = look

    def tell(self) -> None:
        """Wake all who follow it."""
        for follower in self.followers:
            follower.news.set()


class Follower:
    """One who follows a log."""

    def __init__(self, run_id: Id, followed: _Log, looks: int) -> None:
        self.news = asyncio.Event()
        """Is set at each news; whoever follows clears it."""
        self._run_id = run_id
        self._log = followed
        self._joined = looks

    @property
    def knows(self) -> bool:
        """Whether the log was looked at since it began to follow."""
        return self._log.look > self._joined or self._log.failure is not None

    @property
    def end(self) -> TailEnd | None:
        """Why nothing more is to come; None: more may."""
        return self._log.end

    @property
    def next_ordinal(self) -> int:
        """How far the log goes: all before it can be read."""
        return self._log.next_ordinal

    def check(self) -> None:
        """Raise NotFoundError where there is no such run, or none any more; also other failures."""
        if self._log.failure is not None:
            raise self._log.failure
        if self._log.gone:
            raise NotFoundError("run", self._run_id, field="run_id")
