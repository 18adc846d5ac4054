"""The connection to PostgreSQL breaks during COMMIT: nobody knows whether it was done.

Commands with an id are decided again from what is stored, so that clients get the right answer.
Those without one can only be told that the outcome is unknown.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from interlock import AsyncClient, InterlockError, NotFound
from interlock.ids import uuid7
from interlock.v1.flow_pb2 import Flow, UpdateFlowRequest
from interlock.v1.flow_pb2_grpc import FlowServiceStub
from interlock.v1.flow_run_pb2 import (
    DeleteFlowRunRequest,
    FlowRun,
    FlowRunFilter,
    FlowRunServiceSetStateRequest,
)
from interlock.v1.flow_run_pb2_grpc import FlowRunServiceStub
from interlock.v1.state_pb2 import STATE_TYPE_RUNNING, Proposal, StateDraft
from interlock_server.storage import pipeline

from tests.faults import load, readback
from tests.faults.history import History
from tests.faults.load import Load, answer_of
from tests.faults.log_fleet import small_fleet
from tests.support.postgresql import Postgresql
from tests.support.proxy import Cut, PostgresqlProxy
from tests.support.refusals import refusal_of
from tests.support.servers import ServerProcess, in_this_process


@pytest.fixture(scope="module")
async def proxy(postgresql_18: Postgresql) -> AsyncIterator[PostgresqlProxy]:
    with postgresql_18.database("faults") as url:
        async with PostgresqlProxy(url) as proxy:
            yield proxy


@pytest.fixture(scope="module")
async def server(proxy: PostgresqlProxy) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(proxy.url)
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.close)


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.target) as client:
        yield client


@pytest.fixture
async def run(client: AsyncClient) -> FlowRun:
    return await client.create_flow_run(await client.create_flow(uuid7()))


@pytest.mark.parametrize("cut", Cut)
async def test_a_transition_is_decided_again_and_answered_right(
    cut: Cut, proxy: PostgresqlProxy, server: ServerProcess, client: AsyncClient, run: FlowRun
) -> None:
    history = History()
    proposal_id = uuid7()
    history.proposed("client", proposal_id, run.id)
    proxy.cut_at_commit(cut)

    decision = await client.set_flow_run_state(run, "running", proposal_id=proposal_id)

    history.answered(proposal_id, answer_of(decision))
    assert proxy.was_cut.is_set()
    assert decision.run_count == 1
    assert "commit_outcome_unknown" in server.log
    await readback.check(server.target, history)


@pytest.mark.parametrize("cut", Cut)
async def test_a_creation_is_made_once(
    cut: Cut, proxy: PostgresqlProxy, client: AsyncClient, run: FlowRun
) -> None:
    proxy.cut_at_commit(cut)
    made = await client.create_flow_run(run.flow_id, name="second")
    assert proxy.was_cut.is_set()
    runs = client.list_flow_runs(FlowRunFilter(flow_ids=[run.flow_id]))
    assert {it.id async for it in runs} == {run.id, made.id}


@pytest.mark.parametrize("cut", Cut)
async def test_a_command_without_an_id_is_told_that_its_outcome_is_unknown(
    cut: Cut, proxy: PostgresqlProxy, server: ServerProcess, client: AsyncClient, run: FlowRun
) -> None:
    async with grpc.aio.insecure_channel(server.target) as channel:
        update = UpdateFlowRequest(
            flow=Flow(id=run.flow_id, tags=["changed"]), update_mask=FieldMask(paths=["tags"])
        )
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: FlowServiceStub(channel).UpdateFlow(update),
            lambda: FlowRunServiceStub(channel).DeleteFlowRun(DeleteFlowRunRequest(id=run.id)),
        ]
        for call in calls:
            proxy.cut_at_commit(cut)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call()
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert refusal_of(failed.value).reason == "OUTCOME_UNKNOWN"

    done = cut is Cut.AFTER_COMMIT
    assert (await client.get_flow(run.flow_id)).tags == (["changed"] if done else [])
    if done:
        with pytest.raises(NotFound):
            await client.get_flow_run(run.id)
    else:
        assert (await client.get_flow_run(run.id)).etag == run.etag


async def test_the_client_does_not_repeat_what_may_have_been_done(
    proxy: PostgresqlProxy, client: AsyncClient, run: FlowRun
) -> None:
    proxy.cut_at_commit(Cut.BEFORE_COMMIT)
    with pytest.raises(InterlockError) as failed:
        await client.delete_flow_run(run)
    assert failed.value.reason == "OUTCOME_UNKNOWN"
    assert (await client.get_flow_run(run.id)).etag == run.etag


async def test_an_outcome_that_stays_unknown_is_told_in_time(
    proxy: PostgresqlProxy, run: FlowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "UNKNOWN_SECONDS", 1.0)
    proposal = Proposal(id=uuid7(), run_id=run.id, state=StateDraft(type=STATE_TYPE_RUNNING))
    request = FlowRunServiceSetStateRequest(proposal=proposal)
    async with (
        in_this_process(proxy.url) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        stub = FlowRunServiceStub(channel)
        before = proxy.cuts
        proxy.cut_at_commit(Cut.BEFORE_COMMIT, times=1000)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.SetState(request, timeout=30)
        tries = proxy.cuts - before
        proxy.cut_at_commit(Cut.BEFORE_COMMIT, times=0)

        assert refusal_of(failed.value).reason == "OUTCOME_UNKNOWN"
        assert refusal_of(failed.value).retry_after
        assert 1 < tries < 20
        # Told so, its caller sends it again with its id.
        assert (await stub.SetState(request, timeout=30)).decision.run_count == 1


async def _cuts_under_load(
    proxy: PostgresqlProxy, server: ServerProcess, amount: load.Amount, rounds: int
) -> None:
    history, fleet = History(), small_fleet()
    working = Load(server.target, history, amount)
    async with asyncio.TaskGroup() as group:
        group.create_task(working.run())
        group.create_task(fleet.work(server.target))
        for i in range(rounds):
            await working.reaches((i + 1) / (rounds + 2))
            proxy.cut_at_commit((Cut.BEFORE_COMMIT, Cut.AFTER_COMMIT)[i % 2], times=1 + i % 3)
            await proxy.was_cut.wait()
            if i % 3 == 2:
                proxy.cut_all()
    assert not history.unanswered
    await readback.check(server.target, history)
    await fleet.check(server)


async def test_cuts_under_load(proxy: PostgresqlProxy, server: ServerProcess) -> None:
    await _cuts_under_load(proxy, server, load.SHORT, rounds=8)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_many_cuts_under_load(proxy: PostgresqlProxy, server: ServerProcess) -> None:
    await _cuts_under_load(proxy, server, load.LONG, rounds=300)
