"""The commit pipeline: the one way in for writes.

Every write is a small command. Commands that arrive while a transaction is being committed form the
next batch: no timer, so no added latency at low load, and large batches under high load.

    submit -> queue of its class -> batch: lock, read, decide each in order, write, commit -> reply

What it promises:

- A reply means that the write is durable. A command that fails harms no other: its error is raised
  before it changes anything, and a batch that fails for an unforeseen reason is split.
- A command whose caller is gone, or whose deadline has passed, when its batch begins is not run.
  From then on it runs to its end, whatever happens to the caller.
- A connection lost before COMMIT: nothing was written, and callers are told so. Lost during COMMIT:
  commands that can be told apart by their ids are decided again, which finds them done or does
  them; others are told that the outcome is unknown.
- Each class of commands has its own queue, with a limit of count and bytes, and its own share of a
  batch, so that a flood of one class holds up no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from interlock_server.storage import failpoints
from interlock_server.storage.commands import CallerError, Command
from interlock_server.storage.database import Database, Writer
from interlock_server.storage.errors import (
    ClosedError,
    ConflictError,
    ConnectionLostError,
    OutcomeUnknownError,
    UnavailableError,
)
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.queues import Entry, Queues

R = TypeVar("R")
log = structlog.get_logger(__name__)

GATHER_TURNS = 20
"""Turns of the event loop for which a batch waits at the most: a flood must not hold it up."""

CONFLICT_TRIES = 20
"""How often a batch is decided again when another server was in the way. Each time one of the
two has gone on, so that many tries mean many servers, not a loop."""

UNKNOWN_SECONDS = 10.0
"""How long an unknown outcome is looked into before callers are told that it is unknown: longer
than a quick failover takes, shorter than callers wait."""

_UNKNOWN_PAUSE = 0.25
"""Seconds between two looks."""


@dataclass(slots=True)
class PipelineCounts:
    """What the pipeline has done since it was made."""

    batches: int = 0
    commands: int = 0
    commits: int = 0
    conflicts: int = 0
    splits: int = 0
    unknown_outcomes: int = 0
    commit_seconds: float = 0.0


class Pipeline:
    """Commits commands in batches through one writer of the database."""

    def __init__(self, database: Database, on_commit: Callable[[Facts], None]) -> None:
        self._database = database
        self._on_commit = on_commit
        self._queues = Queues()
        self._work = asyncio.Event()
        self._turn = asyncio.Lock()
        self._writer: Writer | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.counts = PipelineCounts()

    def start(self) -> None:
        """Begin to commit. The database is connected at the first batch."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="commit pipeline")

    async def stop(self) -> None:
        """Take no more commands, commit what is queued, and let go of the database."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            await self._task
            self._task = None
        if self._writer is not None:
            await self._writer.close()
            self._writer = None

    def paused(self) -> AbstractAsyncContextManager[Any]:
        """Keep batches from running for a while: what comes in waits. The one that runs ends first.

        The writer stays connected, in no transaction.
        """
        return self._turn

    async def submit(self, command: Command[R], timeout: float | None = None) -> R:
        """Run one command, and answer its reply once it is durable.

        `timeout` is how long, in seconds, it may wait for its batch to begin. Raises the command's
        own errors; OverloadedError, DeadlineError, UnavailableError: nothing was written;
        OutcomeUnknownError.
        """
        return await self.enqueue(command, timeout)

    def enqueue(self, command: Command[R], timeout: float | None = None) -> asyncio.Future[R]:
        """Take one command in; the future answers as `submit` does.

        Commands of one class are decided in the order in which they were taken in. Raises
        OverloadedError or ClosedError at once.
        """
        if self._closing:
            raise ClosedError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        deadline = None if timeout is None else loop.time() + timeout
        self._queues.put(Entry(command, future, deadline))
        self._work.set()
        return future

    def depth(self) -> int:
        """Answer how many commands wait."""
        return self._queues.depth()

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while True:
                await self._gather()
                async with self._turn:
                    batch = self._queues.take(asyncio.get_running_loop().time())
                    if not batch:
                        break
                    await self._process(batch)
            if self._closing:
                return

    async def _gather(self) -> None:
        """Let calls that are on their way arrive, as long as each turn of the loop brings some.

        That is no timer: a call that comes alone waits for one turn. Without it a pipeline that
        has become free takes the first of many, and they pay for more commits than they need.
        """
        before, turns = -1, 0
        while (depth := self.depth()) != before and turns < GATHER_TURNS:
            before, turns = depth, turns + 1
            await asyncio.sleep(0)

    async def _process(self, batch: Sequence[Entry]) -> None:
        now = asyncio.get_running_loop().time
        conflicts = 0
        give_up: float | None = None  # set once the outcome is unknown
        while batch:
            try:
                await self._commit(batch)
                return
            except ConflictError as error:
                self.counts.conflicts += 1
                conflicts += 1
                if conflicts > CONFLICT_TRIES:
                    busy = UnavailableError("DATABASE_BUSY", str(error))
                    return _fail(batch, OutcomeUnknownError(str(error)) if give_up else busy)
                await asyncio.sleep(0.001 * conflicts)
            except OutcomeUnknownError as error:
                self.counts.unknown_outcomes += 1
                log.warning("commit_outcome_unknown", commands=len(batch), error=str(error))
                _fail([entry for entry in batch if not entry.command.replayable], error)
                batch = [entry for entry in batch if entry.command.replayable]
                if give_up is None:
                    give_up = now() + UNKNOWN_SECONDS
                    continue
                if now() > give_up:
                    return _fail(batch, error)
                await asyncio.sleep(_UNKNOWN_PAUSE)
            except UnavailableError as error:
                if give_up is None:
                    log.warning("batch_unavailable", commands=len(batch), error=str(error))
                    return _fail(batch, error)
                if now() > give_up:
                    return _fail(batch, OutcomeUnknownError(str(error)))
                await asyncio.sleep(_UNKNOWN_PAUSE)
            except Exception as error:
                if len(batch) == 1:
                    return _fail(batch, error)
                self.counts.splits += 1
                log.warning("batch_split", commands=len(batch), error=repr(error))
                for entry in batch:
                    await self._process([entry])
                return

    async def _commit(self, batch: Sequence[Entry]) -> None:
        if self._writer is None:
            self._writer = await self._database.open_writer()
        needs = Needs()
        for entry in batch:
            entry.command.add_needs(needs)
        began = time.perf_counter()
        failpoints.reach(failpoints.BEFORE_BEGIN)
        try:
            facts = await self._writer.begin(needs)
        except ConnectionLostError:
            # Nothing was begun: one fresh connection is worth a try before callers hear of it.
            lost, self._writer = self._writer, None
            await lost.close()
            self._writer = await self._database.open_writer()
            facts = await self._writer.begin(needs)
        try:
            replies = [_decide(entry.command, facts) for entry in batch]
        except BaseException:
            await self._writer.rollback()
            raise
        if facts.changes:
            failpoints.reach(failpoints.AFTER_DECIDE)
            await self._writer.commit(facts)
            failpoints.reach(failpoints.AFTER_COMMIT)
            self.counts.commits += 1
        else:
            await self._writer.rollback()
        self.counts.batches += 1
        self.counts.commands += len(batch)
        self.counts.commit_seconds += time.perf_counter() - began
        for entry, reply in zip(batch, replies, strict=True):
            if entry.future.done():
                continue
            if isinstance(reply, _Refused):
                entry.future.set_exception(reply.error)
            else:
                entry.future.set_result(reply)
        if facts.changes:
            self._tell(facts)

    def _tell(self, facts: Facts) -> None:
        try:
            self._on_commit(facts)
        except Exception:
            # What is committed stays so: whoever listens must not have the batch run again.
            log.exception("commit_listener_failed")


@dataclass(frozen=True, slots=True)
class _Refused:
    error: CallerError


def _decide(command: Command[Any], facts: Facts) -> Any:
    before = facts.changes
    try:
        return command.decide(facts)
    except CallerError as error:
        if facts.changes != before:
            raise RuntimeError(
                f"{type(command).__name__} failed after it had changed facts"
            ) from error
        return _Refused(error)


def _fail(batch: Sequence[Entry], error: Exception) -> None:
    for entry in batch:
        if not entry.future.done():
            entry.future.set_exception(error)
