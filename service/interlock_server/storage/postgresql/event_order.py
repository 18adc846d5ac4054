"""The order of events on PostgreSQL: that of transaction ids, as far as no lower one still runs.

A position is the epoch's number, then the transaction's id. Ids are given out as transactions begin
to write, not as they commit, so a reader goes no further than the oldest one that still runs
(`pg_snapshot_xmin`), in whichever database of the cluster: a slow one is waited for, not skipped.

An epoch ends when transaction ids are no order any more: the rows were restored from a dump, or
copied (the row of the epoch was then written by another transaction than the one it names), the
cluster is another one, or went on from an earlier point of its history (its timeline is a new one),
or its ids went back. Epochs are begun under a lock that waits for all who have written in the
last one; see `statements.POSITION`.
"""

from __future__ import annotations

from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.event_order import EPOCH_SPAN, Epoch, Horizon
from interlock_server.storage.postgresql.connecting import Connecting
from interlock_server.storage.postgresql.errors import LOST, translate
from interlock_server.storage.postgresql.statements import CLOCK

_EPOCH = tables.watch_epoch.name

_SETTINGS = {"lock_timeout": "5000", "statement_timeout": "8000"}
"""Milliseconds. Batches end sooner."""

_IDENTITY = (
    "(SELECT system_identifier FROM pg_control_system())",
    "(SELECT oid FROM pg_database WHERE datname = current_database())",
    "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)",
)
"""Cluster, database, timeline."""

_NOT_HERE = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.UndefinedFunctionError,
)
"""What those say that do not show all of it, as services that run PostgreSQL for others."""

_HIGHEST = ", ".join(
    f"(SELECT max(position) FROM {table.name})"
    for table in (tables.flow_run_transition, tables.task_run_transition, tables.deleted_run)
)


async def _readable_identity(connection: Any) -> str:
    """Answer the parts of the identity that can be read here, as arguments of `concat_ws`."""
    parts = []
    for part in _IDENTITY:
        try:
            await connection.fetchval(f"SELECT {part}")
        except _NOT_HERE:
            part = "'?'"
        parts.append(part)
    return ", ".join(parts)


def _horizon(identity: str) -> str:
    """Read the newest epoch, whether it still is what it was, the snapshot and the clock."""
    return f"""
        SELECT e.number, e.began,
            e.identity = concat_ws('/', {identity}, e.written_by) AS unbroken,
            pg_snapshot_xmin(s)::text::bigint AS oldest, pg_snapshot_xmax(s)::text::bigint AS next,
            {CLOCK} AS now
        FROM pg_current_snapshot() AS s LEFT JOIN (
            SELECT number, began, identity, xmin::text AS written_by FROM {_EPOCH}
            ORDER BY number DESC LIMIT 1
        ) AS e ON true
    """


def _begin(identity: str) -> str:
    """Begin an epoch; its row says which transaction has written it."""
    return f"""
        INSERT INTO {_EPOCH} (number, identity, began)
        SELECT coalesce(max(number), 0) + 1,
            concat_ws('/', {identity}, pg_current_xact_id()::text::bigint % 4294967296), {CLOCK}
        FROM {_EPOCH}
    """


async def settle(connection: Any) -> None:
    """Begin an epoch unless the newest one's order is unbroken.

    `connection` is the driver's, in no transaction. Raises what the driver raises.
    """
    identity = await _readable_identity(connection)
    if await _is_settled(connection, identity):
        return
    async with connection.transaction():
        # Whoever has written in the last epoch ends first; who waits to write will see the new one.
        await connection.execute(f"LOCK TABLE {_EPOCH} IN ACCESS EXCLUSIVE MODE")
        if not await _is_settled(connection, identity):
            await connection.execute(_begin(identity))


async def _is_settled(connection: Any, identity: str) -> bool:
    # In this order: what others commit in between does not look as if ids had gone back.
    highest = await connection.fetchval(f"SELECT greatest({_HIGHEST})")
    row = await connection.fetchrow(_horizon(identity))
    if not row["unbroken"]:
        return False
    return highest is None or highest < row["number"] * EPOCH_SPAN + row["next"]


class PostgresqlEventOrder:
    """The order of the events of one database."""

    def __init__(self, database: Database, connecting: Connecting) -> None:
        self._database = database
        self._connecting = connecting
        self._identity: str | None = None

    async def horizon(self) -> Horizon:
        """See `EventOrder.horizon`."""
        row = await self._database.read(self._look)
        if not row.unbroken:
            await self._settle()
            row = await self._database.read(self._look)
        base = row.number * EPOCH_SPAN
        return Horizon(
            Epoch(row.number, row.began),
            base + row.oldest,
            base + row.next - 1,
            held=row.oldest < row.next,
            now=row.now,
        )

    async def _look(self, connection: AsyncConnection) -> Any:
        if self._identity is None:
            driver = (await connection.get_raw_connection()).driver_connection
            self._identity = await _readable_identity(driver)
        return (await connection.execute(text(_horizon(self._identity)))).one()

    async def _settle(self) -> None:
        try:
            connection = await asyncpg.connect(**self._connecting.drivers_arguments(**_SETTINGS))
            try:
                await settle(connection)
            finally:
                await connection.close()
        except (*LOST, asyncpg.PostgresError) as error:
            raise translate(error) from error

    async def holder(self) -> str:
        """See `EventOrder.holder`."""

        async def look(connection: AsyncConnection) -> str:
            return (await connection.execute(text(_HOLDER))).scalar() or ""

        return await self._database.read(look)


_HOLDER = """
    SELECT 'process ' || pid || ' (' || concat_ws(', ', nullif(application_name, ''),
        'database ' || datname, 'state ' || state, 'since ' || xact_start) || ')'
    FROM pg_stat_activity
    WHERE backend_xid::text::bigint
        = pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296
    UNION ALL
    SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts
    WHERE transaction::text::bigint
        = pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296
    LIMIT 1
"""
