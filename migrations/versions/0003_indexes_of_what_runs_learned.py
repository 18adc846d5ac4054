"""Indexes of what runs and their histories have learned in 0002"""

from __future__ import annotations

from interlock_server.storage.migration_tools import build_index, drop_index

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
compatible_from = "0.1.0"

_BY_POSITION = ("deleted_run", "flow_run_transition", "task_run_transition")


def upgrade() -> None:
    for table in _BY_POSITION:
        build_index(f"ix_{table}__position_ordinal", table, ["position", "ordinal"])
    build_index(
        "ix_flow_run__state_type_deadline",
        "flow_run",
        ["state_type", "deadline"],
        where="deadline IS NOT NULL",
    )
    build_index("ix_flow_run__deployment_id_id", "flow_run", ["deployment_id", "id"])


def downgrade() -> None:
    drop_index("ix_flow_run__deployment_id_id")
    drop_index("ix_flow_run__state_type_deadline")
    for table in reversed(_BY_POSITION):
        drop_index(f"ix_{table}__position_ordinal")
