"""The client: one method an RPC, with retries where they are safe."""

from __future__ import annotations

import copy
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from interlock import text, values
from interlock._async import transport
from interlock._async.runs import AsyncFlowRunContext, AsyncTaskRunContext
from interlock._async.tail import AsyncLogTail
from interlock.channel import target_or_default
from interlock.errors import InterlockError, from_item, from_rpc_error
from interlock.ids import uuid7
from interlock.retry import Attempts, RetryPolicy
from interlock.v1.flow_pb2 import (
    FLOW_ORDER_UNSPECIFIED,
    CountFlowsRequest,
    CreateFlowRequest,
    DeleteFlowRequest,
    Flow,
    FlowFilter,
    FlowOrder,
    GetFlowRequest,
    ListFlowsRequest,
    UpdateFlowRequest,
)
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
    FlowRunServiceListStatesRequest,
    FlowRunServiceSetStateRequest,
    GetFlowRunRequest,
    ListFlowRunsRequest,
    UpdateFlowRunRequest,
)
from interlock.v1.log_pb2 import ListLogsRequest, LogFilter, LogRecord
from interlock.v1.server_pb2 import GetServerInfoRequest, GetServerInfoResponse
from interlock.v1.state_pb2 import (
    Decision,
    Proposal,
    ProposalOutcome,
    ResultReference,
    StateDetails,
    Transition,
)
from interlock.v1.task_run_pb2 import (
    TASK_RUN_ORDER_UNSPECIFIED,
    BatchCreateTaskRunsRequest,
    CountTaskRunsRequest,
    CreateTaskRunRequest,
    DeleteTaskRunRequest,
    GetTaskRunRequest,
    ListTaskRunsRequest,
    TaskRun,
    TaskRunFilter,
    TaskRunOrder,
    TaskRunServiceBatchSetStatesRequest,
    TaskRunServiceListStatesRequest,
    TaskRunServiceSetStateRequest,
    UpdateTaskRunRequest,
)
from interlock.values import Seconds, StateLike, id_of

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

_SMALL_BATCH = 100
"""Up to this many items a batch is sent without asking for the server's limit."""


