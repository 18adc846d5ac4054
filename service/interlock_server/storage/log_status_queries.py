"""Reads of how logs stand: how far they go, and whether more may come to them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.states import TERMINAL, Id, Micros, StateType
from interlock_server.storage import tables
from interlock_server.storage.database import Database

AT_ONCE = 500
"""How many logs a read should ask about: the oldest SQLite takes fewer than 1,000 parameters."""

_OPEN = text("NOT log_producer.closed")
"""As the index over open producers says it: SQLite takes it for no other words."""


@dataclass(frozen=True, slots=True)
class LogStatus:
    """How a log stands. `begun` and `last_open_word` are read of runs that are final only."""

    state_type: StateType | None
    end_time: Micros | None
    begun: bool
    """Whether anyone has written to it, if only that there is nothing to write."""
    last_open_word: Micros | None
    """When any producer that has not closed said something last; None: all of them have closed."""
    now: Micros
    """When it was read, by this machine's clock, which is near enough for a silence of seconds."""
    next_ordinal: int = 0


async def list_log_statuses(database: Database, run_ids: Sequence[Id]) -> dict[Id, LogStatus]:
    """Read how the logs of some runs stand; what is no run, or none any more, is left out.

    It takes the same few statements for one log as for `AT_ONCE`.
    """
    head = tables.log_head.c

    async def read(connection: AsyncConnection) -> dict[Id, LogStatus]:
        now = time.time_ns() // 1000
        states: dict[Id, tuple[StateType | None, Micros | None]] = {}
        for run in (tables.flow_run, tables.task_run):
            missing = [id_ for id_ in run_ids if id_ not in states]
            if not missing:
                break
            found = await connection.execute(
                select(run.c.id, run.c.state_type, run.c.end_time).where(
                    run.c.id.in_(missing), run.c.version >= 0
                )
            )
            states |= {
                id_: (None if type_ is None else StateType(type_), end_time)
                for id_, type_, end_time in found
            }
        final = [id_ for id_, (type_, _) in states.items() if type_ in TERMINAL]
        words = await last_open_words(connection, final) if final else {}
        # Last, so that a log goes as far as all that its producers said before they closed.
        rows = await connection.execute(
            select(head.run_id, head.next_ordinal).where(head.run_id.in_(list(states)))
        )
        ordinals: dict[Id, int] = {row.run_id: row.next_ordinal for row in rows}
        return {
            id_: LogStatus(type_, end, id_ in words, words.get(id_), now, ordinals.get(id_, 0))
            for id_, (type_, end) in states.items()
        }

    return await database.read(read)


async def last_open_words(
    connection: AsyncConnection, run_ids: Sequence[Id]
) -> dict[Id, Micros | None]:
    """Read of each log that has begun when its producers that have not closed were heard of last.

    None: all have closed. However many those are, only the open ones are looked at.
    """
    head, producer = tables.log_head.c, tables.log_producer.c
    last = select(func.max(producer.updated)).where(producer.run_id == head.run_id, _OPEN)
    statement = select(head.run_id, last.scalar_subquery()).where(head.run_id.in_(run_ids))
    return {row[0]: row[1] for row in await connection.execute(statement)}
