"""Deployments, heartbeats, inputs, cached results, terms, and an order of what was committed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from interlock_server.storage.types import IdType
from sqlalchemy.dialects.postgresql import TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
compatible_from = "0.1.0"  # The oldest Interlock that can serve the schema after it.


def upgrade() -> None:
    op.create_table(
        "term",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", IdType(), nullable=False),
        sa.Column("renewed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_term")),
    )
    op.create_table(
        "watch_epoch",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_watch_epoch")),
    )
    op.create_table(
        "deployment",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("flow_id", IdType(), nullable=False),
        sa.Column(
            "name", sa.Text().with_variant(TEXT(collation="C"), "postgresql"), nullable=False
        ),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["flow_id"], ["flow.id"], name=op.f("fk_deployment__flow_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
        sa.UniqueConstraint("flow_id", "name", name=op.f("uq_deployment__flow_id_name")),
    )
    op.create_index(
        op.f("ix_deployment__created_id"), "deployment", ["created", "id"], unique=False
    )

    op.create_table(
        "flow_run_heartbeat",
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("timeout", sa.BigInteger(), nullable=False),
        sa.Column("heard", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["flow_run.id"],
            name=op.f("fk_flow_run_heartbeat__run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_flow_run_heartbeat")),
    )
    op.create_index(
        op.f("ix_flow_run_heartbeat__deadline"), "flow_run_heartbeat", ["deadline"], unique=False
    )

    op.create_table(
        "flow_run_input",
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("pause_key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["flow_run.id"], name=op.f("fk_flow_run_input__run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "pause_key", name=op.f("pk_flow_run_input")),
    )
    op.create_table(
        "task_run_cache",
        sa.Column("state_id", IdType(), nullable=False),
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("cache_key", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expiration", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["task_run.id"], name=op.f("fk_task_run_cache__run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("state_id", name=op.f("pk_task_run_cache")),
    )
    op.create_index(
        op.f("ix_task_run_cache__cache_key_created"),
        "task_run_cache",
        ["cache_key", "created"],
        unique=False,
    )
    op.create_index(op.f("ix_task_run_cache__run_id"), "task_run_cache", ["run_id"], unique=False)

    op.create_table(
        "task_run_heartbeat",
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("timeout", sa.BigInteger(), nullable=False),
        sa.Column("heard", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["task_run.id"],
            name=op.f("fk_task_run_heartbeat__run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_task_run_heartbeat")),
    )
    op.create_index(
        op.f("ix_task_run_heartbeat__deadline"), "task_run_heartbeat", ["deadline"], unique=False
    )

    # Not within a batch, which would copy a table on SQLite for a default that is an expression.
    op.add_column("deleted_run", sa.Column("kind", sa.Text(), nullable=True))
    op.add_column("deleted_run", sa.Column("parent_id", IdType(), nullable=True))
    op.add_column("deleted_run", sa.Column("position", sa.BigInteger(), nullable=True))
    op.add_column("deleted_run", sa.Column("ordinal", sa.Integer(), nullable=True))

    op.add_column("flow_run", sa.Column("deployment_id", IdType(), nullable=True))
    op.add_column(
        "flow_run",
        sa.Column("retry_crashes", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("flow_run", sa.Column("deadline", sa.BigInteger(), nullable=True))

    op.add_column("flow_run_transition", sa.Column("version", sa.BigInteger(), nullable=True))
    op.add_column("flow_run_transition", sa.Column("position", sa.BigInteger(), nullable=True))
    op.add_column("flow_run_transition", sa.Column("ordinal", sa.Integer(), nullable=True))

    op.add_column(
        "task_run",
        sa.Column("retry_crashes", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("task_run", sa.Column("deadline", sa.BigInteger(), nullable=True))

    op.add_column("task_run_transition", sa.Column("version", sa.BigInteger(), nullable=True))
    op.add_column("task_run_transition", sa.Column("position", sa.BigInteger(), nullable=True))
    op.add_column("task_run_transition", sa.Column("ordinal", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("task_run_transition", schema=None) as batch_op:
        batch_op.drop_column("ordinal")
        batch_op.drop_column("position")
        batch_op.drop_column("version")

    with op.batch_alter_table("task_run", schema=None) as batch_op:
        batch_op.drop_column("deadline")
        batch_op.drop_column("retry_crashes")

    with op.batch_alter_table("flow_run_transition", schema=None) as batch_op:
        batch_op.drop_column("ordinal")
        batch_op.drop_column("position")
        batch_op.drop_column("version")

    with op.batch_alter_table("flow_run", schema=None) as batch_op:
        batch_op.drop_column("deadline")
        batch_op.drop_column("retry_crashes")
        batch_op.drop_column("deployment_id")

    with op.batch_alter_table("deleted_run", schema=None) as batch_op:
        batch_op.drop_column("ordinal")
        batch_op.drop_column("position")
        batch_op.drop_column("parent_id")
        batch_op.drop_column("kind")

    op.drop_table("task_run_heartbeat")
    op.drop_table("task_run_cache")
    op.drop_table("flow_run_input")
    op.drop_table("flow_run_heartbeat")
    op.drop_table("deployment")
    op.drop_table("watch_epoch")
    op.drop_table("term")
