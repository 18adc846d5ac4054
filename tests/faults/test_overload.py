"""More work than the server takes: some of it is refused, in words, and nothing is lost."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from interlock import AsyncClient
from interlock.ids import uuid7
from interlock.v1.flow_run_pb2 import (
    FlowRun,
    FlowRunServiceBatchSetStatesRequest,
    FlowRunServiceSetStateRequest,
)
from interlock.v1.flow_run_pb2_grpc import FlowRunServiceStub
from interlock.v1.state_pb2 import STATE_TYPE_RUNNING, Proposal, StateDraft

from tests.faults import readback
from tests.faults.history import History
from tests.faults.load import answer_of
from tests.support.refusals import refusal_of
from tests.support.servers import ServerProcess, sqlite_url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "interlock.db"


@pytest.fixture
async def server(file: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(sqlite_url(file))
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.close)


@pytest.fixture
async def stub(server: ServerProcess) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.target) as channel:
        yield FlowRunServiceStub(channel)


async def _create_runs(server: ServerProcess, count: int) -> list[FlowRun]:
    async with AsyncClient(server.target) as client:
        flow = await client.create_flow("flow")
        return await asyncio.gather(*(client.create_flow_run(flow) for _ in range(count)))


def _proposal(history: History, run: FlowRun, message: str = "") -> Proposal:
    draft = StateDraft(type=STATE_TYPE_RUNNING, message=message)
    proposal = Proposal(id=uuid7(), run_id=run.id, state=draft)
    history.proposed("client", proposal.id, run.id)
    return proposal


async def test_what_is_too_much_is_refused_at_once_and_can_be_sent_again(
    file: Path, server: ServerProcess, stub: Any
) -> None:
    history = History()
    runs = await _create_runs(server, 50)
    # Each call has 3 MB of messages: 32 MiB of them may wait, and 8 be on their way.
    requests = [
        FlowRunServiceBatchSetStatesRequest(
            proposals=[_proposal(history, run, "x" * 60_000) for run in runs]
        )
        for _ in range(16)
    ]
    other = sqlite3.connect(file, isolation_level=None)
    # Nothing is written as long as somebody else may write.
    other.execute("BEGIN IMMEDIATE")
    calls = {asyncio.ensure_future(stub.BatchSetStates(request)): request for request in requests}
    refused, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    other.close()
    answered, _ = await asyncio.wait(waiting)

    again = []
    for call in refused | answered:
        error = call.exception()
        if error is None:
            _note(history, calls[call], call.result())
            continue
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal_of(error).reason == "OVERLOADED"
        assert refusal_of(error).retry_after
        again.append(calls[call])
    assert again
    assert len(again) < len(requests)
    for request in again:
        _note(history, request, await stub.BatchSetStates(request))
    assert not history.unanswered
    await readback.check(server.target, history)


def _note(history: History, request: Any, response: Any) -> None:
    for proposal, outcome in zip(request.proposals, response.outcomes, strict=True):
        history.answered(proposal.id, answer_of(outcome.decision))


async def test_256_callers_at_once_are_all_served(server: ServerProcess, stub: Any) -> None:
    history = History()
    runs = await _create_runs(server, 256)

    async def work(run: FlowRun) -> None:
        for _ in range(4):
            proposal = _proposal(history, run)
            # One attempt: an error of any kind fails the test.
            response = await stub.SetState(FlowRunServiceSetStateRequest(proposal=proposal))
            history.answered(proposal.id, answer_of(response.decision))

    await asyncio.gather(*map(work, runs))
    await readback.check(server.target, history)
