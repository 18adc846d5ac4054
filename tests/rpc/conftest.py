"""What calls may and may not be, on every dialect."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from interlock.ids import uuid7
from interlock.v1 import flow_pb2

from tests.support.logs import append, read_log, record_batch
from tests.support.runs import (
    COMPLETED,
    RUNNING,
    FlowRuns,
    TaskRuns,
    make_flow,
    make_flow_run,
    make_task_run,
    proposal,
)
from tests.support.stubs import Stubs


@dataclass(frozen=True)
class Specimens:
    """The ids of things that are there."""

    flow: str
    flow_run: str
    task_run: str


@pytest.fixture(scope="session")
def specimens(stubs: Stubs) -> Specimens:
    """A flow, a run of it with a history and a log, and a task run in that."""
    flow = make_flow(stubs)
    flow_run = make_flow_run(stubs, flow.id, state={"type": RUNNING})
    FlowRuns(stubs).propose(proposal(flow_run.id, RUNNING))
    task_run = make_task_run(stubs, flow_run_id=flow_run.id, state={"type": COMPLETED})
    append(stubs, uuid7(), [record_batch(flow_run.id, "a line", number=1)])
    return Specimens(flow.id, flow_run.id, task_run.id)


@pytest.fixture(scope="module")
def nothing_is_written(stubs: Stubs, specimens: Specimens) -> Iterator[None]:
    """Fail the last of a module's tests if after them the database is not as it was before."""

    def looked_at() -> list[object]:
        flow_runs, task_runs = FlowRuns(stubs), TaskRuns(stubs)
        return [
            stubs.flows.CountFlows(flow_pb2.CountFlowsRequest()).count,
            flow_runs.count(),
            task_runs.count(),
            stubs.flows.GetFlow(flow_pb2.GetFlowRequest(id=specimens.flow)).flow.etag,
            flow_runs.get(specimens.flow_run).etag,
            task_runs.get(specimens.task_run).etag,
            flow_runs.history(specimens.flow_run),
            task_runs.history(specimens.task_run),
            read_log(stubs, specimens.flow_run),
        ]

    before = looked_at()
    yield
    assert looked_at() == before
