"""Raw SQLite; what it does is told in `raw`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.rows import MOVE_COLUMNS, TRANSITION_COLUMNS
from interlock_server.storage.sqlite.database import pragmas
from interlock_server.storage.types import id_to_bytes

from benchmarks.log_lines import Line
from benchmarks.raw import LOG_COLUMNS, LOG_INDEXES, RUN_COLUMNS, StateBatch, log_rows

_STATE_ID = RUN_COLUMNS.index("state_id")
_RUNS = f"SELECT {', '.join(RUN_COLUMNS)} FROM flow_run WHERE id IN (%s)"
_TRANSITIONS = f"SELECT {', '.join(TRANSITION_COLUMNS)} FROM flow_run_transition WHERE id IN (%s)"
_MOVE = f"UPDATE flow_run SET {' = ?, '.join(MOVE_COLUMNS)} = ? WHERE id = ?"


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


_ADD = _insert("flow_run_transition", TRANSITION_COLUMNS)
_LINE = _insert("line", LOG_COLUMNS)


class RawSqlite:
    """A database file through `sqlite3`, in this thread."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, cached_statements=512)
        for pragma in pragmas(DatabaseOptions()):
            self._connection.execute(pragma)

    def set_states(self, batch: StateBatch) -> float:
        """See `Raw.set_states`."""
        execute, executemany = self._connection.execute, self._connection.executemany
        run_ids = [id_to_bytes(id_) for id_ in batch.run_ids]
        transition_ids = [id_to_bytes(id_) for id_ in batch.transition_ids]
        moves = [(*row[1:], row[0]) for row in _packed(batch.moves, ("id", *MOVE_COLUMNS))]
        transitions = _packed(batch.transitions, TRANSITION_COLUMNS)
        read_runs = _RUNS % ", ".join("?" * len(run_ids))
        read_transitions = _TRANSITIONS % ", ".join("?" * len(run_ids + transition_ids))
        began = time.perf_counter()
        execute("BEGIN IMMEDIATE")
        rows = execute(read_runs, run_ids).fetchall()
        execute(read_transitions, [row[_STATE_ID] for row in rows] + transition_ids).fetchall()
        executemany(_MOVE, moves)
        executemany(_ADD, transitions)
        execute("COMMIT")
        return time.perf_counter() - began

    def make_log_table(self) -> None:
        """See `Raw.make_log_table`."""
        execute = self._connection.execute
        execute(
            "CREATE TABLE line (id BLOB PRIMARY KEY, updated INT NOT NULL, name TEXT NOT NULL,"
            " level INT NOT NULL, message TEXT NOT NULL, time INT NOT NULL,"
            " flow_run_id BLOB NOT NULL, task_run_id BLOB)"
        )
        for number, columns in enumerate(LOG_INDEXES):
            execute(f"CREATE INDEX line_{number} ON line ({columns})")

    def append_lines(self, run_id: str, lines: Sequence[Line]) -> float:
        """See `Raw.append_lines`."""
        rows = _packed(log_rows(run_id, lines), LOG_COLUMNS)
        began = time.perf_counter()
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_LINE, rows)
        self._connection.execute("COMMIT")
        return time.perf_counter() - began

    def log_table_bytes(self) -> int:
        """See `Raw.log_table_bytes`: of a database in which the table is all that grew."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (size,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int(pages * size)

    def close(self) -> None:
        """See `Raw.close`."""
        self._connection.close()


def _packed(rows: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> list[tuple[Any, ...]]:
    places = {i for i, name in enumerate(columns) if name == "id" or name.endswith("_id")}
    return [
        tuple(
            id_to_bytes(value) if i in places and value is not None else value
            for i, value in enumerate(row)
        )
        for row in rows
    ]
