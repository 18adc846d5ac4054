"""Tags and names to find things by"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from interlock_server.storage.migration_tools import build_substring_index
from interlock_server.storage.types import IdType
from sqlalchemy.dialects.postgresql import TEXT

revision = "0004"
down_revision = "0003"
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
        table = f"{owner}_tag"
        op.create_table(
            table,
            sa.Column(key, IdType(), nullable=False),
            sa.Column("tag", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(
                [key], [f"{owner}.id"], name=op.f(f"fk_{table}__{key}"), ondelete="CASCADE"
            ),
            sa.PrimaryKeyConstraint(key, "tag", name=op.f(f"pk_{table}")),
        )
        op.create_index(op.f(f"ix_{table}__tag_{key}"), table, ["tag", key])

    for owner in ("flow_run", "task_run"):
        table = f"{owner}_name"
        op.create_table(
            table,
            sa.Column("run_id", IdType(), nullable=False),
            sa.Column(
                "name", sa.Text().with_variant(TEXT(collation="C"), "postgresql"), nullable=False
            ),
            sa.Column("folded_name", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(
                ["run_id"], [f"{owner}.id"], name=op.f(f"fk_{table}__run_id"), ondelete="CASCADE"
            ),
            sa.PrimaryKeyConstraint("run_id", name=op.f(f"pk_{table}")),
        )
        op.create_index(op.f(f"ix_{table}__name_run_id"), table, ["name", "run_id"])
        build_substring_index(f"ix_{table}__folded_name", table, "folded_name")

    for owner in ("flow", "deployment"):
        op.add_column(owner, sa.Column("folded_name", sa.Text(), nullable=True))
        build_substring_index(f"ix_{owner}__folded_name", owner, "folded_name")


def downgrade() -> None:
    for owner in ("flow", "deployment"):
        with op.batch_alter_table(owner) as batch_op:
            # On PostgreSQL its index goes with it.
            batch_op.drop_column("folded_name")
    for owner in ("flow_run", "task_run"):
        op.drop_table(f"{owner}_name")
    for owner in reversed(_KEYS):
        op.drop_table(f"{owner}_tag")
