"""How a database means to execute what is asked of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from interlock_server.storage.database import Database
from interlock_server.storage.dialects import open_database
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection


class Explained:
    """Stands for a database to what reads from it: each statement is explained, then executed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.plan = ""
        """How the database means to execute all that was asked of it so far."""

    async def read(self, work: Any) -> Any:
        """See `Database.read`."""

        async def explain(connection: AsyncConnection) -> Any:
            return await work(self._Connection(self, connection))

        return await self._database.read(explain)

    class _Connection:
        def __init__(self, owner: "Explained", connection: AsyncConnection) -> None:
            self._owner = owner
            self._connection = connection

        async def execute(self, statement: Any) -> Any:
            sql = statement.compile(
                dialect=self._connection.dialect, compile_kwargs={"literal_binds": True}
            )
            how = (
                "EXPLAIN" if self._connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
            )
            lines = (await self._connection.execute(text(f"{how} {sql}"))).all()
            self._owner.plan += "\n".join(str(line[-1]) for line in lines)
            return await self._connection.execute(statement)


class ExplainedStatements:
    """A database of which each statement is explained as the driver is given it."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        database: Any = open_database(url)
        self._database = database
        self._runner = runner
        self.plans: list[str] = []
        """One for each statement of the last read."""
        event.listen(database._engine.sync_engine, "before_cursor_execute", self._explain)

    def read(self, read: Callable[[Any], Awaitable[Any]]) -> Any:
        """Answer what a function reads from the database."""
        self.plans.clear()

        async def reading() -> Any:
            return await read(self._database)

        return self._runner.run(reading())

    def _explain(self, _: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        words = "EXPLAIN QUERY PLAN" if self._database.dialect == "sqlite" else "EXPLAIN"
        cursor.execute(f"{words} {statement}", parameters)
        self.plans.append("\n".join(str(line[-1]) for line in cursor.fetchall()))

    def close(self) -> None:
        """Let go of the database."""
        self._runner.run(self._database.close())
