"""The contract of operators, generated from `protos/`."""

from interlock.admin.v1.migration_pb2 import (
    GetStatusRequest as GetStatusRequest,
    GetStatusResponse as GetStatusResponse,
    Revision as Revision,
    UPGRADE_STAGE_APPLIED as UPGRADE_STAGE_APPLIED,
    UPGRADE_STAGE_APPLYING as UPGRADE_STAGE_APPLYING,
    UPGRADE_STAGE_UNSPECIFIED as UPGRADE_STAGE_UNSPECIFIED,
    UpgradeRequest as UpgradeRequest,
    UpgradeResponse as UpgradeResponse,
    UpgradeStage as UpgradeStage,
)
from interlock.admin.v1.migration_pb2_grpc import (
    MigrationServiceServicer as MigrationServiceServicer,
    MigrationServiceStub as MigrationServiceStub,
    add_MigrationServiceServicer_to_server as add_MigrationServiceServicer_to_server,
)

__all__ = [
    "GetStatusRequest",
    "GetStatusResponse",
    "MigrationServiceServicer",
    "MigrationServiceStub",
    "Revision",
    "UPGRADE_STAGE_APPLIED",
    "UPGRADE_STAGE_APPLYING",
    "UPGRADE_STAGE_UNSPECIFIED",
    "UpgradeRequest",
    "UpgradeResponse",
    "UpgradeStage",
    "add_MigrationServiceServicer_to_server",
]
