"""Conversion between records and rows: column order, and what is kept as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from sqlalchemy import Table

from interlock_server.rules.frame import Verdict
from interlock_server.rules.runs import NEVER, Progress, RetryPolicy, RetryType
from interlock_server.rules.states import (
    NO_DETAILS,
    Id,
    Micros,
    ResultReference,
    State,
    StateDetails,
    StateType,
    deadline,
)
from interlock_server.storage import tables
from interlock_server.storage.records import (
    Deployment,
    Flow,
    FlowRun,
    LogChunk,
    RunFacts,
    RunKind,
    TaskRun,
    Transition,
)

Row = Sequence[Any]

RUN_TABLES = {RunKind.FLOW_RUN: tables.flow_run, RunKind.TASK_RUN: tables.task_run}
TRANSITION_TABLES = {
    RunKind.FLOW_RUN: tables.flow_run_transition,
    RunKind.TASK_RUN: tables.task_run_transition,
}
HEARTBEAT_TABLES = {
    RunKind.FLOW_RUN: tables.flow_run_heartbeat,
    RunKind.TASK_RUN: tables.task_run_heartbeat,
}
TAG_TABLES = {RunKind.FLOW_RUN: tables.flow_run_tag, RunKind.TASK_RUN: tables.task_run_tag}
NAME_TABLES = {RunKind.FLOW_RUN: tables.flow_run_name, RunKind.TASK_RUN: tables.task_run_name}
PARENT_COLUMNS = {RunKind.FLOW_RUN: "flow_id", RunKind.TASK_RUN: "flow_run_id"}
KEY_COLUMNS = {
    RunKind.FLOW_RUN: ("flow_id", "idempotency_key"),
    RunKind.TASK_RUN: ("flow_run_id", "task_key", "dynamic_key"),
}

_STATE_TYPES = {type_.value: type_ for type_ in StateType}
_VERDICTS = {verdict.value: verdict for verdict in Verdict}


def column_names(table: Table) -> tuple[str, ...]:
    """Name a table's columns in their order."""
    return tuple(table.c.keys())


# --- JSON text ------------------------------------------------------------------------------------


def json_text(value: object) -> str:
    """Write a value of ours as compact JSON text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def details_text(details: StateDetails) -> str | None:
    """Write the details that are set as JSON text; None where none is."""
    if details is NO_DETAILS or details == NO_DETAILS:
        return None
    return json_text(
        {
            name: value
            for name, value in asdict(details).items()
            if value != getattr(NO_DETAILS, name)
        }
    )


def details_of(text: str | None) -> StateDetails:
    """Read back what `details_text` wrote."""
    return NO_DETAILS if text is None else StateDetails(**json.loads(text))


def result_text(result: ResultReference | None) -> str | None:
    """Write a result reference as JSON text."""
    return None if result is None else json_text(asdict(result))


def result_of(text: str | None) -> ResultReference | None:
    """Read back what `result_text` wrote."""
    return None if text is None else ResultReference(**json.loads(text))


@lru_cache(maxsize=1024)
def _retry_policy(max_retries: int, delays: str | None, jitter: float, crashes: int) -> RetryPolicy:
    delays_ = tuple(json.loads(delays)) if delays else ()
    return RetryPolicy(max_retries, delays_, jitter, bool(crashes))


def retry_policy_of(
    max_retries: int, delays: str | None, jitter_factor: float, crashes: int
) -> RetryPolicy:
    """Read a retry policy; runs share few of them, so each is made once."""
    if max_retries == 0 and delays is None:
        return NEVER
    return _retry_policy(max_retries, delays, jitter_factor, crashes)


def folded(name: str) -> str:
    """Answer a name as it is searched: without the difference of upper and lower case."""
    return name.casefold()


# --- runs -----------------------------------------------------------------------------------------

PROGRESS_COLUMNS = (
    "run_count",
    "start_time",
    "end_time",
    "total_run_time",
    "expected_start_time",
    "next_scheduled_start_time",
    "flow_run_run_count",
    "resuming",
    "pause_keys",
    "retry_type",
)
RETRY_COLUMNS = ("max_retries", "retry_delays", "retry_jitter_factor", "retry_crashes")
MOVE_COLUMNS = (
    "version",
    "updated",
    "state_id",
    "state_type",
    "state_name",
    "state_timestamp",
    *PROGRESS_COLUMNS,
    "deadline",
)
"""What a transition writes to its run."""

_ROLE_COLUMNS = {
    RunKind.FLOW_RUN: ("deployment_id", "parent_task_run_id", "infrastructure_pid"),
    RunKind.TASK_RUN: (),
}


def fact_columns(kind: RunKind) -> tuple[str, ...]:
    """Name what is loaded of a run to decide its transitions."""
    return (
        "id",
        PARENT_COLUMNS[kind],
        "digest",
        "version",
        "state_id",
        *RETRY_COLUMNS,
        *PROGRESS_COLUMNS,
        *_ROLE_COLUMNS[kind],
    )


def progress_row(progress: Progress) -> tuple[Any, ...]:
    """Answer the values of `PROGRESS_COLUMNS`."""
    return (
        progress.run_count,
        progress.start_time,
        progress.end_time,
        progress.total_run_time,
        progress.expected_start_time,
        progress.next_scheduled_start_time,
        progress.flow_run_run_count,
        progress.resuming,
        json_text(progress.pause_keys) if progress.pause_keys else None,
        progress.retry_type.value if progress.retry_type else None,
    )


def progress_of(row: Row) -> Progress:
    """Read the values of `PROGRESS_COLUMNS`."""
    keys, retry_type = row[8], row[9]
    return Progress(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        row[7],
        tuple(json.loads(keys)) if keys else (),
        RetryType(retry_type) if retry_type else None,
    )


def run_facts_of(row: Row, states: Mapping[Id, State]) -> RunFacts:
    """Read a run of `fact_columns`; its state is found among `states`."""
    return RunFacts(
        row[0],
        row[1],
        row[2],
        row[3],
        retry_policy_of(row[5], row[6], row[7], row[8]),
        states[row[4]] if row[4] is not None else None,
        progress_of(row[9:]),
        *row[19:],
    )


def move_row(run: RunFacts, now: Micros) -> tuple[Any, ...]:
    """Answer the run's id, then the values of `MOVE_COLUMNS`."""
    return (
        run.id,
        run.version,
        now,
        *_state_row(run.state),
        *progress_row(run.progress),
        deadline(run.state),
    )


