"""Retention of logs by their age: what came long ago goes, whether its run has ended or not.

All logs are walked through by the ids of their runs, some hundred at a time. A walk that is broken
off has done what it has done; the next one finds what is left.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass

from interlock_server.core.errors import NotFoundError
from interlock_server.core.logs.deletion import CutLog, delete_log
from interlock_server.core.turns import take_turn
from interlock_server.rules.states import Id, Micros
from interlock_server.storage import log_retention_queries
from interlock_server.storage.database import Database
from interlock_server.storage.pipeline import Pipeline

_LOGS = 500
"""How many logs are looked at in one read: all that is needed of one stands in an index or two."""

MIN_LOG_AGE: Micros = 60 * 60 * 1_000_000
"""Younger parts of logs are not deleted for their age: someone may still look at them."""


async def count_old_chunks(
    database: Database, logs_older_than: Micros, runs_older_than: Micros | None
) -> int:
    """Count the chunks that `delete_old_logs` would delete now.

    Those of runs that ended more than `runs_older_than` microseconds ago are left out.
    """
    now = time.time_ns() // 1000
    before, count = now - logs_older_than, 0
    async for old in _old_logs(database, before):
        ended: set[Id] = set()
        if runs_older_than is not None:
            ended = await log_retention_queries.ended_before(database, old, now - runs_older_than)
        for run_id in old:
            if run_id not in ended:
                count += await log_retention_queries.count_old_chunks(database, run_id, before)
    return count


async def delete_old_logs(
    database: Database, pipeline: Pipeline, older_than: Micros
) -> AsyncGenerator[int]:
    """Delete what came to any log more than `older_than` microseconds ago.

    Answers how many chunks each transaction has deleted. Between two others have their turn.
    """
    before = time.time_ns() // 1000 - older_than
    async for old in _old_logs(database, before):
        for run_id in old:
            with suppress(NotFoundError):  # its run was deleted meanwhile
                async with aclosing(delete_log(pipeline, run_id, before)) as cuts:
                    async for cut in cuts:
                        yield cut.chunks


async def _old_logs(database: Database, before: Micros) -> AsyncGenerator[list[Id]]:
    after: Id | None = None
    while True:
        page = await log_retention_queries.list_old_logs(database, after, before, _LOGS)
        if page.old:
            yield page.old
        if page.last is None:
            return
        after = page.last


@dataclass(frozen=True, slots=True)
class Bite:
    """What a part of a walk has done."""

    chunks: int
    """How many it has deleted."""
    done: bool
    """Whether the walk is over."""


class LogWalk:
    """Deletes what is old in all logs, a bounded bite at a time, again and again."""

    def __init__(self, database: Database, pipeline: Pipeline, older_than: Micros) -> None:
        self._database = database
        self._pipeline = pipeline
        self._older_than = older_than
        self._after: Id | None = None

    async def go_on(self, now: Micros, transactions: int) -> Bite:
        """Look at the next logs, and delete what is old in them in at most so many transactions."""
        before = now - self._older_than
        page = await log_retention_queries.list_old_logs(self._database, self._after, before, _LOGS)
        chunks = 0
        for run_id in page.old:
            more = True
            while more:
                if transactions == 0:
                    return Bite(chunks, done=False)
                transactions -= 1
                more = False
                with suppress(NotFoundError):  # its run was deleted meanwhile
                    cut = await take_turn(self._pipeline, CutLog(run_id, before))
                    chunks, more = chunks + cut.chunks, cut.more
            self._after = run_id
        self._after = page.last
        return Bite(chunks, done=page.last is None)
