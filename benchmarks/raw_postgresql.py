"""Raw PostgreSQL; what it does is told in `raw`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import uvloop
from interlock_server.storage.rows import MOVE_COLUMNS, TRANSITION_COLUMNS

from benchmarks.log_lines import Line
from benchmarks.raw import LOG_COLUMNS, LOG_INDEXES, RUN_COLUMNS, StateBatch, log_rows

_STATE_ID = RUN_COLUMNS.index("state_id")
_RUNS = (
    f"SELECT {', '.join(RUN_COLUMNS)} FROM flow_run WHERE id = ANY($1::uuid[])"
    " ORDER BY id FOR UPDATE"
)
_TRANSITIONS = (
    f"SELECT {', '.join(TRANSITION_COLUMNS)} FROM flow_run_transition WHERE id = ANY($1::uuid[])"
)
_TYPES_OF_COLUMNS = (
    "SELECT column_name, CASE udt_name WHEN 'int8' THEN 'bigint' ELSE udt_name END"
    " FROM information_schema.columns WHERE table_name = $1"
)


class RawPostgresql:
    """A database through asyncpg, on one connection and an event loop of its own (uvloop)."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._connection: Any = self._runner.run(
            asyncpg.connect(
                url.replace("+asyncpg", ""),
                server_settings={"synchronous_commit": "on", "jit": "off"},
            )
        )
        self._add = self._runner.run(self._insert("flow_run_transition", TRANSITION_COLUMNS))
        self._move = self._runner.run(self._update("flow_run", MOVE_COLUMNS))
        self._line = ""

    async def _arrays(self, table: str, columns: Sequence[str]) -> str:
        types = dict(await self._connection.fetch(_TYPES_OF_COLUMNS, table))
        return ", ".join(f"${i}::{types[name]}[]" for i, name in enumerate(columns, 1))

    async def _insert(self, table: str, columns: Sequence[str]) -> str:
        arrays = await self._arrays(table, columns)
        return f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM unnest({arrays})"

    async def _update(self, table: str, columns: Sequence[str]) -> str:
        arrays = await self._arrays(table, ("id", *columns))
        changes = ", ".join(f"{name} = v.{name}" for name in columns)
        return (
            f"UPDATE {table} t SET {changes} FROM unnest({arrays})"
            f" AS v (id, {', '.join(columns)}) WHERE t.id = v.id"
        )

    def set_states(self, batch: StateBatch) -> float:
        """See `Raw.set_states`."""
        run_ids = [UUID(id_) for id_ in batch.run_ids]
        transition_ids = [UUID(id_) for id_ in batch.transition_ids]
        moves = _columns(batch.moves, ("id", *MOVE_COLUMNS))
        transitions = _columns(batch.transitions, TRANSITION_COLUMNS)

        async def write() -> float:
            connection = self._connection
            began = time.perf_counter()
            await connection.execute("BEGIN")
            rows = await connection.fetch(_RUNS, run_ids)
            await connection.fetch(_TRANSITIONS, [row[_STATE_ID] for row in rows] + transition_ids)
            await connection.execute(self._move, *moves)
            await connection.execute(self._add, *transitions)
            await connection.execute("COMMIT")
            return time.perf_counter() - began

        return self._runner.run(write())

    def make_log_table(self) -> None:
        """See `Raw.make_log_table`."""
        indexes = "".join(f"CREATE INDEX ON line ({columns});" for columns in LOG_INDEXES)
        self._runner.run(
            self._connection.execute(
                "CREATE TABLE line (id uuid PRIMARY KEY, updated bigint NOT NULL,"
                " name text NOT NULL, level smallint NOT NULL, message text NOT NULL,"
                f" time bigint NOT NULL, flow_run_id uuid NOT NULL, task_run_id uuid); {indexes}"
            )
        )
        self._line = self._runner.run(self._insert("line", LOG_COLUMNS))

    def append_lines(self, run_id: str, lines: Sequence[Line]) -> float:
        """See `Raw.append_lines`."""
        columns = _columns(log_rows(run_id, lines), LOG_COLUMNS)

        async def write() -> float:
            began = time.perf_counter()
            # A statement by itself is a transaction.
            await self._connection.execute(self._line, *columns)
            return time.perf_counter() - began

        return self._runner.run(write())

    def log_table_bytes(self) -> int:
        """See `Raw.log_table_bytes`."""
        size = self._connection.fetchval("SELECT pg_total_relation_size('line')")
        return int(self._runner.run(size))

    def close(self) -> None:
        """See `Raw.close`."""
        self._runner.run(self._connection.close())
        self._runner.close()


def _columns(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> list[tuple[Any, ...]]:
    return [
        tuple(UUID(value) if value is not None else None for value in column)
        if name == "id" or name.endswith("_id")
        else column
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    ]