class AsyncClient:
    """Reports and reads runs, over one channel that connects with the first call.

    Every method raises a subclass of `interlock.InterlockError`; which reasons there are stands
    with each RPC in `protos/`. A call that fails for a moment is sent again until `timeout` is used
    up, where that can do no harm: reads, and creations and proposals, for which the client makes
    the ids. Updates and deletions are sent again only if the server says that it did nothing.

    NULs and lone surrogates in texts are escaped (see `interlock.text`).
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: Seconds = 60.0,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        proposed_by: str = "",
    ) -> None:
        """Make a client; nothing is sent yet.

        Args:
            target: where the server is, such as `127.0.0.1:4200`; unless given, what the
                environment variable `INTERLOCK_TARGET` says, else the local server.
            timeout: the time budget of a call in seconds, its retries included.
            retry: how retries are spaced.
            credentials: for TLS; none: a plain connection.
            proposed_by: who proposes states, for the history of the runs.
        """
        self._target = target_or_default(target)
        self._timeout = values.total_seconds(timeout)
        self._retry = retry or RetryPolicy()
        self._proposed_by = proposed_by
        self._connection = _Connection(self._target, credentials)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel. The client may not be used after it; closing again does nothing."""
        await self._connection.close()

    def with_timeout(self, timeout: Seconds) -> Self:
        """Answer this client with another time budget for its calls, on the same channel."""
        twin = copy.copy(self)
        twin._timeout = values.total_seconds(timeout)
        return twin

    # Flows

    async def create_flow(
        self,
        name: str,
        *,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        flow_id: str = "",
    ) -> Flow:
        """Answer the flow of that name; make it if there is none.

        Raises AlreadyExists where `flow_id` is that of a flow of another name.
        """
        request = CreateFlowRequest(
            name=text.clean(name),
            id=flow_id or uuid7(),
            tags=values.tags(tags),
            labels=values.labels(labels),
        )
        return (await self._call(self._stubs.flows.CreateFlow, request, replay=True)).flow

    async def get_flow(self, flow_id: str = "", *, name: str = "") -> Flow:
        """Answer one flow, by id or by name. Raises NotFound."""
        request = GetFlowRequest(name=text.clean(name)) if name else GetFlowRequest(id=flow_id)
        return (await self._call(self._stubs.flows.GetFlow, request, replay=True)).flow

    async def list_flows(
        self,
        filter: FlowFilter | None = None,  # noqa: A002 - the contract's word
        *,
        order_by: FlowOrder.ValueType = FLOW_ORDER_UNSPECIFIED,
        page_size: int = 0,
    ) -> AsyncIterator[Flow]:
        """Iterate over flows, newest first unless told otherwise; pages are fetched as needed."""
        request = ListFlowsRequest(filter=filter, order_by=order_by, page_size=page_size)
        while True:
            page = await self._call(self._stubs.flows.ListFlows, request, replay=True)
            for flow in page.flows:
                yield flow
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def count_flows(
        self,
        filter: FlowFilter | None = None,  # noqa: A002
    ) -> int:
        """Count flows."""
        request = CountFlowsRequest(filter=filter)
        return (await self._call(self._stubs.flows.CountFlows, request, replay=True)).count

    async def update_flow(
        self,
        flow: Flow | str,
        *,
        tags: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        etag: str = "",
    ) -> Flow:
        """Change what is given of a flow, by itself or by its id.

        Raises NotFound; Aborted where an etag is given and the flow has changed since.
        """
        changed, paths = Flow(id=id_of(flow), etag=etag), []
        if tags is not None:
            changed.tags.extend(values.tags(tags))
            paths.append("tags")
        if labels is not None:
            changed.labels.update(values.labels(labels))
            paths.append("labels")
        request = UpdateFlowRequest(flow=changed, update_mask=FieldMask(paths=paths))
        return (await self._call(self._stubs.flows.UpdateFlow, request, replay=False)).flow

    async def delete_flow(self, flow: Flow | str, *, force: bool = False, etag: str = "") -> None:
        """Delete a flow; with `force` its runs too.

        Raises NotFound; FailedPrecondition where it has runs and `force` is off; Aborted where an
        etag is given and the flow has changed since.
        """
        request = DeleteFlowRequest(id=id_of(flow), force=force, etag=etag)
        await self._call(self._stubs.flows.DeleteFlow, request, replay=False)

    # Flow runs

    async def create_flow_run(
        self,
        flow: Flow | str,
        *,
        name: str = "",
        parameters: Mapping[str, Any] | None = None,
        state: StateLike | None = None,
        retries: int = 0,
        retry_delay: Seconds = 0,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        flow_version: str = "",
        idempotency_key: str = "",
        parent_task_run: TaskRun | str = "",
        infrastructure_pid: str = "",
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
            tags: words to find it by.
            labels: key-value pairs to find it by.
            flow_version: the version of the flow's code.
            idempotency_key: if the flow has a run with this key already, that one is answered.
            parent_task_run: the task run that tracks this run in its parent flow run.
            infrastructure_pid: what carries the run.
            created_by: who makes it.
            run_id: the run's id, a UUID; the client makes one unless given.

        Raises NotFound; AlreadyExists where `run_id` came with other content before.
        """
        request = CreateFlowRunRequest(
            id=run_id or uuid7(),
            flow_id=id_of(flow),
            name=text.clean(name),
            state=None if state is None else values.draft(state),
            retry_policy=values.flow_run_retries(retries, retry_delay),
            parameters_json="" if parameters is None else values.json_text(parameters),
            tags=values.tags(tags),
            labels=values.labels(labels),
            flow_version=text.clean(flow_version),
            idempotency_key=text.clean(idempotency_key),
            parent_task_run_id=id_of(parent_task_run),
            infrastructure_pid=text.clean(infrastructure_pid),
            created_by=text.clean(created_by),
        )
        method = self._stubs.flow_runs.CreateFlowRun
        return (await self._call(method, request, replay=True)).flow_run

    async def get_flow_run(self, run_id: str) -> FlowRun:
        """Answer one flow run. Raises NotFound."""
        request = GetFlowRunRequest(id=run_id)
        return (await self._call(self._stubs.flow_runs.GetFlowRun, request, replay=True)).flow_run

    async def list_flow_runs(
        self,
        filter: FlowRunFilter | None = None,  # noqa: A002
        *,
        order_by: FlowRunOrder.ValueType = FLOW_RUN_ORDER_UNSPECIFIED,
        page_size: int = 0,
    ) -> AsyncIterator[FlowRun]:
        """Iterate over flow runs, newest first unless told otherwise."""
        request = ListFlowRunsRequest(filter=filter, order_by=order_by, page_size=page_size)
        while True:
            page = await self._call(self._stubs.flow_runs.ListFlowRuns, request, replay=True)
            for run in page.flow_runs:
                yield run
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def count_flow_runs(
        self,
        filter: FlowRunFilter | None = None,  # noqa: A002
    ) -> int:
        """Count flow runs."""
        request = CountFlowRunsRequest(filter=filter)
        return (await self._call(self._stubs.flow_runs.CountFlowRuns, request, replay=True)).count

    async def update_flow_run(
        self,
        run: FlowRun | str,
        *,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        retries: int | None = None,
        retry_delay: Seconds = 0,
        tags: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        flow_version: str | None = None,
        infrastructure_pid: str | None = None,
        etag: str = "",
    ) -> FlowRun:
        """Change what is given of a flow run; `retries` and `retry_delay` change together.

        Raises NotFound; Aborted where an etag is given and the run has changed since.
        """
        changed, paths = FlowRun(id=id_of(run), etag=etag), []
        if name is not None:
            changed.name = text.clean(name)
            paths.append("name")
        if parameters is not None:
            changed.parameters_json = values.json_text(parameters)
            paths.append("parameters_json")
        if retries is not None:
            policy = values.flow_run_retries(retries, retry_delay)
            changed.retry_policy.CopyFrom(policy or FlowRunRetryPolicy())
            paths.append("retry_policy")
        if tags is not None:
            changed.tags.extend(values.tags(tags))
            paths.append("tags")
        if labels is not None:
            changed.labels.update(values.labels(labels))
            paths.append("labels")
        if flow_version is not None:
            changed.flow_version = text.clean(flow_version)
            paths.append("flow_version")
        if infrastructure_pid is not None:
            changed.infrastructure_pid = text.clean(infrastructure_pid)
            paths.append("infrastructure_pid")
        request = UpdateFlowRunRequest(flow_run=changed, update_mask=FieldMask(paths=paths))
        method = self._stubs.flow_runs.UpdateFlowRun
        return (await self._call(method, request, replay=False)).flow_run

    async def delete_flow_run(self, run: FlowRun | str, *, etag: str = "") -> None:
        """Delete a flow run with its task runs, their histories and its log.

        Raises NotFound; Aborted where an etag is given and the run has changed since.
        """
        request = DeleteFlowRunRequest(id=id_of(run), etag=etag)
        await self._call(self._stubs.flow_runs.DeleteFlowRun, request, replay=False)

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
        proposed = values.proposal(
            run,
            values.draft(state, name=name, message=message, details=details, result=result),
            proposal_id=proposal_id or uuid7(),
            force=force,
            proposed_by=self._proposed_by,
        )
        request = FlowRunServiceSetStateRequest(proposal=proposed)
        return (await self._call(self._stubs.flow_runs.SetState, request, replay=True)).decision

    async def set_flow_run_states(
        self, proposals: Iterable[Proposal | tuple[FlowRun | str, StateLike]]
    ) -> list[Decision | InterlockError]:
        """Propose states for many flow runs at once: the fast way.

        A proposal is given itself, or as a run and a state. The answers come in the same order: a
        decision, or why none could be made. More than the server takes in one batch are sent in
        several, one after the other.
        """
        outcomes: list[ProposalOutcome] = []
        method = self._stubs.flow_runs.BatchSetStates
        async for batch in self._batches([self._proposal(each) for each in proposals]):
            request = FlowRunServiceBatchSetStatesRequest(proposals=batch)
            outcomes += (await self._call(method, request, replay=True)).outcomes
        return [_decision_or_error(outcome) for outcome in outcomes]

    async def list_flow_run_states(
        self, run: FlowRun | str, *, page_size: int = 0
    ) -> AsyncIterator[Transition]:
        """Iterate over a flow run's history, oldest first. Raises NotFound."""
        request = FlowRunServiceListStatesRequest(flow_run_id=id_of(run), page_size=page_size)
        while True:
            page = await self._call(self._stubs.flow_runs.ListStates, request, replay=True)
            for transition in page.transitions:
                yield transition
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    # Task runs

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
        return (await self._call(method, request, replay=True)).task_run

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
        answers: list[str | InterlockError] = []
        method = self._stubs.task_runs.BatchCreateTaskRuns
        async for batch in self._batches(asked):
            whole = BatchCreateTaskRunsRequest(requests=batch)
            for outcome in (await self._call(method, whole, replay=True)).outcomes:
                failed = outcome.HasField("error")
                answers.append(from_item(outcome.error) if failed else outcome.task_run_id)
        return answers

    async def get_task_run(self, run_id: str) -> TaskRun:
        """Answer one task run. Raises NotFound."""
        request = GetTaskRunRequest(id=run_id)
        return (await self._call(self._stubs.task_runs.GetTaskRun, request, replay=True)).task_run

    async def list_task_runs(
        self,
        filter: TaskRunFilter | None = None,  # noqa: A002
        *,
        order_by: TaskRunOrder.ValueType = TASK_RUN_ORDER_UNSPECIFIED,
        page_size: int = 0,
    ) -> AsyncIterator[TaskRun]:
        """Iterate over task runs, newest first unless told otherwise."""
        request = ListTaskRunsRequest(filter=filter, order_by=order_by, page_size=page_size)
        while True:
            page = await self._call(self._stubs.task_runs.ListTaskRuns, request, replay=True)
            for run in page.task_runs:
                yield run
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def count_task_runs(
        self,
        filter: TaskRunFilter | None = None,  # noqa: A002
    ) -> int:
        """Count task runs."""
        request = CountTaskRunsRequest(filter=filter)
        return (await self._call(self._stubs.task_runs.CountTaskRuns, request, replay=True)).count

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
        changed, paths = TaskRun(id=id_of(run), etag=etag), []
        if name is not None:
            changed.name = text.clean(name)
            paths.append("name")
        if tags is not None:
            changed.tags.extend(values.tags(tags))
            paths.append("tags")
        if labels is not None:
            changed.labels.update(values.labels(labels))
            paths.append("labels")
        request = UpdateTaskRunRequest(task_run=changed, update_mask=FieldMask(paths=paths))
        method = self._stubs.task_runs.UpdateTaskRun
        return (await self._call(method, request, replay=False)).task_run

    async def delete_task_run(self, run: TaskRun | str, *, etag: str = "") -> None:
        """Delete a task run with its history. Its lines stay in its flow run's log.

        Raises NotFound; Aborted where an etag is given and the run has changed since.
        """
        request = DeleteTaskRunRequest(id=id_of(run), etag=etag)
        await self._call(self._stubs.task_runs.DeleteTaskRun, request, replay=False)

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
        proposed = values.proposal(
            run,
            values.draft(state, name=name, message=message, details=details, result=result),
            proposal_id=proposal_id or uuid7(),
            force=force,
            proposed_by=self._proposed_by,
        )
        request = TaskRunServiceSetStateRequest(proposal=proposed)
        return (await self._call(self._stubs.task_runs.SetState, request, replay=True)).decision

    async def set_task_run_states(
        self, proposals: Iterable[Proposal | tuple[TaskRun | str, StateLike]]
    ) -> list[Decision | InterlockError]:
        """Propose states for many task runs at once: the fast way. See `set_flow_run_states`."""
        outcomes: list[ProposalOutcome] = []
        method = self._stubs.task_runs.BatchSetStates
        async for batch in self._batches([self._proposal(each) for each in proposals]):
            request = TaskRunServiceBatchSetStatesRequest(proposals=batch)
            outcomes += (await self._call(method, request, replay=True)).outcomes
        return [_decision_or_error(outcome) for outcome in outcomes]

    async def list_task_run_states(
        self, run: TaskRun | str, *, page_size: int = 0
    ) -> AsyncIterator[Transition]:
        """Iterate over a task run's history, oldest first. Raises NotFound."""
        request = TaskRunServiceListStatesRequest(task_run_id=id_of(run), page_size=page_size)
        while True:
            page = await self._call(self._stubs.task_runs.ListStates, request, replay=True)
            for transition in page.transitions:
                yield transition
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    # Logs

    async def list_logs(
        self,
        run: FlowRun | TaskRun | str,
        filter: LogFilter | None = None,  # noqa: A002
        *,
        descending: bool = False,
        page_size: int = 0,
    ) -> AsyncIterator[LogRecord]:
        """Iterate over the log of a flow run, or of a task run that is part of none.

        Raises NotFound.
        """
        request = ListLogsRequest(
            run_id=id_of(run), filter=filter, descending=descending, page_size=page_size
        )
        while True:
            page = await self._call(self._stubs.logs.ListLogs, request, replay=True)
            for record in page.records:
                yield record
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def tail_logs(
        self,
        run: FlowRun | TaskRun | str,
        filter: LogFilter | None = None,  # noqa: A002
        *,
        from_ordinal: int = 0,
    ) -> AsyncLogTail:
        """Follow a log: what is there, then what comes, until the run has ended and said all.

        A broken stream goes on by itself where it broke, nothing missing and nothing twice; it
        raises only if the server can not be reached for `timeout`, or with NotFound.
        """
        return AsyncLogTail(self, id_of(run), filter, from_ordinal)

    # Runs, reported

    def flow_run(
        self,
        flow: Flow | str,
        *,
        name: str = "",
        parameters: Mapping[str, Any] | None = None,
        retries: int = 0,
        retry_delay: Seconds = 0,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        flow_version: str = "",
        idempotency_key: str = "",
        parent_task_run: TaskRun | str = "",
        infrastructure_pid: str = "",
    ) -> AsyncFlowRunContext:
        """Run a flow in a `with` block: create its run, and report what becomes of the block.

        The flow is given itself or by its **name**. Entering proposes RUNNING, and waits as long as
        the service says WAIT; leaving proposes COMPLETED, FAILED for an Exception, CRASHED for
        what ends the process (KeyboardInterrupt, SystemExit, a cancelled task). An exception goes
        on outward. Log records made inside belong to the run.

        A block can not be run again. If the run has retries left, its failure leaves it
        AwaitingRetry; `run_flow` and `enter_flow_run` go on from there.

        Entering raises TransitionAborted or TransitionRejected where the run may not run.
        """
        return AsyncFlowRunContext(
            self,
            flow=flow,
            options={
                "name": name,
                "parameters": parameters,
                "retries": retries,
                "retry_delay": retry_delay,
                "tags": tags,
                "labels": labels,
                "flow_version": flow_version,
                "idempotency_key": idempotency_key,
                "parent_task_run": parent_task_run,
                "infrastructure_pid": infrastructure_pid,
            },
        )

    def enter_flow_run(self, run: FlowRun | str) -> AsyncFlowRunContext:
        """Run a flow run that exists already in a `with` block; see `flow_run`."""
        return AsyncFlowRunContext(self, run_id=id_of(run))

    def task_run(
        self,
        task_key: str,
        *,
        dynamic_key: str = "",
        name: str = "",
        inputs: Mapping[str, Any] | None = None,
        retries: int = 0,
        retry_delay: Seconds | Sequence[Seconds] = 0,
        retry_jitter_factor: float = 0.0,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        task_version: str = "",
    ) -> AsyncTaskRunContext:
        """Run a task that is part of no flow run in a `with` block; see `flow_run`.

        A task without a dynamic key of its own gets a new run each time.
        """
        return AsyncTaskRunContext(
            self,
            flow_run_id="",
            task_key=task_key,
            options={
                "dynamic_key": dynamic_key or uuid7(),
                "name": name,
                "inputs": inputs,
                "retries": retries,
                "retry_delay": retry_delay,
                "retry_jitter_factor": retry_jitter_factor,
                "tags": tags,
                "labels": labels,
                "task_version": task_version,
            },
        )

    async def run_flow(
        self,
        function: transport.Body[T],
        *arguments: Any,
        flow: Flow | str = "",
        name: str = "",
        parameters: Mapping[str, Any] | None = None,
        retries: int = 0,
        retry_delay: Seconds = 0,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        flow_version: str = "",
        idempotency_key: str = "",
        parent_task_run: TaskRun | str = "",
    ) -> T:
        """Run a function as a flow, again as often as its retries allow, and answer its result.

        The function is called with the run (for `run.run_task`) and the arguments. The flow's name
        is the function's unless given. Raises what the function raised the last time, and what
        entering `flow_run` raises.
        """
        run = self.flow_run(
            flow or function.__name__,
            name=name,
            parameters=parameters,
            retries=retries,
            retry_delay=retry_delay,
            tags=tags,
            labels=labels,
            flow_version=flow_version,
            idempotency_key=idempotency_key,
            parent_task_run=parent_task_run,
        )
        return await run.repeat(function, run, *arguments)

    # The server

    async def get_server_info(self) -> GetServerInfoResponse:
        """Answer the server's version, features and limits."""
        request = GetServerInfoRequest()
        return await self._call(self._stubs.server.GetServerInfo, request, replay=True)

    # How calls are made

    @property
    def _stubs(self) -> transport.Stubs:
        return self._connection.stubs()

    def _attempts(self, *, replay: bool) -> Attempts:
        return Attempts(self._retry, self._timeout, replay=replay)

    async def _call(self, method: transport.Method[Q, R], request: Q, *, replay: bool) -> R:
        attempts = self._attempts(replay=replay)
        while True:
            try:
                return await transport.unary(method, request, attempts.begin())
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
            delay = attempts.delay_after(error)
            if delay is None:
                if attempts.count > 1:
                    error.add_note(f"Given up after {attempts.count} attempts.")
                raise error
            await transport.sleep(delay)

    async def _batches(self, items: list[T]) -> AsyncIterator[list[T]]:
        size = _SMALL_BATCH
        if len(items) > size:
            if not self._connection.max_batch_items:
                limits = (await self.get_server_info()).limits
                self._connection.max_batch_items = limits.max_batch_items or size
            size = self._connection.max_batch_items
        for start in range(0, len(items), size):
            yield items[start : start + size]

    def _proposal(
        self, given: Proposal | tuple[FlowRun | str, StateLike] | tuple[TaskRun | str, StateLike]
    ) -> Proposal:
        if isinstance(given, Proposal):
            proposed = Proposal()
            proposed.CopyFrom(given)
            proposed.id = given.id or uuid7()
            proposed.state.CopyFrom(values.draft(given.state))
            return proposed
        run, state = given
        return values.proposal(
            run, values.draft(state), proposal_id=uuid7(), proposed_by=self._proposed_by
        )


class _Connection:
    """The channel, opened with the first call, so that it belongs to the loop that uses it."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        self._target = target
        self._credentials = credentials
        self._channel: transport.Channel | None = None
        self._stubs: transport.Stubs | None = None
        self._closed = False
        self._opening = threading.Lock()
        self.max_batch_items = 0

    def stubs(self) -> transport.Stubs:
        if (stubs := self._stubs) is not None:
            return stubs
        with self._opening:
            if self._closed:
                raise RuntimeError("This client is closed")
            if self._stubs is None:
                self._channel = transport.open_channel(self._target, self._credentials)
                self._stubs = transport.Stubs(self._channel)
            return self._stubs

    async def close(self) -> None:
        self._closed = True
        channel, self._channel, self._stubs = self._channel, None, None
        if channel is not None:
            await channel.close()


def _decision_or_error(outcome: ProposalOutcome) -> Decision | InterlockError:
    return from_item(outcome.error) if outcome.HasField("error") else outcome.decision
