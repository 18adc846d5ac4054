"""The first schema: flows, runs, their histories and their logs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from interlock_server.storage.types import IdType
from sqlalchemy.dialects.postgresql import TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
compatible_from = "0.1.0"


def upgrade() -> None:
    op.create_table(
        "deleted_run",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deleted_run")),
    )
    op.create_index(op.f("ix_deleted_run__deleted"), "deleted_run", ["deleted"], unique=False)

    op.create_table(
        "flow",
        sa.Column("id", IdType(), nullable=False),
        sa.Column(
            "name", sa.Text().with_variant(TEXT(collation="C"), "postgresql"), nullable=False
        ),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow")),
        sa.UniqueConstraint("name", name=op.f("uq_flow__name")),
    )
    op.create_index(op.f("ix_flow__created_id"), "flow", ["created", "id"], unique=False)

    op.create_table(
        "log_chunk",
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("first_ordinal", sa.BigInteger(), nullable=False),
        sa.Column("last_ordinal", sa.BigInteger(), nullable=False),
        sa.Column("first_time", sa.BigInteger(), nullable=False),
        sa.Column("last_time", sa.BigInteger(), nullable=False),
        sa.Column("trace_count", sa.Integer(), nullable=False),
        sa.Column("debug_count", sa.Integer(), nullable=False),
        sa.Column("info_count", sa.Integer(), nullable=False),
        sa.Column("warning_count", sa.Integer(), nullable=False),
        sa.Column("error_count", sa.Integer(), nullable=False),
        sa.Column("critical_count", sa.Integer(), nullable=False),
        sa.Column("raw_bytes", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "first_ordinal", name=op.f("pk_log_chunk")),
    )
    op.create_table(
        "log_chunk_task_run",
        sa.Column("task_run_id", IdType(), nullable=False),
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("first_ordinal", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "task_run_id", "run_id", "first_ordinal", name=op.f("pk_log_chunk_task_run")
        ),
    )
    op.create_index(
        op.f("ix_log_chunk_task_run__run_id"), "log_chunk_task_run", ["run_id"], unique=False
    )

    op.create_table(
        "log_head",
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("next_ordinal", sa.BigInteger(), nullable=False),
        sa.Column("appended", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_log_head")),
    )
    op.create_table(
        "log_producer",
        sa.Column("producer_id", IdType(), nullable=False),
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("last_number", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("producer_id", "run_id", name=op.f("pk_log_producer")),
    )
    op.create_index(op.f("ix_log_producer__run_id"), "log_producer", ["run_id"], unique=False)

    op.create_table(
        "flow_run",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("flow_id", IdType(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("flow_version", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("parent_task_run_id", IdType(), nullable=True),
        sa.Column("infrastructure_pid", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("retry_delays", sa.Text(), nullable=True),
        sa.Column("retry_jitter_factor", sa.Double(), nullable=False),
        sa.Column("state_id", IdType(), nullable=True),
        sa.Column("state_type", sa.Text(), nullable=True),
        sa.Column("state_name", sa.Text(), nullable=True),
        sa.Column("state_timestamp", sa.BigInteger(), nullable=True),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("start_time", sa.BigInteger(), nullable=True),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.Column("total_run_time", sa.BigInteger(), nullable=False),
        sa.Column("expected_start_time", sa.BigInteger(), nullable=True),
        sa.Column("next_scheduled_start_time", sa.BigInteger(), nullable=True),
        sa.Column("flow_run_run_count", sa.Integer(), nullable=False),
        sa.Column("resuming", sa.Boolean(), nullable=False),
        sa.Column("pause_keys", sa.Text(), nullable=True),
        sa.Column("retry_type", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["flow_id"], ["flow.id"], name=op.f("fk_flow_run__flow_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_run")),
        sa.UniqueConstraint(
            "flow_id", "idempotency_key", name=op.f("uq_flow_run__flow_id_idempotency_key")
        ),
    )
    op.create_index(
        op.f("ix_flow_run__expected_start_time_id"),
        "flow_run",
        ["expected_start_time", "id"],
        unique=False,
    )
    op.create_index(op.f("ix_flow_run__flow_id_id"), "flow_run", ["flow_id", "id"], unique=False)
    op.create_index(
        op.f("ix_flow_run__parent_task_run_id"), "flow_run", ["parent_task_run_id"], unique=False
    )
    op.create_index(
        op.f("ix_flow_run__state_type_id"), "flow_run", ["state_type", "id"], unique=False
    )

    op.create_table(
        "flow_run_transition",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("decided", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("proposed_type", sa.Text(), nullable=False),
        sa.Column("proposed_name", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("force", sa.Boolean(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("state_type", sa.Text(), nullable=True),
        sa.Column("state_name", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("details", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("answered_state_id", IdType(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["flow_run.id"],
            name=op.f("fk_flow_run_transition__run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_run_transition")),
    )
    op.create_index(
        op.f("ix_flow_run_transition__run_id_decided_id"),
        "flow_run_transition",
        ["run_id", "decided", "id"],
        unique=False,
    )

    op.create_table(
        "task_run",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("flow_run_id", IdType(), nullable=True),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("dynamic_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("task_version", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("retry_delays", sa.Text(), nullable=True),
        sa.Column("retry_jitter_factor", sa.Double(), nullable=False),
        sa.Column("state_id", IdType(), nullable=True),
        sa.Column("state_type", sa.Text(), nullable=True),
        sa.Column("state_name", sa.Text(), nullable=True),
        sa.Column("state_timestamp", sa.BigInteger(), nullable=True),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("start_time", sa.BigInteger(), nullable=True),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.Column("total_run_time", sa.BigInteger(), nullable=False),
        sa.Column("expected_start_time", sa.BigInteger(), nullable=True),
        sa.Column("next_scheduled_start_time", sa.BigInteger(), nullable=True),
        sa.Column("flow_run_run_count", sa.Integer(), nullable=False),
        sa.Column("resuming", sa.Boolean(), nullable=False),
        sa.Column("pause_keys", sa.Text(), nullable=True),
        sa.Column("retry_type", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["flow_run_id"],
            ["flow_run.id"],
            name=op.f("fk_task_run__flow_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_run")),
        sa.UniqueConstraint(
            "flow_run_id",
            "task_key",
            "dynamic_key",
            name=op.f("uq_task_run__flow_run_id_task_key_dynamic_key"),
        ),
    )
    op.create_index(
        op.f("ix_task_run__expected_start_time_id"),
        "task_run",
        ["expected_start_time", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_task_run__flow_run_id_id"), "task_run", ["flow_run_id", "id"], unique=False
    )
    op.create_index(
        op.f("ix_task_run__state_type_id"), "task_run", ["state_type", "id"], unique=False
    )
    op.create_index(
        "uq_task_run__alone",
        "task_run",
        ["task_key", "dynamic_key"],
        unique=True,
        sqlite_where=sa.text("flow_run_id IS NULL"),
        postgresql_where=sa.text("flow_run_id IS NULL"),
    )

    op.create_table(
        "task_run_transition",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("decided", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("proposed_type", sa.Text(), nullable=False),
        sa.Column("proposed_name", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("force", sa.Boolean(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("state_type", sa.Text(), nullable=True),
        sa.Column("state_name", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("details", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("answered_state_id", IdType(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["task_run.id"],
            name=op.f("fk_task_run_transition__run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_run_transition")),
    )
    op.create_index(
        op.f("ix_task_run_transition__run_id_decided_id"),
        "task_run_transition",
        ["run_id", "decided", "id"],
        unique=False,
    )


def downgrade() -> None:

    op.drop_table("task_run_transition")

    op.drop_table("task_run")

    op.drop_table("flow_run_transition")

    op.drop_table("flow_run")

    op.drop_table("log_producer")
    op.drop_table("log_head")

    op.drop_table("log_chunk_task_run")
    op.drop_table("log_chunk")

    op.drop_table("flow")

    op.drop_table("deleted_run")
