"""PostgreSQL: how a migrator gets its turn, and a scratch database of temporary tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.storage.migrating import Holder

T = TypeVar("T")

_LOCK = 0x1_7E_10_CC
"""The advisory lock by which migrators of one database take turns."""

_NAME = "interlock migration "
"""How the session of a migrator is called, before who it is: all that others can see of it."""

SETTINGS = {
    # A change of a table that waits for a long reader holds up everyone who comes after it.
    "lock_timeout": "5000",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}

_HOLDER = text(
    "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = :lock "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)

_TABLE_LOCKS = text(
    "SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
    "WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid() AND l.granted "
    "AND c.relkind IN ('r', 'p') AND c.relnamespace = pg_my_temp_schema() "
    "ORDER BY c.relname, l.mode"
)

TABLE_SIZES = text(
    "SELECT relname, pg_total_relation_size(oid), "
    # Before version 14 a table that was never counted has 0.
    "CASE WHEN relpages = 0 AND reltuples = 0 THEN -1 ELSE reltuples::bigint END FROM pg_class "
    "WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') "
    "AND relname = ANY(:names)"
)
"""The bytes and the estimated rows of tables, by name."""


class PostgresqlMigrationSession:
    """See `MigrationSession`. The lock is the session's, and outlives its transactions."""

    def __init__(
        self, connection: AsyncConnection, translate: Callable[[BaseException], BaseException]
    ) -> None:
        self._connection = connection
        self._translate = translate

    async def try_lock(self) -> bool:
        """See `MigrationSession`."""

        def take(connection: Connection) -> bool:
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}):
                return False
            name = f"{_NAME}{Holder.this_process()}"
            connection.execute(
                text("SELECT set_config('application_name', :name, false)"), {"name": name}
            )
            connection.commit()
            return True

        return await self.run(take)

    async def holder(self) -> Holder:
        """See `MigrationSession`."""
        name = await self.run(lambda connection: connection.scalar(_HOLDER, {"lock": _LOCK}))
        return Holder.parse((name or "").removeprefix(_NAME))

    async def run(self, work: Callable[[Connection], T]) -> T:
        """See `MigrationSession`."""
        try:
            try:
                return await self._connection.run_sync(work)
            finally:
                if self._connection.in_transaction():
                    await self._connection.rollback()
        except Exception as error:
            raise self._translate(error) from error

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """See `MigrationSession`."""

        def whole(connection: Connection) -> T:
            with connection.begin():
                return work(connection)

        return await self.run(whole)


class PostgresqlScratch:
    """See `Scratch`: temporary tables hide the real ones, and go with the session."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def prepare(self) -> None:
        """See to it that only temporary tables are seen and made."""

        def only_temporary(connection: Connection) -> None:
            connection.exec_driver_sql("SET search_path = pg_temp")
            connection.commit()

        await self._connection.run_sync(only_temporary)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """See `Scratch`."""
        try:
            return await self._connection.run_sync(work)
        finally:
            if self._connection.in_transaction():
                await self._connection.rollback()

    def tables(self, connection: Connection) -> frozenset[str]:
        """See `Scratch`."""
        return frozenset(inspect(connection).get_temp_table_names())

    def held_locks(self, connection: Connection) -> list[tuple[str, str]]:
        """See `Scratch`."""
        return [(table, mode) for table, mode in connection.execute(_TABLE_LOCKS)]
