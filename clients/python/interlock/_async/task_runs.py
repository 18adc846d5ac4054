"""The part of the client that keeps task runs: made, found, changed, moved from state to state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from interlock import text, values
from interlock._async.parts import RunPart
from interlock.errors import InterlockError, NotFound, from_item
from interlock.ids import uuid7
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.history_pb2 import HistoryBucket
from interlock.v1.state_pb2 import (
    Decision,
    Proposal,
    ResultReference,
    State,
    StateDetails,
    Transition,
)
from interlock.v1.task_run_pb2 import (
    TASK_RUN_ORDER_UNSPECIFIED,
    BatchCreateTaskRunsRequest,
    CountTaskRunsRequest,
    CreateTaskRunRequest,
    DeleteTaskRunRequest,
    GetCachedStateRequest,
    GetTaskRunRequest,
    ListTaskRunsRequest,
    TaskRun,
    TaskRunFilter,
    TaskRunOrder,
    TaskRunServiceBatchSetStatesRequest,
    TaskRunServiceGetHistoryRequest,
    TaskRunServiceListStatesRequest,
    TaskRunServiceSetStateRequest,
    UpdateTaskRunRequest,
)
from interlock.values import Seconds, StateLike, given, id_of, maybe


class TaskRuns(RunPart):
    """Task runs, one by one and many at once, with their histories."""

    def new_task_run(
        self,
        task_key: str,
        *,
        flow_run: FlowRun | str = "",
        dynamic_key: str = "",
        name: str = "",
        state: StateLike | None = None,
        retries: int = 0,
        retry_delay: Seconds | Sequence[Seconds] = 0,
        retry_jitter_factor: float = 0.0,
        inputs: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        task_version: str = "",
        run_id: str = "",
    ) -> CreateTaskRunRequest:
        """Make a request for `create_task_runs`; nothing is sent.

        Args:
            task_key: names the task within its flow's code.
            flow_run: the flow run that it is part of; empty: none.
            dynamic_key: tells apart the runs of one task in one flow run; `0` unless given.
            name: a name for people; the service makes one unless given.
            state: the first state; PENDING unless given.
            retries: how often the run may be tried again after it failed.
            retry_delay: how long to wait before each retry, or before the first, second, ...
            retry_jitter_factor: spreads each delay; none is longer than delay x (1 + factor).
            inputs: what it depends on, as values that JSON has.
            tags: words to find it by.
            labels: key-value pairs to find it by.
            task_version: the version of the task's code.
            run_id: the run's id, a UUID; the client makes one unless given.
        """
        return CreateTaskRunRequest(
            id=run_id or uuid7(),
            flow_run_id=id_of(flow_run),
            task_key=text.clean(task_key),
            dynamic_key=text.clean(dynamic_key),
            name=text.clean(name),
            state=None if state is None else values.draft(state),
            retry_policy=values.task_run_retries(retries, retry_delay, retry_jitter_factor),
            inputs_json="" if inputs is None else values.json_text(inputs),
            tags=values.tags(tags),
            labels=values.labels(labels),
            task_version=text.clean(task_version),
        )

    async def create_task_run(
        self,
        task_key: str,
        *,
        flow_run: FlowRun | str = "",
        dynamic_key: str = "",
        name: str = "",
        state: StateLike | None = None,
        retries: int = 0,
        retry_delay: Seconds | Sequence[Seconds] = 0,
        retry_jitter_factor: float = 0.0,
        inputs: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        task_version: str = "",
        run_id: str = "",
    ) -> TaskRun:
        """Create a run of a task; see `new_task_run` for what each argument means.

        A flow run has one task run of a task key and dynamic key: asked for again, that one is
        answered. Raises NotFound; AlreadyExists where `run_id` came with other content before.
        """
        request = self.new_task_run(
            task_key,
            flow_run=flow_run,
            dynamic_key=dynamic_key,
            name=name,
            state=state,
            retries=retries,
            retry_delay=retry_delay,
            retry_jitter_factor=retry_jitter_factor,
            inputs=inputs,
            tags=tags,
            labels=labels,
            task_version=task_version,
            run_id=run_id,
        )
        method = self._stubs.task_runs.CreateTaskRun
        return (await self._calls.send(method, request, replay=True)).task_run

    async def create_task_runs(
        self, requests: Iterable[CreateTaskRunRequest]
    ) -> list[str | InterlockError]:
        """Create many task runs at once, from what `new_task_run` makes.

        The answers come in the same order: the task run's id, or why none could be made. More than
        the server takes in one batch are sent in several, one after the other.
        """
        asked = list(requests)
        for request in asked:
            request.id = request.id or uuid7()
        answers = self._calls.batches(
            self._stubs.task_runs.BatchCreateTaskRuns,
            asked,
            lambda batch: BatchCreateTaskRunsRequest(requests=batch),
        )
        return [
            from_item(outcome.error) if outcome.HasField("error") else outcome.task_run_id
            async for answer in answers
            for outcome in answer.outcomes
        ]

    async def get_task_run(self, run_id: str) -> TaskRun:
        """Answer one task run. Raises NotFound."""
        request = GetTaskRunRequest(id=run_id)
        method = self._stubs.task_runs.GetTaskRun
        return (await self._calls.send(method, request, replay=True)).task_run

    async def list_task_runs(
        self,
        filter: TaskRunFilter | None = None,  # noqa: A002
        *,
        order_by: TaskRunOrder.ValueType = TASK_RUN_ORDER_UNSPECIFIED,
        page_size: int = 0,
    ) -> AsyncIterator[TaskRun]:
        """Iterate over task runs, newest first unless told otherwise."""
        request = ListTaskRunsRequest(filter=filter, order_by=order_by, page_size=page_size)
        async for page in self._calls.pages(self._stubs.task_runs.ListTaskRuns, request):
            for run in page.task_runs:
                yield run

    async def count_task_runs(
        self,
        filter: TaskRunFilter | None = None,  # noqa: A002
    ) -> int:
        """Count task runs."""
        request = CountTaskRunsRequest(filter=filter)
        method = self._stubs.task_runs.CountTaskRuns
        return (await self._calls.send(method, request, replay=True)).count

    async def update_task_run(
        self,
        run: TaskRun | str,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        etag: str = "",
    ) -> TaskRun:
        """Change what is given of a task run.

        Raises NotFound; Aborted where an etag is given and the run has changed since.
        """
        changes = given(
            name=maybe(text.clean, name),
            tags=maybe(values.tags, tags),
            labels=maybe(values.labels, labels),
        )
        request = UpdateTaskRunRequest(
            task_run=TaskRun(id=id_of(run), etag=etag, **changes),
            update_mask=FieldMask(paths=changes),
        )
        method = self._stubs.task_runs.UpdateTaskRun
        return (await self._calls.send(method, request, replay=False)).task_run

    async def delete_task_run(self, run: TaskRun | str, *, etag: str = "") -> None:
        """Delete a task run with its history. Its lines stay in its flow run's log.

        Raises NotFound; Aborted where an etag is given and the run has changed since.
        """
        request = DeleteTaskRunRequest(id=id_of(run), etag=etag)
        await self._calls.send(self._stubs.task_runs.DeleteTaskRun, request, replay=False)

    async def set_task_run_state(
        self,
        run: TaskRun | str,
        state: StateLike,
        *,
        name: str = "",
        message: str = "",
        details: StateDetails | None = None,
        result: ResultReference | None = None,
        force: bool = False,
        proposal_id: str = "",
    ) -> Decision:
        """Propose a state for a task run, and answer what was decided: REJECT is no exception.

        See `set_flow_run_state` for what each argument means. Raises NotFound; AlreadyExists where
        `proposal_id` came with other content before.
        """
        draft = values.draft(state, name=name, message=message, details=details, result=result)
        proposed = self._proposal(run, draft, force=force, proposal_id=proposal_id)
        request = TaskRunServiceSetStateRequest(proposal=proposed)
        method = self._stubs.task_runs.SetState
        return (await self._calls.send(method, request, replay=True)).decision

    async def set_task_run_states(
        self, proposals: Iterable[Proposal | tuple[TaskRun | str, StateLike]]
    ) -> list[Decision | InterlockError]:
        """Propose states for many task runs at once: the fast way. See `set_flow_run_states`."""
        return await self._propose_all(
            self._stubs.task_runs.BatchSetStates,
            proposals,
            lambda batch: TaskRunServiceBatchSetStatesRequest(proposals=batch),
        )

    async def list_task_run_states(
        self, run: TaskRun | str, *, page_size: int = 0
    ) -> AsyncIterator[Transition]:
        """Iterate over a task run's history, oldest first. Raises NotFound."""
        request = TaskRunServiceListStatesRequest(task_run_id=id_of(run), page_size=page_size)
        async for page in self._calls.pages(self._stubs.task_runs.ListStates, request):
            for transition in page.transitions:
                yield transition

    async def get_cached_state(self, cache_key: str) -> State | None:
        """Answer the COMPLETED state that other task runs find under a cache key, if there is one.

        A task run that is proposed RUNNING with this key is answered a copy of it, named Cached.
        """
        request = GetCachedStateRequest(cache_key=text.clean(cache_key))
        method = self._stubs.task_runs.GetCachedState
        try:
            return (await self._calls.send(method, request, replay=True)).state
        except NotFound:
            return None

    async def get_task_run_history(
        self,
        start: datetime,
        end: datetime,
        interval: Seconds,
        *,
        filter: TaskRunFilter | None = None,  # noqa: A002
    ) -> list[HistoryBucket]:
        """Count task runs by when they were first due and by the state that they are in now.

        One bucket an interval of a second at least, from `start` on, those without runs included;
        the last one is whole, and there are 500 at most.
        """
        request = TaskRunServiceGetHistoryRequest(
            filter=filter,
            start_time=values.timestamp(start),
            end_time=values.timestamp(end),
            interval=values.duration(interval),
        )
        method = self._stubs.task_runs.GetHistory
        return list((await self._calls.send(method, request, replay=True)).buckets)
