"""Chunks of logs by the time of their records and by task runs, and open producers of logs"""

from __future__ import annotations

from interlock_server.storage.migration_tools import build_index, drop_index

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
compatible_from = "0.1.0"


def upgrade() -> None:
    build_index(
        "ix_log_chunk__last_time_first_time_run_id",
        "log_chunk",
        ["last_time", "first_time", "run_id"],
    )
    build_index(
        "ix_log_chunk_task_run__run_id_first_ordinal",
        "log_chunk_task_run",
        ["run_id", "first_ordinal"],
    )
    drop_index("ix_log_chunk_task_run__run_id")
    build_index("ix_log_producer__open_run_id", "log_producer", ["run_id"], where="NOT closed")


def downgrade() -> None:
    drop_index("ix_log_producer__open_run_id")
    build_index("ix_log_chunk_task_run__run_id", "log_chunk_task_run", ["run_id"])
    drop_index("ix_log_chunk_task_run__run_id_first_ordinal")
    drop_index("ix_log_chunk__last_time_first_time_run_id")
