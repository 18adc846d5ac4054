"""What FlowRunService offers to people and tools that steer a flow run: pause, resume, cancel."""

from __future__ import annotations

from typing import Any

from interlock.v1 import flow_run_pb2 as pb
from interlock.v1 import state_pb2

from interlock_server.core.engine import Engine
from interlock_server.core.errors import CallError, NotFoundError, run_not_found
from interlock_server.core.json_schemas import MAX_VALUE_BYTES
from interlock_server.core.pauses import PauseFlowRun, resume_flow_run
from interlock_server.core.transitions import Proposal, ProposeStates
from interlock_server.rpc import fields, states
from interlock_server.rpc.calls import Context, remaining
from interlock_server.rpc.limits import MAX_TEXT_BYTES
from interlock_server.rules.states import (
    DEFAULT_NAMES,
    SUSPENDED,
    StateDetails,
    StateDraft,
    StateType,
)
from interlock_server.storage import queries
from interlock_server.storage.records import RunKind

_DEFAULT_TIMEOUT = 5 * 60 * 1_000_000


class PauseCalls:
    """The calls that steer a flow run. What they propose is decided as by `SetState`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def pause(
        self, request: pb.FlowRunServicePauseRequest, context: Context
    ) -> state_pb2.Decision:
        """Propose PAUSED."""
        timeout = _DEFAULT_TIMEOUT
        if request.HasField("timeout"):
            timeout = fields.duration("timeout", request.timeout)
        schema = states.input_schema("input_schema_json", request.input_schema_json)
        name = SUSPENDED if request.reschedule else DEFAULT_NAMES[StateType.PAUSED]
        details = StateDetails(
            pause_reschedule=request.reschedule,
            pause_key=fields.text("pause_key", request.pause_key) or None,
            input_schema=schema,
        )
        message = fields.text("message", request.message, MAX_TEXT_BYTES)
        proposal = _proposal(request, StateDraft(StateType.PAUSED, name, message, details))
        if schema is not None:
            await self._engine.input_checks.check_schemas([("input_schema_json", schema)])
        command = PauseFlowRun(proposal, timeout)
        return states.to_decision(await self._engine.pipeline.submit(command, remaining(context)))

    async def resume(
        self, request: pb.FlowRunServiceResumeRequest, context: Context
    ) -> state_pb2.Decision:
        """Propose that a paused run goes on, with its input."""
        given = fields.json_text("input_json", request.input_json, "", MAX_VALUE_BYTES)
        draft = StateDraft(StateType.RUNNING, DEFAULT_NAMES[StateType.RUNNING])
        answer = await resume_flow_run(
            self._engine, _proposal(request, draft), "input_json", given, remaining(context)
        )
        return states.to_decision(answer)

    async def cancel(
        self, request: pb.FlowRunServiceCancelRequest, context: Context
    ) -> state_pb2.Decision:
        """Propose CANCELLING."""
        message = fields.text("message", request.message, MAX_TEXT_BYTES)
        draft = StateDraft(StateType.CANCELLING, DEFAULT_NAMES[StateType.CANCELLING], message)
        command = ProposeStates(RunKind.FLOW_RUN, [_proposal(request, draft)])
        (outcome,) = await self._engine.pipeline.submit(command, remaining(context))
        if isinstance(outcome, CallError):
            raise outcome
        return states.to_decision(outcome)

    async def get_input(self, request: pb.GetFlowRunInputRequest) -> pb.FlowRunInput:
        """Read one input that a run was resumed with."""
        run_id = fields.id_("flow_run_id", request.flow_run_id)
        key = fields.name("pause_key", request.pause_key)
        found = await queries.get_flow_run_input(self._engine.database, run_id, key)
        if found is None:
            if await queries.get_run(self._engine.database, RunKind.FLOW_RUN, run_id) is None:
                raise run_not_found(RunKind.FLOW_RUN, run_id, deleted=False)
            raise NotFoundError("flow_run_input", key)
        return pb.FlowRunInput(
            flow_run_id=found.run_id,
            pause_key=found.pause_key,
            input_json=found.value,
            proposed_by=found.proposed_by,
            create_time=fields.to_timestamp(found.created),
        )


def _proposal(request: Any, draft: StateDraft) -> Proposal:
    return Proposal(
        fields.id_or_new("proposal_id", request.proposal_id),
        fields.id_("flow_run_id", request.flow_run_id),
        draft,
        states.digest(request),
        proposed_by=fields.text("proposed_by", request.proposed_by),
        expected_version=fields.number("expected_version", request.expected_version, 2**63 - 1),
    )
