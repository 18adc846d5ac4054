"""The order of events on SQLite: there is one writer, so that rows are in the order of commits.

A position is the time of the batch in microseconds, or the last one's and one more. What is there
is complete. An epoch ends with a copy of the database (`upkeep`): it is another database from then
on, whatever it is used for.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.event_order import KEPT, Epoch, Horizon

HIGHEST_POSITION = "SELECT max({})".format(
    ", ".join(
        f"coalesce((SELECT max(position) FROM {table.name}), 0)"
        for table in (tables.flow_run_transition, tables.task_run_transition, tables.deleted_run)
    )
)

_NEWEST = f"SELECT number, began FROM {tables.watch_epoch.name} ORDER BY number DESC LIMIT 1"
_BEGIN_FIRST = f"INSERT OR IGNORE INTO {tables.watch_epoch.name} VALUES (1, '', ?)"


def begin_epoch(connection: sqlite3.Connection) -> None:
    """Make a copy of a database one of its own; one of an old schema knows no epochs."""
    epoch = tables.watch_epoch.name
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (epoch,))
    if known.fetchone() is not None:
        connection.execute(
            f"INSERT INTO {epoch} (number, identity, began) "
            f"SELECT coalesce(max(number), 0) + 1, '', ? FROM {epoch}",
            (time.time_ns() // 1000,),
        )


class SqliteEventOrder:
    """The order of the events of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def horizon(self) -> Horizon:
        """See `EventOrder.horizon`."""

        async def look(connection: AsyncConnection) -> tuple[Any, int]:
            epoch = (await connection.execute(text(_NEWEST))).first()
            highest = (await connection.execute(text(HIGHEST_POSITION))).scalar_one()
            if epoch is None:
                await connection.exec_driver_sql(_BEGIN_FIRST, (time.time_ns() // 1000,))
                epoch = (await connection.execute(text(_NEWEST))).one()
            return epoch, highest

        epoch, highest = await self._database.read(look)
        now = time.time_ns() // 1000
        return Horizon(
            Epoch(*epoch),
            highest + 1,
            # What was last may have been forgotten since.
            max(highest, now - KEPT),
            held=False,
            now=now,
        )

    async def holder(self) -> str:
        """See `EventOrder.holder`: readers see what is committed, and nothing holds them."""
        return ""
