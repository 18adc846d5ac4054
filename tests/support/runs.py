"""Making and moving runs in a few words. Flow runs and task runs answer to the same ones."""

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from interlock.ids import uuid7
from interlock.v1 import deployment_pb2, flow_pb2, flow_run_pb2, state_pb2, task_run_pb2

from tests.support.stubs import Stubs

SCHEDULED = state_pb2.STATE_TYPE_SCHEDULED
PENDING = state_pb2.STATE_TYPE_PENDING
RUNNING = state_pb2.STATE_TYPE_RUNNING
PAUSED = state_pb2.STATE_TYPE_PAUSED
CANCELLING = state_pb2.STATE_TYPE_CANCELLING
CANCELLED = state_pb2.STATE_TYPE_CANCELLED
COMPLETED = state_pb2.STATE_TYPE_COMPLETED
FAILED = state_pb2.STATE_TYPE_FAILED
CRASHED = state_pb2.STATE_TYPE_CRASHED

ACCEPT = state_pb2.VERDICT_ACCEPT
REJECT = state_pb2.VERDICT_REJECT
WAIT = state_pb2.VERDICT_WAIT
ABORT = state_pb2.VERDICT_ABORT


def unique(word: str) -> str:
    """A name that no other test has, since tests share their servers."""
    return f"{word}-{secrets.token_hex(8)}"


def now() -> Timestamp:
    """The time, as this machine has it."""
    return soon(0.0)


