"""What FlowRunService and TaskRunService do alike, for one kind of runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.message import Message
from interlock.v1 import history_pb2, state_pb2

from interlock_server.core.engine import Engine
from interlock_server.core.errors import CallError, InvalidArgumentError, run_not_found
from interlock_server.core.runs import CreateRuns, Creation, DeleteRun, Made, UpdateRun
from interlock_server.core.transitions import ProposeStates
from interlock_server.rpc import fields, filters, history, pages, states
from interlock_server.rpc.calls import Context, remaining
from interlock_server.rules.effects import estimated_run_time, lateness
from interlock_server.rules.states import StateDraft
from interlock_server.storage import queries
from interlock_server.storage.filters import BY_ID_DESC, Order
from interlock_server.storage.history_queries import count_by_time_and_state
from interlock_server.storage.records import FlowRun, RunKind, TaskRun

# The enums of both kinds have the same numbers.
ORDERS = {
    0: BY_ID_DESC,
    1: BY_ID_DESC,
    2: Order("expected_start_time", False),
    3: Order("expected_start_time", True),
    4: Order("start_time", False),
    5: Order("start_time", True),
    6: Order("end_time", True),
    7: Order("next_scheduled_start_time", False),
    8: Order("name", False),
    9: Order("name", True),
}


class RunCalls:
    """The calls about runs of one kind."""

    def __init__(self, engine: Engine, kind: RunKind) -> None:
        self._engine = engine
        self._kind = kind

    async def create(self, creation: Creation, context: Context) -> tuple[FlowRun | TaskRun, bool]:
        """Make a run; answer it as it is now, and whether it was made now."""
        (outcome,) = await self.create_all([creation], context)
        if isinstance(outcome, CallError):
            raise outcome
        if outcome.run is not None:
            return outcome.run, True
        return await self.get(outcome.run_id), False

    async def create_all(
        self, creations: list[Creation], context: Context, item: str = ""
    ) -> list[Made | CallError]:
        """Make many runs. `item` is the path of each creation, with `{}` for its place."""
        await self._check_schemas(
            item + "state.details", [creation.draft for creation in creations]
        )
        command = CreateRuns(self._kind, creations)
        return await self._engine.pipeline.submit(command, remaining(context))

    async def get(self, run_id: str) -> FlowRun | TaskRun:
        """Read one run. Raises NotFoundError."""
        run = await queries.get_run(self._engine.database, self._kind, run_id)
        if run is None:
            raise run_not_found(self._kind, run_id, deleted=False)
        return run

    async def list_page(
        self, request: Any, readers: Mapping[str, filters.Reader]
    ) -> tuple[list[FlowRun] | list[TaskRun], str]:
        """Read the page of runs that a list request asks for, and the token of the next one."""
        query = pages.query(request, readers, ORDERS)
        runs, after = await queries.list_runs(self._engine.database, self._kind, query)
        return runs, pages.token_or_none(request, after)

    async def count(self, request: Any, readers: Mapping[str, filters.Reader]) -> int:
        """Count the runs that a count request asks for."""
        condition = filters.read(request.filter, readers)
        return await queries.count_runs(self._engine.database, self._kind, condition)

    async def history(
        self, request: Any, readers: Mapping[str, filters.Reader]
    ) -> list[history_pb2.HistoryBucket]:
        """Count the runs that a history request asks for, by time and state."""
        buckets = history.buckets(request)
        condition = filters.read(request.filter, readers)
        now = time.time_ns() // 1000
        counts = await count_by_time_and_state(
            self._engine.database, self._kind, condition, buckets, now
        )
        return history.to_buckets(buckets, counts)

    async def update(
        self, run_id: str, values: dict[str, Any], version: int | None, context: Context
    ) -> FlowRun | TaskRun:
        """Change columns of a run, and read it."""
        command = UpdateRun(self._kind, run_id, values, version)
        await self._engine.pipeline.submit(command, remaining(context))
        return await self.get(run_id)

    async def delete(self, request: Any, context: Context) -> None:
        """Delete a run."""
        command = DeleteRun(
            self._kind,
            fields.id_("id", request.id),
            fields.version_or_none("etag", request.etag),
        )
        await self._engine.pipeline.submit(command, remaining(context))

    async def set_state(self, request: Any, context: Context) -> state_pb2.Decision:
        """Propose a state for one run."""
        if not request.HasField("proposal"):
            raise InvalidArgumentError("proposal", "A proposal is required.")
        proposal = states.proposal("proposal", request.proposal)
        await self._check_schemas("proposal.state.details", [proposal.draft])
        command = ProposeStates(self._kind, [proposal])
        (outcome,) = await self._engine.pipeline.submit(command, remaining(context))
        if isinstance(outcome, CallError):
            raise outcome
        return states.to_decision(outcome)

    async def batch_set_states(
        self, request: Any, context: Context
    ) -> list[state_pb2.ProposalOutcome]:
        """Propose states for many runs."""
        proposals = states.proposals(request.proposals)
        await self._check_schemas(
            "proposals[{}].state.details", [proposal.draft for proposal in proposals]
        )
        command = ProposeStates(self._kind, proposals)
        outcomes = await self._engine.pipeline.submit(command, remaining(context))
        return states.to_outcomes(outcomes)

    async def _check_schemas(self, field: str, drafts: list[StateDraft]) -> None:
        """Check the schemas that drafts name. `field`: where, with `{}` for the draft's place."""
        named = [
            (f"{field.format(i)}.input_schema_json", schema)
            for i, draft in enumerate(drafts)
            if (schema := draft.details.input_schema) is not None
        ]
        if named:
            await self._engine.input_checks.check_schemas(named)

    async def list_states(
        self, request: Message, run_id: str, page_size: int
    ) -> tuple[list[state_pb2.Transition], str]:
        """Read a page of a run's history, and the token of the next one."""
        size = fields.page_size(page_size)
        after = pages.position(request, (int, str))
        found = await queries.list_transitions(
            self._engine.database, self._kind, run_id, after, size + 1
        )
        if not found:
            await self.get(run_id)
        token = ""
        if len(found) > size:
            last = found[size - 1]
            token = pages.token(request, (last.decided, last.id))
        return [states.to_transition(transition) for transition in found[:size]], token


def times(run: FlowRun | TaskRun, now: int) -> dict[str, Any]:
    """Make protobuf's form of what the progress of a run of either kind tells."""
    progress, state = run.progress, run.state
    return {
        "state": states.to_state_or_none(state),
        "run_count": progress.run_count,
        "expected_start_time": fields.to_timestamp_or_none(progress.expected_start_time),
        "next_scheduled_start_time": fields.to_timestamp_or_none(
            progress.next_scheduled_start_time
        ),
        "start_time": fields.to_timestamp_or_none(progress.start_time),
        "end_time": fields.to_timestamp_or_none(progress.end_time),
        "total_run_time": fields.to_duration(progress.total_run_time),
        "estimated_run_time": fields.to_duration(estimated_run_time(progress, state, now)),
        "lateness": fields.to_duration(lateness(progress, state, now)),
        "create_time": fields.to_timestamp(run.created),
        "update_time": fields.to_timestamp(run.updated),
        "etag": str(run.version),
        "version": run.version,
    }


def changed(
    paths: Iterable[str], readers: Mapping[str, Callable[[], dict[str, Any]]]
) -> dict[str, Any]:
    """Answer the columns that the paths of an update mask change; each reader answers its own."""
    values: dict[str, Any] = {}
    for path in paths:
        values |= readers[path]()
    return values
