"""Pausing from within a block and steering from outside, by the client and a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from interlock import (
    AsyncClient,
    Client,
    FlowRunContext,
    RunSuspended,
    TransitionAborted,
    TransitionRejected,
)
from interlock.errors import InvalidArgument
from interlock.v1 import state_pb2 as pb
from interlock.v1.flow_pb2 import FlowFilter
from interlock.v1.flow_run_pb2 import FlowRunFilter
from interlock.v1.task_run_pb2 import TaskRunFilter
from pydantic import BaseModel

from tests.support.runs import unique
from tests.support.servers import ServerProcess

PAUSED = pb.STATE_TYPE_PAUSED
YES_OR_NO = {"type": "boolean"}


class Approval(BaseModel):
    approved: bool
    by: str | None = None


@pytest.fixture(scope="module")
def client(interlock_on_sqlite_memory: ServerProcess) -> Iterator[Client]:
    with Client(interlock_on_sqlite_memory.target) as made:
        yield made


@pytest.fixture
def worker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def paused_run(client: Client, flow: str) -> str:
    """Wait until the flow's run is paused, and answer its id."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        ids = [each.id for each in client.list_flows(FlowFilter(names=[flow]))]
        for run in client.list_flow_runs(FlowRunFilter(flow_ids=ids)) if ids else ():
            if run.state.type == PAUSED:
                return run.id
        time.sleep(0.02)
    raise AssertionError(f"no run of {flow} is paused")


class Running:
    """A flow that runs in another thread."""

    def __init__(
        self, worker: ThreadPoolExecutor, client: Client, body: Callable[[FlowRunContext], Any]
    ) -> None:
        self.flow = unique("flow")

        def work() -> Any:
            with client.flow_run(self.flow) as run:
                return body(run)

        self.result: Future[Any] = worker.submit(work)


def test_a_block_waits_for_what_it_asks_for(client: Client, worker: ThreadPoolExecutor) -> None:
    def body(run: FlowRunContext) -> Any:
        first = run.pause(schema=YES_OR_NO, message="May I?")
        return first, run.pause()

    running = Running(worker, client, body)
    run_id = paused_run(client, running.flow)
    told = client.explain_flow_run(run_id)
    assert [cause.reason for cause in told.causes] == ["PAUSED", "INPUT_AWAITED"]
    with pytest.raises(InvalidArgument) as caught:
        client.resume_flow_run(run_id, "yes")
    assert (caught.value.reason, caught.value.field_violations[0].field) == (
        "INPUT_INVALID",
        "input_json",
    )
    client.resume_flow_run(run_id, True)
    paused_run(client, running.flow)
    client.resume_flow_run(run_id)
    assert running.result.result(20) == (True, None)
    run = client.get_flow_run(run_id)
    assert (run.state.name, run.run_count) == ("Completed", 1)
    given = client.get_flow_run_input(run_id, "pause-0")
    assert (given.input_json, given.pause_key) == ("true", "pause-0")


def test_input_comes_as_an_object_of_the_class_that_was_asked_for(
    client: Client, worker: ThreadPoolExecutor
) -> None:
    running = Running(worker, client, lambda run: run.pause(schema=Approval, key="approval"))
    run_id = paused_run(client, running.flow)
    with pytest.raises(InvalidArgument) as caught:
        client.resume_flow_run(run_id, {"approved": True, "by": 3})
    assert caught.value.field_violations[0].field == "input_json.by"
    client.resume_flow_run(run_id, Approval(approved=True, by="ada"))
    assert running.result.result(20) == Approval(approved=True, by="ada")


async def test_the_asynchronous_client_pauses_alike(
    client: Client, interlock_on_sqlite_memory: ServerProcess
) -> None:
    flow, target = unique("flow"), interlock_on_sqlite_memory.target

    async def work() -> Any:
        async with AsyncClient(target) as own, own.flow_run(flow) as run:
            return await run.pause(schema={"type": "object"})

    task = asyncio.create_task(work())
    run_id = await asyncio.to_thread(paused_run, client, flow)
    async with AsyncClient(target) as other:
        decision = await other.resume_flow_run(run_id, {"n": 1})
        assert decision.verdict == pb.VERDICT_ACCEPT
        assert (await other.resume_flow_run(run_id)).reason == "NOT_PAUSED"
    assert await task == {"n": 1}


