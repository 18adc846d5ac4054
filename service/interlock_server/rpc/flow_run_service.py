"""FlowRunService."""

from __future__ import annotations

import time
from typing import Any

from interlock.v1 import flow_run_pb2 as pb

from interlock_server.core.engine import Engine
from interlock_server.core.runs import Creation
from interlock_server.rpc import fields, filters, states
from interlock_server.rpc.calls import Context
from interlock_server.rpc.explanations import explanation
from interlock_server.rpc.limits import MAX_KEY_BYTES, MAX_RETRIES
from interlock_server.rpc.pause_calls import PauseCalls
from interlock_server.rpc.run_calls import RunCalls, changed, times
from interlock_server.rules.overdue import PATIENCE, Patience
from interlock_server.rules.runs import NEVER, RetryPolicy
from interlock_server.storage.records import FlowRun, RunKind, TaskRun
from interlock_server.storage.rows import json_text


class FlowRunService:
    """Keeps flow runs and decides their transitions; see `protos/interlock/v1/flow_run.proto`."""

    def __init__(self, engine: Engine, patience: Patience = PATIENCE) -> None:
        self._engine = engine
        self._patience = patience
        self._calls = RunCalls(engine, RunKind.FLOW_RUN)
        self._pauses = PauseCalls(engine)

    async def CreateFlowRun(  # noqa: N802
        self, request: pb.CreateFlowRunRequest, context: Context
    ) -> pb.CreateFlowRunResponse:
        """Create a flow run with its first state."""
        run, created = await self._calls.create(_creation(request), context)
        return pb.CreateFlowRunResponse(flow_run=to_flow_run(run), created=created)

    async def GetFlowRun(  # noqa: N802
        self, request: pb.GetFlowRunRequest, context: Context
    ) -> pb.GetFlowRunResponse:
        """Answer one flow run."""
        run = await self._calls.get(fields.id_("id", request.id))
        return pb.GetFlowRunResponse(flow_run=to_flow_run(run))

    async def ListFlowRuns(  # noqa: N802
        self, request: pb.ListFlowRunsRequest, context: Context
    ) -> pb.ListFlowRunsResponse:
        """List flow runs, a page at a time."""
        runs, token = await self._calls.list_page(request, filters.FLOW_RUNS)
        return pb.ListFlowRunsResponse(
            flow_runs=[to_flow_run(run) for run in runs], next_page_token=token
        )

    async def CountFlowRuns(  # noqa: N802
        self, request: pb.CountFlowRunsRequest, context: Context
    ) -> pb.CountFlowRunsResponse:
        """Count flow runs."""
        return pb.CountFlowRunsResponse(count=await self._calls.count(request, filters.FLOW_RUNS))

    async def UpdateFlowRun(  # noqa: N802
        self, request: pb.UpdateFlowRunRequest, context: Context
    ) -> pb.UpdateFlowRunResponse:
        """Change what is not decided by rules."""
        given = request.flow_run
        readers = {
            "name": lambda: {"name": fields.name("flow_run.name", given.name)},
            "retry_policy": lambda: _retry_columns(_retry_policy("flow_run.retry_policy", given)),
            "parameters_json": lambda: {
                "parameters": fields.json_text("flow_run.parameters_json", given.parameters_json)
            },
            "tags": lambda: {"tags": json_text(fields.tags("flow_run.tags", given.tags))},
            "labels": lambda: {"labels": json_text(fields.labels("flow_run.labels", given.labels))},
            "flow_version": lambda: {
                "flow_version": fields.text("flow_run.flow_version", given.flow_version)
            },
            "infrastructure_pid": lambda: {
                "infrastructure_pid": fields.text(
                    "flow_run.infrastructure_pid", given.infrastructure_pid
                )
            },
        }
        values = changed(fields.mask("update_mask", request.update_mask, readers), readers)
        run = await self._calls.update(
            fields.id_("flow_run.id", given.id),
            values,
            fields.version_or_none("flow_run.etag", given.etag),
            context,
        )
        return pb.UpdateFlowRunResponse(flow_run=to_flow_run(run))

    async def DeleteFlowRun(  # noqa: N802
        self, request: pb.DeleteFlowRunRequest, context: Context
    ) -> pb.DeleteFlowRunResponse:
        """Delete a flow run with all that is part of it."""
        await self._calls.delete(request, context)
        return pb.DeleteFlowRunResponse()

    async def SetState(  # noqa: N802
        self, request: pb.FlowRunServiceSetStateRequest, context: Context
    ) -> pb.FlowRunServiceSetStateResponse:
        """Propose a state for one flow run."""
        return pb.FlowRunServiceSetStateResponse(
            decision=await self._calls.set_state(request, context)
        )

    async def BatchSetStates(  # noqa: N802
        self, request: pb.FlowRunServiceBatchSetStatesRequest, context: Context
    ) -> pb.FlowRunServiceBatchSetStatesResponse:
        """Propose states for many flow runs."""
        return pb.FlowRunServiceBatchSetStatesResponse(
            outcomes=await self._calls.batch_set_states(request, context)
        )

    async def ListStates(  # noqa: N802
        self, request: pb.FlowRunServiceListStatesRequest, context: Context
    ) -> pb.FlowRunServiceListStatesResponse:
        """List a flow run's history."""
        run_id = fields.id_("flow_run_id", request.flow_run_id)
        transitions, token = await self._calls.list_states(request, run_id, request.page_size)
        return pb.FlowRunServiceListStatesResponse(transitions=transitions, next_page_token=token)

    async def Pause(  # noqa: N802
        self, request: pb.FlowRunServicePauseRequest, context: Context
    ) -> pb.FlowRunServicePauseResponse:
        """Propose PAUSED for a flow run."""
        return pb.FlowRunServicePauseResponse(decision=await self._pauses.pause(request, context))

    async def Resume(  # noqa: N802
        self, request: pb.FlowRunServiceResumeRequest, context: Context
    ) -> pb.FlowRunServiceResumeResponse:
        """Let a paused flow run go on."""
        return pb.FlowRunServiceResumeResponse(decision=await self._pauses.resume(request, context))

    async def Cancel(  # noqa: N802
        self, request: pb.FlowRunServiceCancelRequest, context: Context
    ) -> pb.FlowRunServiceCancelResponse:
        """Propose CANCELLING for a flow run."""
        return pb.FlowRunServiceCancelResponse(decision=await self._pauses.cancel(request, context))

    async def GetFlowRunInput(  # noqa: N802
        self, request: pb.GetFlowRunInputRequest, context: Context
    ) -> pb.GetFlowRunInputResponse:
        """Answer one input that a run was resumed with."""
        return pb.GetFlowRunInputResponse(input=await self._pauses.get_input(request))

    async def ExplainRun(  # noqa: N802
        self, request: pb.FlowRunServiceExplainRunRequest, context: Context
    ) -> pb.FlowRunServiceExplainRunResponse:
        """Tell what a flow run waits for, or why it ended as it did."""
        return pb.FlowRunServiceExplainRunResponse(
            explanation=await explanation(
                self._engine, RunKind.FLOW_RUN, request.id, self._patience
            )
        )

    async def GetHistory(  # noqa: N802
        self, request: pb.FlowRunServiceGetHistoryRequest, context: Context
    ) -> pb.FlowRunServiceGetHistoryResponse:
        """Count flow runs by time and state."""
        buckets = await self._calls.history(request, filters.FLOW_RUNS)
        return pb.FlowRunServiceGetHistoryResponse(buckets=buckets)


