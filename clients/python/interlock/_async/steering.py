"""The part of the client that pauses, resumes, cancels and explains runs."""

from __future__ import annotations

from typing import Any

from interlock import inputs, text, values
from interlock._async.parts import RunPart
from interlock.ids import uuid7
from interlock.inputs import NOTHING, Schema
from interlock.v1.explanation_pb2 import Explanation
from interlock.v1.flow_run_pb2 import (
    FlowRun,
    FlowRunInput,
    FlowRunServiceCancelRequest,
    FlowRunServiceExplainRunRequest,
    FlowRunServicePauseRequest,
    FlowRunServiceResumeRequest,
    GetFlowRunInputRequest,
)
from interlock.v1.state_pb2 import Decision
from interlock.v1.task_run_pb2 import TaskRun, TaskRunServiceExplainRunRequest
from interlock.values import Seconds, id_of


class Steering(RunPart):
    """What people and tools do to runs that others carry. Decisions are answers, as ever."""

    async def pause_flow_run(
        self,
        run: FlowRun | str,
        *,
        timeout: Seconds | None = None,
        reschedule: bool = False,
        key: str = "",
        schema: Schema | None = None,
        message: str = "",
        expected_version: int = 0,
        proposal_id: str = "",
    ) -> Decision:
        """Ask a running flow run to pause, and answer what was decided.

        Args:
            run: the flow run, or its id.
            timeout: how long the pause may last before the run fails; 5 minutes unless given.
            reschedule: suspend: the run's process ends, and the run is scheduled on resume.
            key: names the place in the run's code; a pause of one key fires once an attempt.
            schema: what the input has to be that it is resumed with (see `interlock.inputs`).
            message: words for people, such as what is being waited for.
            expected_version: the version that was seen, so that the answer is ABORT
                `VERSION_MISMATCH` where the run has another one.
            proposal_id: the proposal's id, a UUID; the client makes one unless given.

        Raises NotFound; InvalidArgument for a schema that is none.
        """
        request = FlowRunServicePauseRequest(
            flow_run_id=id_of(run),
            proposal_id=proposal_id or uuid7(),
            timeout=None if timeout is None else values.duration(timeout),
            reschedule=reschedule,
            pause_key=text.clean(key),
            input_schema_json="" if schema is None else inputs.schema_text(schema),
            message=text.state_message(message),
            proposed_by=text.proposer(self._proposed_by),
            expected_version=expected_version,
        )
        method = self._stubs.flow_runs.Pause
        return (await self._calls.send(method, request, replay=True)).decision

    async def resume_flow_run(
        self,
        run: FlowRun | str,
        value: Any = NOTHING,
        *,
        expected_version: int = 0,
        proposal_id: str = "",
    ) -> Decision:
        """Let a paused flow run go on, with the input that its pause asks for, if it does.

        `value` is what JSON has, or an object that knows its own JSON (see `interlock.inputs`). A
        run that is not paused is answered ABORT `NOT_PAUSED`. See `pause_flow_run` for the others.

        Raises NotFound; InvalidArgument `INPUT_INVALID` for input that does not meet the schema.
        """
        request = FlowRunServiceResumeRequest(
            flow_run_id=id_of(run),
            proposal_id=proposal_id or uuid7(),
            input_json="" if value is NOTHING else inputs.value_text(value),
            proposed_by=text.proposer(self._proposed_by),
            expected_version=expected_version,
        )
        method = self._stubs.flow_runs.Resume
        return (await self._calls.send(method, request, replay=True)).decision

    async def cancel_flow_run(
        self,
        run: FlowRun | str,
        *,
        message: str = "",
        expected_version: int = 0,
        proposal_id: str = "",
    ) -> Decision:
        """Ask for a flow run to be stopped; one that nothing runs yet is Cancelled at once.

        See `pause_flow_run` for what each argument means. Raises NotFound.
        """
        request = FlowRunServiceCancelRequest(
            flow_run_id=id_of(run),
            proposal_id=proposal_id or uuid7(),
            message=text.state_message(message),
            proposed_by=text.proposer(self._proposed_by),
            expected_version=expected_version,
        )
        method = self._stubs.flow_runs.Cancel
        return (await self._calls.send(method, request, replay=True)).decision

    async def get_flow_run_input(self, run: FlowRun | str, key: str) -> FlowRunInput:
        """Answer what a flow run was resumed with, by the key of its pause. Raises NotFound."""
        request = GetFlowRunInputRequest(flow_run_id=id_of(run), pause_key=text.clean(key))
        method = self._stubs.flow_runs.GetFlowRunInput
        return (await self._calls.send(method, request, replay=True)).input

    async def explain_flow_run(self, run: FlowRun | str) -> Explanation:
        """Tell what a flow run waits for, or why it ended as it did. Raises NotFound."""
        request = FlowRunServiceExplainRunRequest(id=id_of(run))
        method = self._stubs.flow_runs.ExplainRun
        return (await self._calls.send(method, request, replay=True)).explanation

    async def explain_task_run(self, run: TaskRun | str) -> Explanation:
        """Tell what a task run waits for, or why it ended as it did. Raises NotFound."""
        request = TaskRunServiceExplainRunRequest(id=id_of(run))
        method = self._stubs.task_runs.ExplainRun
        return (await self._calls.send(method, request, replay=True)).explanation