def _state_row(state: State | None) -> tuple[Any, ...]:
    if state is None:
        return (None, None, None, None)
    return (state.id, state.type.value, state.name, state.timestamp)


def _shared_run_row(run: FlowRun | TaskRun) -> tuple[Any, ...]:
    retry = run.retry
    return (
        run.version,
        run.created,
        run.updated,
        run.digest,
        retry.max_retries,
        json_text(retry.delays) if retry.delays else None,
        retry.jitter_factor,
        retry.retry_crashes,
        *_state_row(run.state),
        *progress_row(run.progress),
        deadline(run.state),
    )


def run_row(run: FlowRun | TaskRun) -> tuple[Any, ...]:
    """Answer a new run's row."""
    own: tuple[Any, ...]
    if isinstance(run, FlowRun):
        own = (
            run.id,
            run.flow_id,
            run.name,
            run.parameters,
            json_text(run.tags),
            json_text(run.labels),
            run.flow_version,
            run.idempotency_key,
            run.parent_task_run_id,
            run.infrastructure_pid,
            run.created_by,
            run.deployment_id,
        )
    else:
        own = (
            run.id,
            run.flow_run_id,
            run.task_key,
            run.dynamic_key,
            run.name,
            run.inputs,
            json_text(run.tags),
            json_text(run.labels),
            run.task_version,
        )
    return own + _shared_run_row(run)


def run_of(kind: RunKind, row: Any, state: State | None) -> FlowRun | TaskRun:
    """Read a whole run from a row with named columns."""
    shared: dict[str, Any] = {
        "retry": retry_policy_of(
            row.max_retries, row.retry_delays, row.retry_jitter_factor, row.retry_crashes
        ),
        "tags": tuple(json.loads(row.tags)),
        "labels": json.loads(row.labels),
        "digest": row.digest,
        "created": row.created,
        "updated": row.updated,
        "version": row.version,
        "state": state,
        "progress": progress_of([getattr(row, name) for name in PROGRESS_COLUMNS]),
    }
    if kind is RunKind.FLOW_RUN:
        return FlowRun(
            id=row.id,
            flow_id=row.flow_id,
            name=row.name,
            parameters=row.parameters,
            flow_version=row.flow_version,
            idempotency_key=row.idempotency_key,
            parent_task_run_id=row.parent_task_run_id,
            infrastructure_pid=row.infrastructure_pid,
            created_by=row.created_by,
            deployment_id=row.deployment_id,
            **shared,
        )
    return TaskRun(
        id=row.id,
        flow_run_id=row.flow_run_id,
        task_key=row.task_key,
        dynamic_key=row.dynamic_key,
        name=row.name,
        inputs=row.inputs,
        task_version=row.task_version,
        **shared,
    )


