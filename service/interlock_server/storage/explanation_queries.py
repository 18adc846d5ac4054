"""Reading what an explanation of a run is made of: few statements, each led by an index."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.circumstances import (
    Circumstances,
    Heartbeat,
    Refused,
    Relative,
    Written,
)
from interlock_server.rules.frame import Verdict
from interlock_server.rules.overdue import Patience
from interlock_server.rules.states import CACHED, Id, Micros, State, StateType
from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.queries import get_run
from interlock_server.storage.records import FlowRun, RunKind, TaskRun
from interlock_server.storage.rows import RUN_TABLES, TRANSITION_TABLES, details_of

_REFUSALS = 3
_FAILED_TASK_RUNS = 3

_HEARTBEATS = {
    RunKind.FLOW_RUN: tables.flow_run_heartbeat,
    RunKind.TASK_RUN: tables.task_run_heartbeat,
}


async def read_circumstances(
    database: Database, kind: RunKind, run_id: Id, now: Micros, patience: Patience
) -> Circumstances | None:
    """Read what explains a run; None: there is none."""
    run = await get_run(database, kind, run_id)
    if run is None:
        return None
    flow_run_id = run.flow_run_id if isinstance(run, TaskRun) else None

    async def read(connection: AsyncConnection) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if run.state is not None:
            found |= await _history(connection, kind, run.id, run.state)
            found |= await _more(connection, kind, run, run.state)
        if flow_run_id is not None:
            found["flow_run"] = await _flow_run(connection, flow_run_id)
        return found

    return Circumstances(
        run.id,
        run.state,
        now,
        kind is RunKind.TASK_RUN,
        run.progress,
        run.retry,
        run.created,
        patience,
        **await database.read(read),
    )


async def _more(
    connection: AsyncConnection, kind: RunKind, run: FlowRun | TaskRun, state: State
) -> dict[str, Any]:
    """Read what is of interest in some states only."""
    match state.type:
        case StateType.RUNNING | StateType.CANCELLING:
            return {"heartbeat": await _heartbeat(connection, kind, run)}
        case StateType.COMPLETED if state.name == CACHED and kind is RunKind.TASK_RUN:
            return {"cached_from": await _cached_from(connection, state)}
        case StateType.FAILED | StateType.CRASHED if kind is RunKind.FLOW_RUN:
            return await _failed_task_runs(connection, run.id)
    return {}


async def _history(
    connection: AsyncConnection, kind: RunKind, run_id: Id, state: State
) -> dict[str, Any]:
    """Read how the state came to be, and the last proposals that it withstood."""
    table = TRANSITION_TABLES[kind]
    columns = (
        table.c.id,
        table.c.decided,
        table.c.proposed_name,
        table.c.verdict,
        table.c.rule,
        table.c.reason,
        table.c.explanation,
        table.c.proposed_by,
        table.c.force,
    )
    since = (
        select(*columns)
        .where(
            table.c.run_id == run_id,
            table.c.decided > state.timestamp,
            table.c.answered_state_id == state.id,
        )
        .order_by(table.c.decided.desc())
        .limit(_REFUSALS)
        .subquery()
    )
    rows = (
        await connection.execute(
            select(*columns).where(table.c.id == state.id).union_all(select(since))
        )
    ).all()
    written, refused = None, []
    for row in rows:
        verdict = Verdict(row.verdict)
        if row.id == state.id:
            written = Written(
                verdict, row.rule, row.reason, row.explanation, row.proposed_by, bool(row.force)
            )
        else:
            refused.append(
                Refused(
                    row.decided,
                    row.proposed_name,
                    verdict,
                    row.reason,
                    row.explanation,
                    row.proposed_by,
                )
            )
    refused.sort(key=lambda each: -each.decided)
    return {"written": written, "refused": tuple(refused)}


async def _heartbeat(
    connection: AsyncConnection, kind: RunKind, run: FlowRun | TaskRun
) -> Heartbeat | None:
    table = _HEARTBEATS[kind]
    statement = select(table.c.heard, table.c.deadline).where(
        table.c.run_id == run.id, table.c.attempt == run.progress.run_count
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else Heartbeat(row.heard, row.deadline)


async def _cached_from(connection: AsyncConnection, state: State) -> Id | None:
    table = tables.task_run_cache
    statement = (
        select(table.c.run_id)
        .where(
            table.c.cache_key == state.details.cache_key,
            table.c.created < state.timestamp,
            or_(table.c.expiration.is_(None), table.c.expiration > state.timestamp),
        )
        .order_by(table.c.created.desc())
        .limit(1)
    )
    found: Id | None = (await connection.execute(statement)).scalar_one_or_none()
    return found


async def _flow_run(connection: AsyncConnection, flow_run_id: Id) -> Relative | None:
    run = tables.flow_run.c
    found = await _relatives(connection, RunKind.FLOW_RUN, run.id == flow_run_id, limit=1)
    return found[0] if found else None


async def _failed_task_runs(connection: AsyncConnection, flow_run_id: Id) -> dict[str, Any]:
    run = tables.task_run.c
    failed = run.state_type.in_([StateType.FAILED.value, StateType.CRASHED.value])
    found = await _relatives(
        connection,
        RunKind.TASK_RUN,
        and_(run.flow_run_id == flow_run_id, failed, run.version >= 0),
        limit=_FAILED_TASK_RUNS + 1,
    )
    return {
        "failed_task_runs": tuple(found[:_FAILED_TASK_RUNS]),
        "more_failed": len(found) > _FAILED_TASK_RUNS,
    }


async def _relatives(
    connection: AsyncConnection, kind: RunKind, which: ColumnElement[bool], limit: int
) -> list[Relative]:
    """Read other runs with their states, in the order of their ids."""
    run, transition = RUN_TABLES[kind], TRANSITION_TABLES[kind]
    statement = (
        select(
            run.c.id,
            run.c.name,
            run.c.state_id,
            run.c.state_type,
            run.c.state_name,
            run.c.state_timestamp,
            transition.c.message,
            transition.c.details,
        )
        .select_from(run.outerjoin(transition, run.c.state_id == transition.c.id))
        .where(which)
        .order_by(run.c.id)
        .limit(limit)
    )
    return [
        Relative(
            row.id,
            row.name,
            None
            if row.state_id is None
            else State(
                row.state_id,
                StateType(row.state_type),
                row.state_name,
                row.state_timestamp,
                row.message,
                details_of(row.details),
            ),
        )
        for row in (await connection.execute(statement)).all()
    ]