def soon(seconds: float) -> Timestamp:
    """The time in so many seconds."""
    time_ = Timestamp()
    time_.FromMicroseconds(time.time_ns() // 1000 + round(seconds * 1_000_000))
    return time_


def until(reached: Callable[[], bool], timeout: float = 30.0) -> None:
    """Look until something is so; `timeout` in seconds. For what no call waits for."""
    deadline = time.monotonic() + timeout
    while not reached():
        assert time.monotonic() < deadline, "It does not come about."
        time.sleep(0.03)


def make_flow(stubs: Stubs, name: str = "", **content: Any) -> flow_pb2.Flow:
    """Make a flow."""
    request = flow_pb2.CreateFlowRequest(name=name or unique("flow"), **content)
    return stubs.flows.CreateFlow(request).flow


def make_deployment(
    stubs: Stubs, flow_id: str = "", name: str = "", **content: Any
) -> deployment_pb2.Deployment:
    """Make a deployment, of a new flow unless one is given."""
    request = deployment_pb2.CreateDeploymentRequest(
        flow_id=flow_id or make_flow(stubs).id, name=name or unique("deployment"), **content
    )
    return stubs.deployments.CreateDeployment(request).deployment


def make_flow_run(stubs: Stubs, flow_id: str = "", **content: Any) -> flow_run_pb2.FlowRun:
    """Make a flow run, of a new flow unless one is given."""
    flow_id = flow_id or make_flow(stubs).id
    request = flow_run_pb2.CreateFlowRunRequest(flow_id=flow_id, **content)
    return stubs.flow_runs.CreateFlowRun(request).flow_run


def make_task_run(stubs: Stubs, task_key: str = "", **content: Any) -> task_run_pb2.TaskRun:
    """Make a task run, part of no flow run unless one is given."""
    request = task_run_pb2.CreateTaskRunRequest(task_key=task_key or unique("task"), **content)
    return stubs.task_runs.CreateTaskRun(request).task_run


_OF_PROPOSALS = ("force", "proposed_by", "expected_version")


def proposal(run_id: str, type_: Any, id_: str = "", **content: Any) -> state_pb2.Proposal:
    """A proposal with an id; what is not a field of its own belongs to the state."""
    own = {key: content.pop(key) for key in _OF_PROPOSALS if key in content}
    state = state_pb2.StateDraft(type=type_, **content)
    return state_pb2.Proposal(id=id_ or uuid7(), run_id=run_id, state=state, **own)


class Runs(Protocol):
    """The runs of one kind."""

    kind: str
    """`flow_run` or `task_run`."""

    def make(self, **content: Any) -> Any:
        """Make a run."""

    def create(self, request: Any) -> Any:
        """Send a request to create one, and answer the response."""

    def creation(self, **content: Any) -> Any:
        """A request to create one, which can be sent again."""

    def get(self, run_id: str) -> Any:
        """Read a run."""

    def update(self, run: Any, *paths: str) -> Any:
        """Change the fields of the paths to what they are in `run`."""

    def delete(self, run_id: str, etag: str = "") -> None:
        """Delete a run."""

    def propose(self, proposal: state_pb2.Proposal) -> state_pb2.Decision:
        """Propose a state."""

    def propose_all(
        self, proposals: Iterable[state_pb2.Proposal]
    ) -> list[state_pb2.ProposalOutcome]:
        """Propose states in a batch."""

    def history(self, run_id: str) -> list[state_pb2.Transition]:
        """All of a run's history, read in small pages."""

    def page(self, **request: Any) -> tuple[list[Any], str]:
        """A page of runs, and the token of the next one."""

    def count(self, **filter_: Any) -> int:
        """Count the runs that meet a filter."""


class FlowRuns:
    """Flow runs, each of a new flow unless one is given."""

    kind = "flow_run"

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs
        self._service = stubs.flow_runs

    def make(self, **content: Any) -> flow_run_pb2.FlowRun:
        return self.create(self.creation(**content)).flow_run

    def create(
        self, request: flow_run_pb2.CreateFlowRunRequest
    ) -> flow_run_pb2.CreateFlowRunResponse:
        return self._service.CreateFlowRun(request)

    def creation(self, **content: Any) -> flow_run_pb2.CreateFlowRunRequest:
        flow_id = content.pop("flow_id", "") or make_flow(self._stubs).id
        content = {"id": uuid7(), **content}
        return flow_run_pb2.CreateFlowRunRequest(flow_id=flow_id, **content)

    def get(self, run_id: str) -> flow_run_pb2.FlowRun:
        return self._service.GetFlowRun(flow_run_pb2.GetFlowRunRequest(id=run_id)).flow_run

    def update(self, run: flow_run_pb2.FlowRun, *paths: str) -> flow_run_pb2.FlowRun:
        request = flow_run_pb2.UpdateFlowRunRequest(flow_run=run)
        request.update_mask.paths.extend(paths)
        return self._service.UpdateFlowRun(request).flow_run

    def delete(self, run_id: str, etag: str = "") -> None:
        self._service.DeleteFlowRun(flow_run_pb2.DeleteFlowRunRequest(id=run_id, etag=etag))

    def propose(self, proposal: state_pb2.Proposal) -> state_pb2.Decision:
        request = flow_run_pb2.FlowRunServiceSetStateRequest(proposal=proposal)
        return self._service.SetState(request).decision

    def propose_all(
        self, proposals: Iterable[state_pb2.Proposal]
    ) -> list[state_pb2.ProposalOutcome]:
        request = flow_run_pb2.FlowRunServiceBatchSetStatesRequest(proposals=proposals)
        return list(self._service.BatchSetStates(request).outcomes)

    def history(self, run_id: str) -> list[state_pb2.Transition]:
        request = flow_run_pb2.FlowRunServiceListStatesRequest(flow_run_id=run_id, page_size=3)
        found: list[state_pb2.Transition] = []
        while True:
            page = self._service.ListStates(request)
            found += page.transitions
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def page(self, **request: Any) -> tuple[list[flow_run_pb2.FlowRun], str]:
        page = self._service.ListFlowRuns(flow_run_pb2.ListFlowRunsRequest(**request))
        return list(page.flow_runs), page.next_page_token

    def count(self, **filter_: Any) -> int:
        given = flow_run_pb2.FlowRunFilter(**filter_)
        return self._service.CountFlowRuns(flow_run_pb2.CountFlowRunsRequest(filter=given)).count


class TaskRuns:
    """Task runs, part of no flow run unless one is given."""

    kind = "task_run"

    def __init__(self, stubs: Stubs) -> None:
        self._service = stubs.task_runs

    def make(self, **content: Any) -> task_run_pb2.TaskRun:
        return self.create(self.creation(**content)).task_run

    def create(
        self, request: task_run_pb2.CreateTaskRunRequest
    ) -> task_run_pb2.CreateTaskRunResponse:
        return self._service.CreateTaskRun(request)

    def creation(self, **content: Any) -> task_run_pb2.CreateTaskRunRequest:
        content = {"id": uuid7(), "task_key": unique("task"), **content}
        return task_run_pb2.CreateTaskRunRequest(**content)

    def get(self, run_id: str) -> task_run_pb2.TaskRun:
        return self._service.GetTaskRun(task_run_pb2.GetTaskRunRequest(id=run_id)).task_run

    def update(self, run: task_run_pb2.TaskRun, *paths: str) -> task_run_pb2.TaskRun:
        request = task_run_pb2.UpdateTaskRunRequest(task_run=run)
        request.update_mask.paths.extend(paths)
        return self._service.UpdateTaskRun(request).task_run

    def delete(self, run_id: str, etag: str = "") -> None:
        self._service.DeleteTaskRun(task_run_pb2.DeleteTaskRunRequest(id=run_id, etag=etag))

    def propose(self, proposal: state_pb2.Proposal) -> state_pb2.Decision:
        request = task_run_pb2.TaskRunServiceSetStateRequest(proposal=proposal)
        return self._service.SetState(request).decision

    def propose_all(
        self, proposals: Iterable[state_pb2.Proposal]
    ) -> list[state_pb2.ProposalOutcome]:
        request = task_run_pb2.TaskRunServiceBatchSetStatesRequest(proposals=proposals)
        return list(self._service.BatchSetStates(request).outcomes)

    def history(self, run_id: str) -> list[state_pb2.Transition]:
        request = task_run_pb2.TaskRunServiceListStatesRequest(task_run_id=run_id, page_size=3)
        found: list[state_pb2.Transition] = []
        while True:
            page = self._service.ListStates(request)
            found += page.transitions
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def page(self, **request: Any) -> tuple[list[task_run_pb2.TaskRun], str]:
        page = self._service.ListTaskRuns(task_run_pb2.ListTaskRunsRequest(**request))
        return list(page.task_runs), page.next_page_token

    def count(self, **filter_: Any) -> int:
        given = task_run_pb2.TaskRunFilter(**filter_)
        return self._service.CountTaskRuns(task_run_pb2.CountTaskRunsRequest(filter=given)).count
