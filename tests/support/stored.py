"""Rows put straight into the tables, where what is tested takes long to come about by itself."""

import time
from collections.abc import Iterable
from typing import Any

import zstandard
from interlock import log_columns
from interlock.ids import uuid7
from interlock_server.storage.database import Database
from interlock_server.storage.tables import metadata
from interlock_server.storage.types import IdType
from sqlalchemy import Boolean, Connection, Double, Integer, LargeBinary, func, inspect, select

DAY = 24 * 60 * 60 * 1_000_000
"""In microseconds, as all times in the tables."""


def ago(days: float) -> int:
    """The time so many days ago."""
    return time.time_ns() // 1000 - int(days * DAY)


def _plain(column: Any) -> Any:
    match column.type:
        case IdType():
            return uuid7()
        case Boolean():
            return False
        case Integer():
            return 1
        case Double():
            return 0.5
        case LargeBinary():
            return b""
        case _:
            return ""


class Rows:
    """Collects rows, and puts them into a database at once. What a row does not say is plain."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def add(self, table: str, **values: Any) -> str:
        """A row; answers its id, where it has one."""
        columns = metadata.tables[table].columns
        row = {
            column.name: values.get(column.name, None if column.nullable else _plain(column))
            for column in columns
        }
        assert values.keys() <= row.keys()
        self._rows.setdefault(table, []).append(row)
        return str(row.get("id", ""))

    def flow(self) -> str:
        """A flow."""
        return self.add("flow", name=uuid7(), tags="[]", labels="{}")

    def deployment(self, flow_id: str, name: str) -> str:
        """A deployment of a flow."""
        return self.add("deployment", flow_id=flow_id, name=name, tags="[]", labels="{}")

    def run(self, kind: str, ended: int, *, state: str = "COMPLETED", **values: Any) -> str:
        """A run in a state since `ended`, with the history of that state."""
        state_id = uuid7()
        if kind == "task_run":
            values = {"dynamic_key": uuid7(), **values}
        run_id = self.add(
            kind,
            tags="[]",
            labels="{}",
            state_id=state_id,
            state_type=state,
            state_name=state.capitalize(),
            state_timestamp=ended,
            end_time=ended,
            **values,
        )
        self.transition(kind, run_id, ended, id=state_id, state=state)
        return run_id

    def findable(self, kind: str, run_id: str, name: str, tags: Iterable[str] = ()) -> None:
        """What finds a run by its name and its tags."""
        self.add(f"{kind}_name", run_id=run_id, name=name, folded_name=name.casefold())
        for tag in tags:
            self.add(f"{kind}_tag", run_id=run_id, tag=tag)

    def transition(
        self, kind: str, run_id: str, decided: int, state: str = "", **values: Any
    ) -> None:
        """A line of a run's history."""
        written = {"state_type": state, "state_name": state.capitalize()} if state else {}
        self.add(
            f"{kind}_transition",
            run_id=run_id,
            decided=decided,
            verdict="ACCEPT" if state else "ABORT",
            proposed_type=state or "RUNNING",
            **written,
            **values,
        )

    def log(self, run_id: str, chunks: int, task_run_id: str = "", *, new: int = 0) -> None:
        """A log of so many chunks, with two records each; the last `new` of them came now."""
        appended = ago(0) if new else 1
        self.add(
            "log_head", run_id=run_id, next_ordinal=2 * chunks, appended=appended, first_ordinal=0
        )
        self.add("log_producer", run_id=run_id)
        columns = log_columns.pack(
            [
                (5, 20, "", "one", task_run_id, False),
                (7, 40, "", "two", task_run_id, False),
            ]
        )
        packed = columns.SerializeToString()
        data = zstandard.ZstdCompressor().compress(packed)
        for chunk in range(chunks):
            self.add(
                "log_chunk",
                run_id=run_id,
                first_ordinal=2 * chunk,
                last_ordinal=2 * chunk + 1,
                first_time=5,
                last_time=7,
                stored=ago(0) if chunk >= chunks - new else None,
                **dict.fromkeys(("trace_count", "debug_count", "warning_count"), 0),
                info_count=1,
                error_count=1,
                critical_count=0,
                raw_bytes=len(packed),
                data=data,
            )
            if task_run_id:
                self.add(
                    "log_chunk_task_run",
                    run_id=run_id,
                    task_run_id=task_run_id,
                    first_ordinal=2 * chunk,
                )

    async def put(self, database: Database) -> None:
        """Write them, without the columns that the schema does not have at its revision."""

        def write(connection: Connection) -> None:
            look = inspect(connection)
            for table in metadata.sorted_tables:
                if rows := self._rows.get(table.name):
                    there = {column["name"] for column in look.get_columns(table.name)}
                    fitting = [{name: row[name] for name in row if name in there} for row in rows]
                    connection.execute(table.insert(), fitting)
            connection.commit()

        await database.migrate(write)
        self._rows.clear()


async def counts(database: Database) -> dict[str, int]:
    """How many rows each table has, but for those that have none."""

    def count(connection: Connection) -> dict[str, int]:
        found = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }
        return {name: number for name, number in found.items() if number}

    return await database.migrate(count)