# --- flows and deployments ------------------------------------------------------------------------


def flow_row(flow: Flow) -> tuple[Any, ...]:
    """Answer a flow's row."""
    return (
        flow.id,
        flow.name,
        json_text(flow.tags),
        json_text(flow.labels),
        flow.created,
        flow.updated,
        flow.version,
        folded(flow.name),
    )


def flow_of(row: Row) -> Flow:
    """Read a flow's row."""
    return Flow(
        row[0], row[1], tuple(json.loads(row[2])), json.loads(row[3]), row[4], row[5], row[6]
    )


def deployment_row(deployment: Deployment) -> tuple[Any, ...]:
    """Answer a deployment's row."""
    return (
        deployment.id,
        deployment.flow_id,
        deployment.name,
        json_text(deployment.tags),
        json_text(deployment.labels),
        deployment.created_by,
        deployment.created,
        deployment.updated,
        deployment.version,
        folded(deployment.name),
    )


def deployment_of(row: Row) -> Deployment:
    """Read a deployment's row."""
    id_, flow_id, name, tags, labels, created_by, created, updated, version = row[:9]
    tags, labels = tuple(json.loads(tags)), json.loads(labels)
    return Deployment(id_, flow_id, name, tags, labels, created_by, created, updated, version)


# --- transitions ----------------------------------------------------------------------------------

TRANSITION_COLUMNS = column_names(tables.flow_run_transition)


def transition_row(transition: Transition, ordinal: int | None) -> tuple[Any, ...]:
    """Answer a transition's row; `ordinal` is its place in its batch, where it wrote a state.

    The position is that of the batch, which the writer knows.
    """
    state = transition.state
    written: tuple[Any, ...]
    if state is None:
        written = (None, None, None, None, None)
    else:
        written = (
            state.type.value,
            state.name,
            state.message,
            details_text(state.details),
            result_text(state.result),
        )
    return (
        transition.id,
        transition.run_id,
        transition.decided,
        transition.verdict.value,
        transition.rule,
        transition.reason,
        transition.explanation,
        transition.proposed_type.value,
        transition.proposed_name,
        transition.proposed_by,
        transition.force,
        transition.digest,
        transition.run_count,
        *written,
        transition.answered_state_id,
        transition.version,
        None,
        ordinal,
    )


def transition_of(row: Row) -> Transition:
    """Read a transition's row."""
    state = None
    if row[13] is not None:
        state = State(
            row[0],
            _STATE_TYPES[row[13]],
            row[14],
            row[2],
            row[15],
            details_of(row[16]),
            result_of(row[17]),
        )
    return Transition(
        row[0],
        row[1],
        row[2],
        _VERDICTS[row[3]],
        row[4],
        row[5],
        row[6],
        _STATE_TYPES[row[7]],
        row[8],
        row[9],
        row[10],
        row[11],
        row[12],
        state,
        row[18],
        row[19] or 0,
    )


def doomed_rows(
    kind: RunKind, runs: Sequence[RunFacts], deleted: Micros, ordinal: int
) -> list[Row]:
    """Answer the rows by which runs that are being pruned are remembered, as `transition_row`."""
    return [
        (run.id, deleted, kind.value, run.parent_id, None, ordinal + place)
        for place, run in enumerate(runs, 1)
    ]


# --- logs -----------------------------------------------------------------------------------------


def log_chunk_row(chunk: LogChunk) -> tuple[Any, ...]:
    """Answer a log chunk's row."""
    return (
        chunk.run_id,
        chunk.first_ordinal,
        chunk.last_ordinal,
        chunk.first_time,
        chunk.last_time,
        *chunk.level_counts,
        chunk.raw_bytes,
        chunk.data,
        chunk.level,
        chunk.stored,
    )
