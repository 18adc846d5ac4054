"""Chunks of logs by the time of their records and by task runs, and open producers of logs"""

from __future__ import annotations

from interlock_server.storage.migration_tools import backfill, build_index, drop_index

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
compatible_from = "0.1.0"

_OLDEST = """COALESCE(
    (SELECT min(c.first_ordinal) FROM log_chunk AS c WHERE c.run_id = log_head.run_id),
    next_ordinal
)"""


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
    # Of a log that was cut before a downgrade to 0005, which knows no beginning but 0.
    backfill(
        "log_head", f"first_ordinal = {_OLDEST}", where=f"first_ordinal < {_OLDEST}", key="run_id"
    )


def downgrade() -> None:
    drop_index("ix_log_producer__open_run_id")
    build_index("ix_log_chunk_task_run__run_id", "log_chunk_task_run", ["run_id"])
    drop_index("ix_log_chunk_task_run__run_id_first_ordinal")
    drop_index("ix_log_chunk__last_time_first_time_run_id")
