"""How a database means to execute what is asked of it."""

from typing import Any

from interlock_server.storage.database import Database
from sqlalchemy import text
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
