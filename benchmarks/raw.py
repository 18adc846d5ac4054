"""The yardstick of what is written in batches: the database's driver alone.

What raw does for a batch of transitions is what the database has to do for one, and no more:

1. begin; read, and on PostgreSQL lock, the rows of the runs, the columns that the rules need;
2. read the transitions that wrote the runs' states, and look for the proposals' own ids (which
   finds none: they are fresh);
3. update the runs, insert the transitions: the same columns as Interlock, in the same tables;
4. commit, as durable as Interlock does.

What it writes is made beforehand, and what it reads is thrown away: no rule, no check, no protobuf,
no call, no conversion of ids. On SQLite it is one thread with `sqlite3`: one statement to read each
kind of rows, `executemany` to write. On PostgreSQL it is asyncpg with one statement a step, rows
going in as arrays (`unnest`). Only these calls are timed.

Raw log lines go into a table with a row a line, with the columns and the six secondary indexes that
such services have: that is what chunks are compared with. Its ids and times are in their smallest
form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from interlock.ids import uuid7
from interlock_server.storage.records import RunKind
from interlock_server.storage.rows import MOVE_COLUMNS, TRANSITION_COLUMNS, fact_columns

from benchmarks.log_lines import Line

RUN_COLUMNS = fact_columns(RunKind.FLOW_RUN)
LOG_COLUMNS = ("id", "updated", "name", "level", "message", "time", "flow_run_id", "task_run_id")
LOG_INDEXES = ("level", "flow_run_id", "task_run_id", "time", "flow_run_id, time", "updated")

_NOW = 1_760_000_000_000_000
_MESSAGE = "Attempt on host worker-17: 3 of 8 parts are done."


@dataclass(frozen=True, slots=True)
class StateBatch:
    """What one batch of transitions reads and writes; ids are text."""

    run_ids: list[str]
    transition_ids: list[str]
    moves: list[tuple[Any, ...]]
    """A row for each run: its id, then `MOVE_COLUMNS`."""
    transitions: list[tuple[Any, ...]]
    """A row of `TRANSITION_COLUMNS` for each proposal."""


class Raw(Protocol):
    """A database through its driver. All methods block."""

    def set_states(self, batch: StateBatch) -> float:
        """Write a batch of transitions, each in a transaction; answer the seconds that it took."""

    def make_log_table(self) -> None:
        """Make the table for `append_lines`."""

    def append_lines(self, run_id: str, lines: Sequence[Line]) -> float:
        """Insert lines in one transaction; answer the seconds that it took."""

    def log_table_bytes(self) -> int:
        """Answer how much of the disk the lines take, indexes included."""

    def close(self) -> None:
        """Let go of the database."""


def state_batch(run_ids: Sequence[str], number: int) -> StateBatch:
    """Make the `number`-th batch for these runs, all of which are in RUNNING."""
    time = _NOW + number
    moves: list[tuple[Any, ...]] = []
    transitions: list[tuple[Any, ...]] = []
    for run_id in run_ids:
        id_ = uuid7()
        moved: dict[str, Any] = {
            "version": number,
            "updated": time,
            "state_id": id_,
            "state_type": "RUNNING",
            "state_name": "Running",
            "state_timestamp": time,
            "run_count": number,
            "start_time": _NOW,
            "total_run_time": number,
            "expected_start_time": _NOW,
            "flow_run_run_count": 0,
            "resuming": False,
        }
        moves.append((run_id, *(moved.get(name) for name in MOVE_COLUMNS)))
        transition: dict[str, Any] = {
            "id": id_,
            "run_id": run_id,
            "decided": time,
            "verdict": "ACCEPT",
            "rule": "",
            "reason": "",
            "explanation": "",
            "proposed_type": "RUNNING",
            "proposed_name": "Running",
            "proposed_by": "worker-17.cluster.example",
            "force": False,
            "digest": bytes.fromhex(id_.replace("-", "")),
            "run_count": number,
            "state_type": "RUNNING",
            "state_name": "Running",
            "message": _MESSAGE,
        }
        transitions.append(tuple(transition.get(name) for name in TRANSITION_COLUMNS))
    ids = [row[0] for row in transitions]
    return StateBatch(list(run_ids), ids, moves, transitions)


def log_rows(run_id: str, lines: Sequence[Line]) -> list[tuple[Any, ...]]:
    """Make a row of `LOG_COLUMNS` for each line."""
    return [
        (uuid7(), time, logger, level, message, time, run_id, task_run_id or None)
        for time, level, logger, message, task_run_id, _ in lines
    ]