def _creation(request: pb.CreateFlowRunRequest) -> Creation:
    run_id = fields.id_or_new("id", request.id)
    key = fields.text("idempotency_key", request.idempotency_key, MAX_KEY_BYTES)
    run = FlowRun(
        id=run_id,
        flow_id=fields.id_("flow_id", request.flow_id),
        name=fields.text("name", request.name) or f"run-{run_id[-8:]}",
        retry=_retry_policy("retry_policy", request),
        parameters=fields.json_text("parameters_json", request.parameters_json),
        tags=fields.tags("tags", request.tags),
        labels=fields.labels("labels", request.labels),
        flow_version=fields.text("flow_version", request.flow_version),
        idempotency_key=key or None,
        parent_task_run_id=fields.id_or_none("parent_task_run_id", request.parent_task_run_id),
        infrastructure_pid=fields.text("infrastructure_pid", request.infrastructure_pid),
        created_by=fields.text("created_by", request.created_by),
        digest=states.digest(request),
        deployment_id=fields.id_or_none("deployment_id", request.deployment_id),
    )
    draft = request.state if request.HasField("state") else None
    return Creation(run, states.first_draft(draft))


def _retry_policy(field: str, holder: Any) -> RetryPolicy:
    if not holder.HasField("retry_policy"):
        return NEVER
    policy = holder.retry_policy
    delay = fields.duration(f"{field}.delay", policy.delay) if policy.HasField("delay") else 0
    return RetryPolicy(
        fields.number(f"{field}.max_retries", policy.max_retries, MAX_RETRIES),
        (delay,) if delay else (),
        retry_crashes=policy.retry_crashes,
    )


def _retry_columns(policy: RetryPolicy) -> dict[str, Any]:
    return {
        "max_retries": policy.max_retries,
        "retry_delays": json_text(policy.delays) if policy.delays else None,
        "retry_crashes": policy.retry_crashes,
    }


def to_flow_run(run: FlowRun | TaskRun) -> pb.FlowRun:
    """Make protobuf's form of a flow run."""
    assert isinstance(run, FlowRun)
    return pb.FlowRun(
        id=run.id,
        flow_id=run.flow_id,
        name=run.name,
        retry_policy=pb.FlowRunRetryPolicy(
            max_retries=run.retry.max_retries,
            delay=fields.to_duration(run.retry.delay_before(1)) if run.retry.delays else None,
            retry_crashes=run.retry.retry_crashes,
        ),
        parameters_json=run.parameters,
        tags=run.tags,
        labels=run.labels,
        flow_version=run.flow_version,
        idempotency_key=run.idempotency_key or "",
        parent_task_run_id=run.parent_task_run_id or "",
        infrastructure_pid=run.infrastructure_pid,
        created_by=run.created_by,
        deployment_id=run.deployment_id or "",
        **times(run, time.time_ns() // 1000),
    )