def test_a_run_that_is_cancelled_while_it_waits_stops(
    client: Client, worker: ThreadPoolExecutor
) -> None:
    running = Running(worker, client, lambda run: run.pause())
    run_id = paused_run(client, running.flow)
    decision = client.cancel_flow_run(run_id, message="not needed")
    assert decision.state.name == "Cancelling"
    with pytest.raises(TransitionRejected) as caught:
        running.result.result(20)
    assert caught.value.reason == "NOT_RESUMED"
    assert client.get_flow_run(run_id).state.name == "Cancelled"


def test_a_run_that_nobody_resumes_in_time_fails(
    client: Client, worker: ThreadPoolExecutor
) -> None:
    running = Running(worker, client, lambda run: run.pause(timeout=0.01))
    run_id = paused_run(client, running.flow)
    time.sleep(0.02)  # the time of the pause
    assert client.resume_flow_run(run_id).reason == "PAUSE_EXPIRED"
    with pytest.raises(TransitionRejected):
        running.result.result(20)
    assert client.get_flow_run(run_id).state.name == "Failed"


def test_a_run_without_a_deployment_can_not_be_suspended(
    client: Client, worker: ThreadPoolExecutor
) -> None:
    running = Running(worker, client, lambda run: run.suspend())
    with pytest.raises(TransitionAborted) as caught:
        running.result.result(20)
    assert caught.value.reason == "NO_DEPLOYMENT"


def test_a_suspended_run_goes_on_where_it_asked_once_another_process_has_taken_it(
    client: Client,
) -> None:
    def body(run: FlowRunContext) -> Any:
        return run.suspend(schema=YES_OR_NO, timeout=3600)

    flow = client.create_flow(unique("flow"))
    deployment = client.create_deployment(flow, "here")
    run = client.create_flow_run(flow, deployment=deployment)
    with pytest.raises(RunSuspended) as caught, client.enter_flow_run(run) as first:
        body(first)
    assert caught.value.run_id == run.id
    assert client.get_flow_run(run.id).state.name == "Suspended"
    assert client.resume_flow_run(run, True).state.name == "Resuming"
    told = client.explain_flow_run(run)
    assert told.causes[0].reason == "DUE_NOT_TAKEN"
    with client.enter_flow_run(run) as second:
        assert body(second) is True
    ended = client.get_flow_run(run.id)
    assert (ended.state.name, ended.run_count) == ("Completed", 1)


def test_a_pause_that_has_fired_is_answered_at_once_to_who_comes_by_again(
    client: Client, worker: ThreadPoolExecutor
) -> None:
    running = Running(worker, client, lambda run: [run.pause(schema={}, key="k") for _ in "12"])
    client.resume_flow_run(paused_run(client, running.flow), [7])
    assert running.result.result(20) == [[7], [7]]


def test_task_runs_wait_while_others_have_paused_their_flow_run(
    client: Client, worker: ThreadPoolExecutor
) -> None:
    def body(run: FlowRunContext) -> list[int]:
        client.pause_flow_run(run.id)
        return run.run_task(lambda: [1], key="task")

    running = Running(worker, client, body)
    run_id = paused_run(client, running.flow)
    wanted = TaskRunFilter(flow_run_ids=[run_id], state_names=["NotReady"])
    deadline = time.monotonic() + 20
    while not (tasks := list(client.list_task_runs(wanted))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    told = client.explain_task_run(tasks[0])
    assert told.causes[0].reason == "FLOW_PAUSED"
    client.resume_flow_run(run_id)
    assert running.result.result(20) == [1]
    assert client.get_flow_run(run_id).state.name == "Completed"
