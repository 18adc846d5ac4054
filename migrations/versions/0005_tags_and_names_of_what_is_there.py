"""Tags and names of what is there"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from interlock_server.storage.migration_tools import backfill_rows
from sqlalchemy import Connection, text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
compatible_from = "0.1.0"

_KEYS = {
    "flow": "flow_id",
    "deployment": "deployment_id",
    "flow_run": "run_id",
    "task_run": "run_id",
}


def upgrade() -> None:
    for owner, key in _KEYS.items():
        backfill_rows(
            owner,
            ["tags"],
            _tag_writer(f"{owner}_tag", key),
            where="tags LIKE '[\"%' AND NOT EXISTS "
            f"(SELECT 1 FROM {owner}_tag AS there WHERE there.{key} = {owner}.id)",
        )
    for owner in ("flow_run", "task_run"):
        backfill_rows(
            owner,
            ["name"],
            _name_writer(f"{owner}_name"),
            where="NOT EXISTS "
            f"(SELECT 1 FROM {owner}_name AS there WHERE there.run_id = {owner}.id)",
        )
    for owner in ("flow", "deployment"):
        backfill_rows(owner, ["name"], _fold_writer(owner), where="folded_name IS NULL")


def _tag_writer(table: str, key: str) -> Any:
    insert = text(f"INSERT INTO {table} ({key}, tag) VALUES (:id, :tag) ON CONFLICT DO NOTHING")

    def write(connection: Connection, rows: Sequence[Any]) -> None:
        connection.execute(
            insert, [{"id": id_, "tag": tag} for id_, tags in rows for tag in json.loads(tags)]
        )

    return write


def _name_writer(table: str) -> Any:
    insert = text(
        f"INSERT INTO {table} (run_id, name, folded_name) VALUES (:id, :name, :folded) "
        "ON CONFLICT DO NOTHING"
    )
    return lambda connection, rows: connection.execute(insert, _folded(rows))


def _fold_writer(table: str) -> Any:
    update = text(f"UPDATE {table} SET folded_name = :folded WHERE id = :id AND name = :name")
    return lambda connection, rows: connection.execute(update, _folded(rows))


def _folded(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"id": id_, "name": name, "folded": name.casefold()} for id_, name in rows]


def downgrade() -> None:
    """What was written goes with its tables and columns."""
