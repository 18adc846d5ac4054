"""The part of the client that keeps flow runs: made, found, changed, moved from state to state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from interlock import text, values
from interlock._async.parts import RunPart
from interlock.errors import InterlockError
from interlock.ids import uuid7
from interlock.v1.deployment_pb2 import Deployment
from interlock.v1.flow_pb2 import Flow
from interlock.v1.flow_run_pb2 import (
    FLOW_RUN_ORDER_UNSPECIFIED,
    CountFlowRunsRequest,
    CreateFlowRunRequest,
    DeleteFlowRunRequest,
    FlowRun,
    FlowRunFilter,
    FlowRunOrder,
    FlowRunRetryPolicy,
    FlowRunServiceBatchSetStatesRequest,
    FlowRunServiceGetHistoryRequest,
    FlowRunServiceListStatesRequest,
    FlowRunServiceSetStateRequest,
    GetFlowRunRequest,
    ListFlowRunsRequest,
    UpdateFlowRunRequest,
)
from interlock.v1.history_pb2 import HistoryBucket
from interlock.v1.state_pb2 import Decision, Proposal, ResultReference, StateDetails, Transition
from interlock.v1.task_run_pb2 import TaskRun
from interlock.values import Seconds, StateLike, given, id_of, maybe


class FlowRuns(RunPart):
    """Flow runs, one by one and many at once, with their histories."""

    async def create_flow_run(
        self,
        flow: Flow | str,
        *,
        name: str = "",
        parameters: Mapping[str, Any] | None = None,
        state: StateLike | None = None,
        retries: int = 0,
        retry_delay: Seconds = 0,
        retry_crashes: bool = False,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        flow_version: str = "",
        idempotency_key: str = "",
        parent_task_run: TaskRun | str = "",
        infrastructure_pid: str = "",
        deployment: Deployment | str = "",
        created_by: str = "",
        run_id: str = "",
    ) -> FlowRun:
        """Create a run of a flow, which is given itself or by its id.

        Args:
            flow: the flow, or its id.
            name: a name for people; the service makes one unless given.
            parameters: what the run is called with, as values that JSON has.
            state: the first state; PENDING unless given.
            retries: how often the run may be tried again after it failed.
            retry_delay: how long to wait before each retry.
            retry_crashes: whether that also holds when its heartbeats cease.
            tags: words to find it by.
            labels: key-value pairs to find it by.
            flow_version: the version of the flow's code.
            idempotency_key: if the flow has a run with this key already, that one is answered.
            parent_task_run: the task run that tracks this run in its parent flow run.
            infrastructure_pid: what carries the run.
            deployment: the deployment of the flow that it is a run of.
            created_by: who makes it.
            run_id: the run's id, a UUID; the client makes one unless given.

        Raises NotFound; AlreadyExists where `run_id` came with other content before.
        """
        request = CreateFlowRunRequest(
            id=run_id or uuid7(),
            flow_id=id_of(flow),
            name=text.clean(name),
            state=None if state is None else values.draft(state),
            retry_policy=values.flow_run_retries(retries, retry_delay, retry_crashes),
            parameters_json="" if parameters is None else values.json_text(parameters),
            tags=values.tags(tags),
            labels=values.labels(labels),
            flow_version=text.clean(flow_version),
            idempotency_key=text.clean(idempotency_key),
            parent_task_run_id=id_of(parent_task_run),
            infrastructure_pid=text.clean(infrastructure_pid),
            deployment_id=id_of(deployment),
            created_by=text.clean(created_by),
        )
        method = self._stubs.flow_runs.CreateFlowRun
        return (await self._calls.send(method, request, replay=True)).flow_run

    async def get_flow_run(self, run_id: str) -> FlowRun:
        """Answer one flow run. Raises NotFound."""
        request = GetFlowRunRequest(id=run_id)
        method = self._stubs.flow_runs.GetFlowRun
        return (await self._calls.send(method, request, replay=True)).flow_run

    async def list_flow_runs(
        self,
        filter: FlowRunFilter | None = None,  # noqa: A002
        *,
        order_by: FlowRunOrder.ValueType = FLOW_RUN_ORDER_UNSPECIFIED,
        page_size: int = 0,
    ) -> AsyncIterator[FlowRun]:
        """Iterate over flow runs, newest first unless told otherwise."""
        request = ListFlowRunsRequest(filter=filter, order_by=order_by, page_size=page_size)
        async for page in self._calls.pages(self._stubs.flow_runs.ListFlowRuns, request):
            for run in page.flow_runs:
                yield run

    async def count_flow_runs(
        self,
        filter: FlowRunFilter | None = None,  # noqa: A002
    ) -> int:
        """Count flow runs."""
        request = CountFlowRunsRequest(filter=filter)
        method = self._stubs.flow_runs.CountFlowRuns
        return (await self._calls.send(method, request, replay=True)).count

    async def update_flow_run(
        self,
        run: FlowRun | str,
        *,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        retries: int | None = None,
        retry_delay: Seconds = 0,
        retry_crashes: bool = False,
        tags: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        flow_version: str | None = None,
        infrastructure_pid: str | None = None,
        etag: str = "",
    ) -> FlowRun:
        """Change what is given of a flow run; what is said of retries changes together.

        Raises NotFound; Aborted where an etag is given and the run has changed since.
        """

        def policy(most: int) -> FlowRunRetryPolicy:
            # None would leave it as it is; an empty one says that there are no retries any more.
            made = values.flow_run_retries(most, retry_delay, retry_crashes)
            return made or FlowRunRetryPolicy()

        changes = given(
            name=maybe(text.clean, name),
            parameters_json=maybe(values.json_text, parameters),
            retry_policy=maybe(policy, retries),
            tags=maybe(values.tags, tags),
            labels=maybe(values.labels, labels),
            flow_version=maybe(text.clean, flow_version),
            infrastructure_pid=maybe(text.clean, infrastructure_pid),
        )
        request = UpdateFlowRunRequest(
            flow_run=FlowRun(id=id_of(run), etag=etag, **changes),
            update_mask=FieldMask(paths=changes),
        )
        method = self._stubs.flow_runs.UpdateFlowRun
        return (await self._calls.send(method, request, replay=False)).flow_run

    async def delete_flow_run(self, run: FlowRun | str, *, etag: str = "") -> None:
        """Delete a flow run with its task runs, their histories and its log.

        Raises NotFound; Aborted where an etag is given and the run has changed since.
        """
        request = DeleteFlowRunRequest(id=id_of(run), etag=etag)
        await self._calls.send(self._stubs.flow_runs.DeleteFlowRun, request, replay=False)

    async def set_flow_run_state(
        self,
        run: FlowRun | str,
        state: StateLike,
        *,
        name: str = "",
        message: str = "",
        details: StateDetails | None = None,
        result: ResultReference | None = None,
        force: bool = False,
        proposal_id: str = "",
    ) -> Decision:
        """Propose a state for a flow run, and answer what was decided: REJECT is no exception.

        Args:
            run: the flow run, or its id.
            state: a draft (`interlock.states.failed(...)`), a type, or a type's word (`"running"`).
            name: refines the type.
            message: words for people; cut at 64 KiB.
            details: facts that belong to the state.
            result: where the result lies.
            force: ask only the minimal rules.
            proposal_id: the proposal's id, a UUID; the client makes one unless given.

        Raises NotFound; AlreadyExists where `proposal_id` came with other content before.
        """
        draft = values.draft(state, name=name, message=message, details=details, result=result)
        proposed = self._proposal(run, draft, force=force, proposal_id=proposal_id)
        request = FlowRunServiceSetStateRequest(proposal=proposed)
        method = self._stubs.flow_runs.SetState
        return (await self._calls.send(method, request, replay=True)).decision

    async def set_flow_run_states(
        self, proposals: Iterable[Proposal | tuple[FlowRun | str, StateLike]]
    ) -> list[Decision | InterlockError]:
        """Propose states for many flow runs at once: the fast way.

        A proposal is given itself, or as a run and a state. The answers come in the same order: a
        decision, or why none could be made. More than the server takes in one batch are sent in
        several, one after the other.
        """
        return await self._propose_all(
            self._stubs.flow_runs.BatchSetStates,
            proposals,
            lambda batch: FlowRunServiceBatchSetStatesRequest(proposals=batch),
        )

    async def list_flow_run_states(
        self, run: FlowRun | str, *, page_size: int = 0
    ) -> AsyncIterator[Transition]:
        """Iterate over a flow run's history, oldest first. Raises NotFound."""
        request = FlowRunServiceListStatesRequest(flow_run_id=id_of(run), page_size=page_size)
        async for page in self._calls.pages(self._stubs.flow_runs.ListStates, request):
            for transition in page.transitions:
                yield transition

    async def get_flow_run_history(
        self,
        start: datetime,
        end: datetime,
        interval: Seconds,
        *,
        filter: FlowRunFilter | None = None,  # noqa: A002
    ) -> list[HistoryBucket]:
        """Count flow runs by when they were first due and by the state that they are in now.

        One bucket an interval of a second at least, from `start` on, those without runs included;
        the last one is whole, and there are 500 at most.
        """
        request = FlowRunServiceGetHistoryRequest(
            filter=filter,
            start_time=values.timestamp(start),
            end_time=values.timestamp(end),
            interval=values.duration(interval),
        )
        method = self._stubs.flow_runs.GetHistory
        return list((await self._calls.send(method, request, replay=True)).buckets)
