"""Where logs begin, how far their chunks are merged, and which logs are to be merged next"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from interlock_server.storage.types import IdType

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
compatible_from = "0.1.0"  # The oldest Interlock that can serve the schema after it.

_COLUMNS = {
    "log_head": (
        ("first_ordinal", sa.BigInteger(), "0"),
        ("small_chunks", sa.Integer(), "0"),
        ("sealed_ordinal", sa.BigInteger(), "0"),
    ),
    "log_chunk": (("level", sa.SmallInteger(), "0"), ("stored", sa.BigInteger(), None)),
    "log_producer": (("digest", sa.LargeBinary(), None),),
}
"""New columns by table: name, type, and what the rows that are there have."""


def upgrade() -> None:
    op.create_table(
        "log_merge",
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_log_merge")),
    )
    op.create_index(op.f("ix_log_merge__due"), "log_merge", ["due"], unique=False)
    for table, columns in _COLUMNS.items():
        for name, type_, default in columns:
            op.add_column(
                table,
                sa.Column(name, type_, nullable=default is None, server_default=default),
            )


def downgrade() -> None:
    for table, columns in _COLUMNS.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name, _, _ in columns:
                batch_op.drop_column(name)
    op.drop_table("log_merge")
