"""TaskRunService."""

from __future__ import annotations

import math
import time

from interlock.v1 import task_run_pb2 as pb

from interlock_server.core.engine import Engine
from interlock_server.core.errors import CallError, InvalidArgumentError, NotFoundError
from interlock_server.core.runs import Creation, Made
from interlock_server.rpc import fields, filters, states
from interlock_server.rpc.calls import Context
from interlock_server.rpc.explanations import explanation
from interlock_server.rpc.limits import MAX_KEY_BYTES, MAX_RETRIES, MAX_RETRY_DELAYS
from interlock_server.rpc.run_calls import RunCalls, changed, times
from interlock_server.rules.runs import NEVER, RetryPolicy
from interlock_server.storage import queries
from interlock_server.storage.records import FlowRun, RunKind, TaskRun
from interlock_server.storage.rows import json_text

_MAX_JITTER_FACTOR = 10.0


class TaskRunService:
    """Keeps task runs and decides their transitions; see `protos/interlock/v1/task_run.proto`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._calls = RunCalls(engine, RunKind.TASK_RUN)

    async def CreateTaskRun(  # noqa: N802
        self, request: pb.CreateTaskRunRequest, context: Context
    ) -> pb.CreateTaskRunResponse:
        """Create a task run with its first state."""
        run, created = await self._calls.create(_creation(request), context)
        return pb.CreateTaskRunResponse(task_run=to_task_run(run), created=created)

    async def BatchCreateTaskRuns(  # noqa: N802
        self, request: pb.BatchCreateTaskRunsRequest, context: Context
    ) -> pb.BatchCreateTaskRunsResponse:
        """Create many task runs at once."""
        states.check_batch("requests", len(request.requests))
        creations = []
        for i, item in enumerate(request.requests):
            try:
                creations.append(_creation(item))
            except InvalidArgumentError as error:
                error.field = f"requests[{i}].{error.field}"
                raise
        outcomes = await self._calls.create_all(creations, context, "requests[{}].")
        return pb.BatchCreateTaskRunsResponse(
            outcomes=[_to_outcome(i, outcome) for i, outcome in enumerate(outcomes)]
        )

    async def GetTaskRun(  # noqa: N802
        self, request: pb.GetTaskRunRequest, context: Context
    ) -> pb.GetTaskRunResponse:
        """Answer one task run."""
        run = await self._calls.get(fields.id_("id", request.id))
        return pb.GetTaskRunResponse(task_run=to_task_run(run))

    async def ListTaskRuns(  # noqa: N802
        self, request: pb.ListTaskRunsRequest, context: Context
    ) -> pb.ListTaskRunsResponse:
        """List task runs, a page at a time."""
        runs, token = await self._calls.list_page(request, filters.TASK_RUNS)
        return pb.ListTaskRunsResponse(
            task_runs=[to_task_run(run) for run in runs], next_page_token=token
        )

    async def CountTaskRuns(  # noqa: N802
        self, request: pb.CountTaskRunsRequest, context: Context
    ) -> pb.CountTaskRunsResponse:
        """Count task runs."""
        return pb.CountTaskRunsResponse(count=await self._calls.count(request, filters.TASK_RUNS))

    async def UpdateTaskRun(  # noqa: N802
        self, request: pb.UpdateTaskRunRequest, context: Context
    ) -> pb.UpdateTaskRunResponse:
        """Change what is not decided by rules."""
        given = request.task_run
        readers = {
            "name": lambda: {"name": fields.name("task_run.name", given.name)},
            "tags": lambda: {"tags": json_text(fields.tags("task_run.tags", given.tags))},
            "labels": lambda: {"labels": json_text(fields.labels("task_run.labels", given.labels))},
        }
        values = changed(fields.mask("update_mask", request.update_mask, readers), readers)
        run = await self._calls.update(
            fields.id_("task_run.id", given.id),
            values,
            fields.version_or_none("task_run.etag", given.etag),
            context,
        )
        return pb.UpdateTaskRunResponse(task_run=to_task_run(run))

    async def DeleteTaskRun(  # noqa: N802
        self, request: pb.DeleteTaskRunRequest, context: Context
    ) -> pb.DeleteTaskRunResponse:
        """Delete a task run with its history."""
        await self._calls.delete(request, context)
        return pb.DeleteTaskRunResponse()

    async def SetState(  # noqa: N802
        self, request: pb.TaskRunServiceSetStateRequest, context: Context
    ) -> pb.TaskRunServiceSetStateResponse:
        """Propose a state for one task run."""
        return pb.TaskRunServiceSetStateResponse(
            decision=await self._calls.set_state(request, context)
        )

    async def BatchSetStates(  # noqa: N802
        self, request: pb.TaskRunServiceBatchSetStatesRequest, context: Context
    ) -> pb.TaskRunServiceBatchSetStatesResponse:
        """Propose states for many task runs."""
        return pb.TaskRunServiceBatchSetStatesResponse(
            outcomes=await self._calls.batch_set_states(request, context)
        )

    async def ListStates(  # noqa: N802
        self, request: pb.TaskRunServiceListStatesRequest, context: Context
    ) -> pb.TaskRunServiceListStatesResponse:
        """List a task run's history."""
        run_id = fields.id_("task_run_id", request.task_run_id)
        transitions, token = await self._calls.list_states(request, run_id, request.page_size)
        return pb.TaskRunServiceListStatesResponse(transitions=transitions, next_page_token=token)

    async def ExplainRun(  # noqa: N802
        self, request: pb.TaskRunServiceExplainRunRequest, context: Context
    ) -> pb.TaskRunServiceExplainRunResponse:
        """Tell what a task run waits for, or why it ended as it did."""
        return pb.TaskRunServiceExplainRunResponse(
            explanation=await explanation(self._engine, RunKind.TASK_RUN, request.id)
        )

    async def GetCachedState(  # noqa: N802
        self, request: pb.GetCachedStateRequest, context: Context
    ) -> pb.GetCachedStateResponse:
        """Answer the state that a cache key stands for."""
        key = fields.name("cache_key", request.cache_key, MAX_KEY_BYTES)
        found = await queries.get_cached(self._engine.database, key, time.time_ns() // 1000)
        if found is None:
            raise NotFoundError("cache_entry", key)
        assert found.state is not None, "what the cache holds was written"
        return pb.GetCachedStateResponse(
            state=states.to_state(found.state), task_run_id=found.run_id
        )

    async def GetHistory(  # noqa: N802
        self, request: pb.TaskRunServiceGetHistoryRequest, context: Context
    ) -> pb.TaskRunServiceGetHistoryResponse:
        """Count task runs by time and state."""
        buckets = await self._calls.history(request, filters.TASK_RUNS)
        return pb.TaskRunServiceGetHistoryResponse(buckets=buckets)


def _creation(request: pb.CreateTaskRunRequest) -> Creation:
    task_key = fields.name("task_key", request.task_key, MAX_KEY_BYTES)
    dynamic_key = fields.text("dynamic_key", request.dynamic_key) or "0"
    run = TaskRun(
        id=fields.id_or_new("id", request.id),
        flow_run_id=fields.id_or_none("flow_run_id", request.flow_run_id),
        task_key=task_key,
        dynamic_key=dynamic_key,
        name=fields.text("name", request.name) or f"{task_key[:100]}-{dynamic_key[:20]}",
        retry=_retry_policy("retry_policy", request),
        inputs=fields.json_text("inputs_json", request.inputs_json),
        tags=fields.tags("tags", request.tags),
        labels=fields.labels("labels", request.labels),
        task_version=fields.text("task_version", request.task_version),
        digest=states.digest(request),
    )
    draft = request.state if request.HasField("state") else None
    return Creation(run, states.first_draft(draft))


def _retry_policy(field: str, request: pb.CreateTaskRunRequest) -> RetryPolicy:
    if not request.HasField("retry_policy"):
        return NEVER
    policy = request.retry_policy
    fields.number(f"{field}.delays", len(policy.delays), MAX_RETRY_DELAYS)
    factor = policy.jitter_factor
    if not (math.isfinite(factor) and 0 <= factor <= _MAX_JITTER_FACTOR):
        raise InvalidArgumentError(
            f"{field}.jitter_factor", f"{factor} is out of range: 0 to {_MAX_JITTER_FACTOR:g}."
        )
    return RetryPolicy(
        fields.number(f"{field}.max_retries", policy.max_retries, MAX_RETRIES),
        tuple([fields.duration(f"{field}.delays[{i}]", d) for i, d in enumerate(policy.delays)]),
        factor,
        policy.retry_crashes,
    )


def _to_outcome(place: int, outcome: Made | CallError) -> pb.CreateTaskRunOutcome:
    if isinstance(outcome, CallError):
        return pb.CreateTaskRunOutcome(error=states.to_item_error(f"requests[{place}]", outcome))
    return pb.CreateTaskRunOutcome(task_run_id=outcome.run_id, created=outcome.run is not None)


def to_task_run(run: FlowRun | TaskRun) -> pb.TaskRun:
    """Make protobuf's form of a task run."""
    assert isinstance(run, TaskRun)
    return pb.TaskRun(
        id=run.id,
        flow_run_id=run.flow_run_id or "",
        task_key=run.task_key,
        dynamic_key=run.dynamic_key,
        name=run.name,
        flow_run_run_count=run.progress.flow_run_run_count,
        retry_policy=pb.TaskRunRetryPolicy(
            max_retries=run.retry.max_retries,
            delays=[fields.to_duration(delay) for delay in run.retry.delays],
            jitter_factor=run.retry.jitter_factor,
            retry_crashes=run.retry.retry_crashes,
        ),
        inputs_json=run.inputs,
        tags=run.tags,
        labels=run.labels,
        task_version=run.task_version,
        **times(run, time.time_ns() // 1000),
    )
