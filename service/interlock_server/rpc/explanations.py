"""Explanations: domain -> protobuf."""

from __future__ import annotations

import time

from interlock.v1 import explanation_pb2 as pb

from interlock_server.core.engine import Engine
from interlock_server.core.errors import run_not_found
from interlock_server.rpc import fields, states
from interlock_server.rules.explanations import Cause, explain
from interlock_server.rules.overdue import PATIENCE, Patience
from interlock_server.storage.explanation_queries import read_circumstances
from interlock_server.storage.records import RunKind


async def explanation(
    engine: Engine, kind: RunKind, id_: str, patience: Patience = PATIENCE
) -> pb.Explanation:
    """Explain the run that a request names. Raises NotFoundError."""
    run_id = fields.id_("id", id_)
    now = time.time_ns() // 1000
    run = await read_circumstances(engine.database, kind, run_id, now, patience)
    if run is None:
        raise run_not_found(kind, run_id, deleted=False)
    made = explain(run)
    return pb.Explanation(
        state=states.to_state_or_none(run.state),
        summary=made.summary,
        causes=[_to_cause(cause) for cause in made.causes],
    )


def _to_cause(cause: Cause) -> pb.Cause:
    return pb.Cause(
        reason=cause.reason,
        explanation=f"{cause.words} {cause.outlook}".rstrip(),
        until_time=fields.to_timestamp_or_none(cause.until),
        resource_type=cause.resource_type,
        resource_id=cause.resource_id,
    )
