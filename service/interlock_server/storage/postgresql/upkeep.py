"""PostgreSQL's upkeep: VACUUM table by table. Its backups are made by its own tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.storage import tables
from interlock_server.storage.upkeep import Advance, Damage, Report, UpkeepError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from interlock_server.storage.postgresql.database import PostgresqlDatabase


class PostgresqlUpkeep:
    """The upkeep of a PostgreSQL database."""

    writes_wait = False

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def backup(self, path: Path, overwrite: bool, report: Report) -> int:
        """See `Upkeep.backup`: refuses, and says what to do."""
        raise UpkeepError(
            "BACKUP_NOT_SUPPORTED",
            "PostgreSQL makes its backups by itself. Run `pg_dump --format=custom "
            "--file=interlock.dump DATABASE` as often as you need one; docs/databases.md has more.",
        )

    async def vacuum(self, report: Report) -> None:
        """See `Upkeep.vacuum`."""
        names = [table.name for table in tables.metadata.sorted_tables]
        for place, name in enumerate(names):
            report(Advance(name, place, len(names)))

            def vacuum(connection: Connection, name: str = name) -> None:
                # It can not run in a transaction.
                alone = connection.execution_options(isolation_level="AUTOCOMMIT")
                alone.exec_driver_sql(f"VACUUM (ANALYZE) {name}")

            await self._database.migrate(vacuum)
        report(Advance(names[-1], len(names), len(names)))

    def structural_checks(self) -> tuple[str, ...]:
        """See `Upkeep.structural_checks`: none without further extensions."""
        return ()

    async def damage(self, check: str, limit: int) -> list[Damage]:
        """See `Upkeep.damage`."""
        raise LookupError(check)

    async def size(self) -> int:
        """See `Upkeep.size`: all tables of the database, with their indexes."""

        async def read(connection: AsyncConnection) -> int:
            size = await connection.execute(text("SELECT pg_database_size(current_database())"))
            return int(size.scalar_one())

        return await self._database.read(read)
