"""A server in memory, over a real socket, that can be told to fail: enough to test the client.

It keeps the promises that the client builds on (replay by id, acknowledged batches, retries by
AwaitingRetry) in a few lines each, and knows no rules beyond them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from interlock import v1
from interlock.log_columns import unpack

Code = grpc.StatusCode
TERMINAL = {
    v1.STATE_TYPE_CANCELLED,
    v1.STATE_TYPE_COMPLETED,
    v1.STATE_TYPE_FAILED,
    v1.STATE_TYPE_CRASHED,
}
Run = v1.FlowRun | v1.TaskRun


def status(
    code: Code,
    message: str = "no",
    *,
    reason: str = "",
    retry_after: float | None = None,
    field: str = "",
    resource: str = "",
) -> status_pb2.Status:
    made = status_pb2.Status(code=code.value[0], message=message)
    details: list[Any] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="interlock"))
    if retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if resource:
        details.append(
            error_details_pb2.ResourceInfo(resource_type=resource, resource_name="the one")
        )
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        made.details.append(packed)
    return made


def abort(context: grpc.ServicerContext, failure: status_pb2.Status) -> None:
    context.set_trailing_metadata((("grpc-status-details-bin", failure.SerializeToString()),))
    codes = {code.value[0]: code for code in Code}
    context.abort(codes[failure.code], failure.message)


@dataclass
class Fault:
    """The next call of a method fails: before anything is done, or after all is done."""

    method: str
    failure: status_pb2.Status
    after: bool = False
    delay: float = 0.0


class FakeServer:
    """Everything that the client talks to; tests read and set its attributes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.calls: Counter[str] = Counter()
        self.requests: list[tuple[str, Any]] = []
        self.faults: list[Fault] = []
        self.limits = v1.Limits(
            max_message_bytes=4 * 1024 * 1024,
            max_batch_items=150,
            max_log_batch_records=5_000,
            max_log_message_bytes=64 * 1024,
            log_window_bytes=8 * 1024 * 1024,
        )
        self.flows: dict[str, v1.Flow] = {}
        self.flow_runs: dict[str, v1.FlowRun] = {}
        self.task_runs: dict[str, v1.TaskRun] = {}
        self.created: Counter[str] = Counter()
        self.proposals: dict[str, tuple[bytes, v1.Decision]] = {}
        self.history: defaultdict[str, list[v1.Transition]] = defaultdict(list)
        self.decide: Callable[[v1.Proposal, Run], v1.Decision | None] = lambda proposal, run: None

        self.logs: defaultdict[str, list[v1.LogRecord]] = defaultdict(list)
        self.producers: dict[str, int] = {}
        self.ended: defaultdict[str, list[str]] = defaultdict(list)
        self.refuse: set[str] = set()
        self.drop_batches = 0
        """So many streams break after they stored a batch, before they acknowledge it."""
        self.swallow_answers = 0
        """How many batches are taken without a word before the stream is cut."""
        self.break_before: list[status_pb2.Status] = []
        """Streams of logs break so at their first batch, which is not stored."""
        self.acknowledging = threading.Event()
        self.acknowledging.set()
        self.streams = 0
        self.half_closed = 0
        self.tail_breaks: list[int] = []
        """Each tail breaks after so many messages."""
        self.tail_end = v1.TAIL_END_UNSPECIFIED
        self.searches: list[v1.SearchLogsRequest] = []
        """Each finds all records of the first run that it names, one in a message."""
        self.search_breaks: list[int] = []
        """Each search breaks after so many messages: the odd ones as the server goes away."""
        self.run_events: list[v1.RunEvent] = []
        """What watches tell; the token behind the n-th one is n, in text."""
        self.watch_breaks: list[int] = []
        """Each watch breaks after so many events."""
        self.watched_from: list[str] = []
        """The token of each watch."""

        self.port = 0
        self._server: grpc.Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.acknowledging.set()
        self.stop()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, on the same port as before; what is stored stays."""
        pool = ThreadPoolExecutor(32)
        options = (("grpc.so_reuseport", 0),)
        server = grpc.server(pool, interceptors=[_Faults(self)], options=options)
        v1.add_FlowServiceServicer_to_server(_Flows(self), server)
        # It has what the client needs for these tests, not all methods.
        v1.add_FlowRunServiceServicer_to_server(_FlowRuns(self), server)  # type: ignore[abstract]
        v1.add_TaskRunServiceServicer_to_server(_TaskRuns(self), server)  # type: ignore[abstract]
        v1.add_LogServiceServicer_to_server(_Logs(self), server)  # type: ignore[abstract]
        v1.add_RunEventServiceServicer_to_server(_RunEvents(self), server)
        v1.add_ServerServiceServicer_to_server(_Info(self), server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def fail(
        self, method: str, code: Code, *, times: int = 1, after: bool = False, **details: Any
    ) -> None:
        self.faults += [Fault(method, status(code, **details), after) for _ in range(times)]

    def stall(self, method: str, seconds: float, *, times: int = 1) -> None:
        """The next calls are answered late, though at once carried out."""
        quiet = status(Code.OK)
        self.faults += [Fault(method, quiet, True, seconds) for _ in range(times)]

    def requests_of(self, method: str) -> list[Any]:
        return [request for name, request in self.requests if name == method]

    def lines(self, run_id: str) -> list[str]:
        return [record.message for record in self.logs[run_id]]

    # What is stored

    def set_state(self, proposal: v1.Proposal, run: Run) -> v1.Decision:
        if known := self.proposals.get(proposal.id):
            if known[0] != proposal.SerializeToString(deterministic=True):
                raise Refusal(status(Code.ALREADY_EXISTS, reason="ID_REUSED"))
            return known[1]
        decision = self.decide(proposal, run) or self._decide(proposal, run)
        decision.proposal_id = proposal.id
        if not decision.HasField("state"):
            decision.state.CopyFrom(run.state)
        if decision.verdict in (v1.VERDICT_ACCEPT, v1.VERDICT_REJECT):
            run.state.CopyFrom(decision.state)
        if decision.verdict == v1.VERDICT_ACCEPT and run.state.type == v1.STATE_TYPE_RUNNING:
            run.run_count += 1
        decision.run_count = run.run_count
        if decision.verdict != v1.VERDICT_WAIT:
            self.proposals[proposal.id] = (
                proposal.SerializeToString(deterministic=True),
                decision,
            )
            self.history[run.id].append(
                v1.Transition(id=proposal.id, verdict=decision.verdict, state=decision.state)
            )
        return decision

    def _decide(self, proposal: v1.Proposal, run: Run) -> v1.Decision:
        proposed, now = proposal.state, Timestamp()
        now.GetCurrentTime()
        cancelling = run.state.type == v1.STATE_TYPE_CANCELLING
        if cancelling and proposed.type != v1.STATE_TYPE_CANCELLED:
            return v1.Decision(
                verdict=v1.VERDICT_REJECT, reason="CANCELLING", explanation="it is to stop"
            )
        if proposed.type == v1.STATE_TYPE_RUNNING:
            due = run.state.details.scheduled_time
            wait = due.ToNanoseconds() - now.ToNanoseconds()
            if run.state.type == v1.STATE_TYPE_SCHEDULED and wait > 0:
                after = Duration()
                after.FromNanoseconds(wait)
                return v1.Decision(verdict=v1.VERDICT_WAIT, reason="NOT_DUE", retry_after=after)
        most = run.retry_policy.max_retries
        if proposed.type == v1.STATE_TYPE_FAILED and most and run.run_count <= most:
            return self._retry(run, now)
        word = v1.StateType.Name(proposed.type).removeprefix("STATE_TYPE_").capitalize()
        return v1.Decision(
            verdict=v1.VERDICT_ACCEPT,
            state=v1.State(
                id=proposal.id,
                type=proposed.type,
                name=proposed.name or word,
                message=proposed.message,
                details=proposed.details,
                result=proposed.result,
                timestamp=now,
            ),
        )

    def _retry(self, run: Run, now: Timestamp) -> v1.Decision:
        policy = run.retry_policy
        if isinstance(policy, v1.FlowRunRetryPolicy):
            delays = [policy.delay]
        else:
            delays = list(policy.delays) or [Duration()]
        wait = delays[min(run.run_count, len(delays)) - 1].ToNanoseconds()
        state = v1.State(type=v1.STATE_TYPE_SCHEDULED, name="AwaitingRetry", timestamp=now)
        state.details.scheduled_time.FromNanoseconds(now.ToNanoseconds() + wait)
        return v1.Decision(verdict=v1.VERDICT_REJECT, rule="retry", reason="RETRYING", state=state)


class Refusal(Exception):
    def __init__(self, failure: status_pb2.Status) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Faults(grpc.ServerInterceptor):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        method = details.method.rpartition("/")[2]
        fake = self.fake

        def behaviour(request: Any, context: grpc.ServicerContext) -> Any:
            with fake.lock:
                fake.calls[method] += 1
                fake.requests.append((method, request))
                fault = next((each for each in fake.faults if each.method == method), None)
                if fault is not None:
                    fake.faults.remove(fault)
            if fault is not None and not fault.after:
                abort(context, fault.failure)
            try:
                with fake.lock:
                    response = handler.unary_unary(request, context)
            except Refusal as refusal:
                abort(context, refusal.failure)
            if fault is not None and fault.delay:
                time.sleep(fault.delay)
            elif fault is not None:
                abort(context, fault.failure)
            return response

        return grpc.unary_unary_rpc_method_handler(
            behaviour, handler.request_deserializer, handler.response_serializer
        )


def _missing(reason: str) -> Refusal:
    return Refusal(status(Code.NOT_FOUND, reason=reason, resource=reason.rpartition("_")[0]))


def _page(items: list[Any], request: Any) -> tuple[list[Any], str]:
    start, size = int(request.page_token or 0), request.page_size or 100
    after = start + size
    return items[start:after], str(after) if after < len(items) else ""


class _Flows(v1.FlowServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    def CreateFlow(self, request: Any, context: Any) -> Any:  # noqa: N802
        flow = next((f for f in self.fake.flows.values() if f.name == request.name), None)
        if flow is None:
            flow = v1.Flow(id=request.id, name=request.name, tags=request.tags, etag="1")
            flow.labels.update(request.labels)
            self.fake.flows[flow.id] = flow
        return v1.CreateFlowResponse(flow=flow)

    def GetFlow(self, request: Any, context: Any) -> Any:  # noqa: N802
        for flow in self.fake.flows.values():
            if request.id == flow.id or request.name == flow.name:
                return v1.GetFlowResponse(flow=flow)
        raise _missing("FLOW_NOT_FOUND")

    def ListFlows(self, request: Any, context: Any) -> Any:  # noqa: N802
        flows, token = _page(list(self.fake.flows.values()), request)
        return v1.ListFlowsResponse(flows=flows, next_page_token=token)

    def CountFlows(self, request: Any, context: Any) -> Any:  # noqa: N802
        return v1.CountFlowsResponse(count=len(self.fake.flows))

    def UpdateFlow(self, request: Any, context: Any) -> Any:  # noqa: N802
        flow = self.fake.flows[request.flow.id]
        for path in request.update_mask.paths:
            flow.ClearField(path)
        flow.MergeFrom(request.flow)
        return v1.UpdateFlowResponse(flow=flow)

    def DeleteFlow(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.fake.flows.pop(request.id, None) is None:
            raise _missing("FLOW_NOT_FOUND")
        return v1.DeleteFlowResponse()


class _FlowRuns(v1.FlowRunServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    def CreateFlowRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        run = self.fake.flow_runs.get(request.id)
        if run is None:
            if request.flow_id not in self.fake.flows:
                raise _missing("FLOW_NOT_FOUND")
            self.fake.created[request.id] += 1
            run = v1.FlowRun(
                id=request.id,
                flow_id=request.flow_id,
                name=request.name,
                parameters_json=request.parameters_json or "{}",
                retry_policy=request.retry_policy,
                tags=request.tags,
                state=v1.State(
                    type=request.state.type or v1.STATE_TYPE_PENDING, details=request.state.details
                ),
            )
            self.fake.flow_runs[run.id] = run
        return v1.CreateFlowRunResponse(flow_run=run)

    def GetFlowRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        return v1.GetFlowRunResponse(flow_run=self._run(request.id))

    def ListFlowRuns(self, request: Any, context: Any) -> Any:  # noqa: N802
        runs, token = _page(list(self.fake.flow_runs.values()), request)
        return v1.ListFlowRunsResponse(flow_runs=runs, next_page_token=token)

    def CountFlowRuns(self, request: Any, context: Any) -> Any:  # noqa: N802
        return v1.CountFlowRunsResponse(count=len(self.fake.flow_runs))

    def UpdateFlowRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        run = self._run(request.flow_run.id)
        for path in request.update_mask.paths:
            run.ClearField(path)
        run.MergeFrom(request.flow_run)
        return v1.UpdateFlowRunResponse(flow_run=run)

    def DeleteFlowRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._run(request.id)
        del self.fake.flow_runs[request.id]
        return v1.DeleteFlowRunResponse()

    def SetState(self, request: Any, context: Any) -> Any:  # noqa: N802
        proposal = request.proposal
        decision = self.fake.set_state(proposal, self._run(proposal.run_id))
        return v1.FlowRunServiceSetStateResponse(decision=decision)

    def BatchSetStates(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = v1.FlowRunServiceBatchSetStatesResponse()
        assert len(request.proposals) <= self.fake.limits.max_batch_items
        for proposal in request.proposals:
            outcome = response.outcomes.add()
            try:
                run = self._run(proposal.run_id)
                outcome.decision.CopyFrom(self.fake.set_state(proposal, run))
            except Refusal as refusal:
                outcome.error.code = refusal.failure.code
                outcome.error.reason = "FLOW_RUN_NOT_FOUND"
                outcome.error.field = "proposals[0].run_id"
        return response

    def ListStates(self, request: Any, context: Any) -> Any:  # noqa: N802
        transitions, token = _page(self.fake.history[request.flow_run_id], request)
        return v1.FlowRunServiceListStatesResponse(transitions=transitions, next_page_token=token)

    def _run(self, run_id: str) -> v1.FlowRun:
        run = self.fake.flow_runs.get(run_id)
        if run is None:
            raise _missing("FLOW_RUN_NOT_FOUND")
        return run


class _TaskRuns(v1.TaskRunServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    def _create(self, request: Any) -> v1.TaskRun:
        runs = self.fake.task_runs
        key = (request.flow_run_id, request.task_key, request.dynamic_key or "0")
        for run in runs.values():
            if run.id == request.id or (run.flow_run_id, run.task_key, run.dynamic_key) == key:
                return run
        if request.flow_run_id and request.flow_run_id not in self.fake.flow_runs:
            raise _missing("FLOW_RUN_NOT_FOUND")
        self.fake.created[request.id] += 1
        runs[request.id] = run = v1.TaskRun(
            id=request.id,
            flow_run_id=request.flow_run_id,
            task_key=request.task_key,
            dynamic_key=request.dynamic_key or "0",
            retry_policy=request.retry_policy,
            inputs_json=request.inputs_json or "{}",
            state=v1.State(type=v1.STATE_TYPE_PENDING),
        )
        return run

    def CreateTaskRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        return v1.CreateTaskRunResponse(task_run=self._create(request))

    def BatchCreateTaskRuns(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = v1.BatchCreateTaskRunsResponse()
        assert len(request.requests) <= self.fake.limits.max_batch_items
        for each in request.requests:
            outcome = response.outcomes.add()
            try:
                outcome.task_run_id = self._create(each).id
            except Refusal as refusal:
                outcome.error.code = refusal.failure.code
                outcome.error.reason = "FLOW_RUN_NOT_FOUND"
        return response

    def GetTaskRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        return v1.GetTaskRunResponse(task_run=self._run(request.id))

    def ListTaskRuns(self, request: Any, context: Any) -> Any:  # noqa: N802
        runs, token = _page(list(self.fake.task_runs.values()), request)
        return v1.ListTaskRunsResponse(task_runs=runs, next_page_token=token)

    def CountTaskRuns(self, request: Any, context: Any) -> Any:  # noqa: N802
        return v1.CountTaskRunsResponse(count=len(self.fake.task_runs))

    def UpdateTaskRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        run = self._run(request.task_run.id)
        run.MergeFrom(request.task_run)
        return v1.UpdateTaskRunResponse(task_run=run)

    def DeleteTaskRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._run(request.id)
        del self.fake.task_runs[request.id]
        return v1.DeleteTaskRunResponse()

    def SetState(self, request: Any, context: Any) -> Any:  # noqa: N802
        proposal = request.proposal
        decision = self.fake.set_state(proposal, self._run(proposal.run_id))
        return v1.TaskRunServiceSetStateResponse(decision=decision)

    def BatchSetStates(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = v1.TaskRunServiceBatchSetStatesResponse()
        for proposal in request.proposals:
            run = self._run(proposal.run_id)
            response.outcomes.add().decision.CopyFrom(self.fake.set_state(proposal, run))
        return response

    def ListStates(self, request: Any, context: Any) -> Any:  # noqa: N802
        transitions, token = _page(self.fake.history[request.task_run_id], request)
        return v1.TaskRunServiceListStatesResponse(transitions=transitions, next_page_token=token)

    def _run(self, run_id: str) -> v1.TaskRun:
        run = self.fake.task_runs.get(run_id)
        if run is None:
            raise _missing("TASK_RUN_NOT_FOUND")
        return run


class _Logs(v1.LogServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    def AppendLogs(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        fake = self.fake
        producer = next(requests).producer_id
        with fake.lock:
            fake.streams += 1
            durable = fake.producers.setdefault(producer, 0)
        yield v1.AppendLogsResponse(acknowledged=durable)
        taken = 0
        for request in requests:
            response = v1.AppendLogsResponse()
            with fake.lock:
                if fake.break_before:
                    abort(context, fake.break_before.pop(0))
                if taken and request.number > taken + 1:
                    failure = status(Code.INVALID_ARGUMENT, reason="BATCH_OUT_OF_ORDER")
                    abort(context, failure)
                taken = request.number
                if request.run_id in fake.refuse:
                    refused = response.refused.add(number=taken)
                    refused.error.code = Code.NOT_FOUND.value[0]
                    refused.error.reason = "RUN_NOT_FOUND"
                elif taken > fake.producers[producer]:
                    fake.producers[producer] = taken
                    if request.records.messages:
                        log = fake.logs[request.run_id]
                        log += unpack(request.records, len(log))
                    if request.end_of_run:
                        fake.ended[request.run_id].append(producer)
                response.acknowledged = taken
                if fake.swallow_answers > 1:
                    fake.swallow_answers -= 1
                    continue
                if fake.drop_batches or fake.swallow_answers:
                    fake.drop_batches -= bool(fake.drop_batches)
                    fake.swallow_answers = 0
                    abort(context, status(Code.UNAVAILABLE, "the stream was cut"))
            fake.acknowledging.wait()
            yield response
        fake.half_closed += 1

    def WriteLogs(self, request: Any, context: Any) -> Any:  # noqa: N802
        fake = self.fake
        with fake.lock:
            if request.id not in fake.producers:
                fake.producers[request.id] = 1
                log = fake.logs[request.run_id]
                log += unpack(request.records, len(log))
        return v1.WriteLogsResponse()

    def ListLogs(self, request: Any, context: Any) -> Any:  # noqa: N802
        records, token = _page(self.fake.logs[request.run_id], request)
        return v1.ListLogsResponse(records=records, next_page_token=token)

    def SearchLogs(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        fake = self.fake
        fake.searches.append(request)
        limit = fake.search_breaks.pop(0) if fake.search_breaks else None
        records = fake.logs[request.run_ids[0]]
        place = int(request.resume_token or 0)
        for sent in range(request.max_matches):
            if limit == sent:
                if sent % 2:
                    end = v1.SEARCH_END_SERVER_DRAINING
                    yield v1.SearchLogsResponse(
                        scanned=sent, matches=sent, resume_token=str(place), end=end
                    )
                    return
                abort(context, status(Code.UNAVAILABLE, "the search was cut"))
            if place == len(records):
                yield v1.SearchLogsResponse(
                    scanned=sent, matches=sent, end=v1.SEARCH_END_ALL_SEARCHED
                )
                return
            found = v1.FoundLogRecord(run_id=request.run_ids[0], record=records[place])
            place += 1
            yield v1.SearchLogsResponse(
                records=[found], scanned=sent + 1, matches=sent + 1, resume_token=str(place)
            )
        end = v1.SEARCH_END_ENOUGH_MATCHES
        yield v1.SearchLogsResponse(
            scanned=sent + 1, matches=sent + 1, resume_token=str(place), end=end
        )

    def TailLogs(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        fake = self.fake
        fake.calls["TailLogs"] += 1
        ordinal, sent = request.from_ordinal, 0
        limit = fake.tail_breaks.pop(0) if fake.tail_breaks else None
        while context.is_active():
            if limit is not None and sent >= limit:
                abort(context, status(Code.UNAVAILABLE, "the tail was cut"))
            with fake.lock:
                records = fake.logs[request.run_id][ordinal : ordinal + 3]
            if records:
                ordinal, sent = ordinal + len(records), sent + 1
                yield v1.TailLogsResponse(records=records, next_ordinal=ordinal)
            elif fake.tail_end:
                yield v1.TailLogsResponse(next_ordinal=ordinal, end=fake.tail_end)
                return
            else:
                time.sleep(0.01)


class _RunEvents(v1.RunEventServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    def WatchRuns(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        fake = self.fake
        fake.watched_from.append(request.resume_token)
        limit = fake.watch_breaks.pop(0) if fake.watch_breaks else None
        if request.resume_token == "old":
            abort(context, status(Code.OUT_OF_RANGE, reason="WATCH_TOKEN_EXPIRED"))
        start = place = int(request.resume_token or (0 if request.HasField("since") else 3))
        yield v1.WatchRunsResponse(resume_token=str(place))
        while context.is_active():
            events = fake.run_events[place : place + 3]
            if limit is not None:
                events = events[: start + limit - place]
            if events:
                place += len(events)
                yield v1.WatchRunsResponse(events=events, resume_token=str(place))
            elif limit is not None:
                abort(context, status(Code.UNAVAILABLE, "the watch was cut"))
            else:
                time.sleep(0.01)


class _Info(v1.ServerServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    def GetServerInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return v1.GetServerInfoResponse(version="0.0.0", limits=self.fake.limits)
