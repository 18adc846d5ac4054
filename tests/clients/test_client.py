"""The asynchronous client over a real socket: retries, ids, errors, conversions."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from threading import Thread

import grpc
import pytest
from interlock import (
    Aborted,
    AlreadyExists,
    AsyncClient,
    AsyncRunWatch,
    Cancelled,
    Client,
    DeadlineExceeded,
    InterlockError,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
    RetryPolicy,
    Unavailable,
    states,
    v1,
)
from interlock.text import ESCAPED, MAX_STATE_MESSAGE_BYTES

from tests.clients.fake_server import FakeServer

Code = grpc.StatusCode
QUICK = RetryPolicy(initial_delay=0.01, max_delay=0.05, attempt_timeout=0.5)


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.target, timeout=5, retry=QUICK) as made:
        yield made


@pytest.fixture
async def run(client: AsyncClient) -> v1.FlowRun:
    return await client.create_flow_run(await client.create_flow("nightly"))


async def test_reads_and_creations_are_sent_again(server: FakeServer, client: AsyncClient) -> None:
    for method in ("CreateFlow", "CreateFlowRun", "CreateTaskRun", "SetState", "ListFlows"):
        server.fail(method, Code.UNAVAILABLE, times=2)
    flow = await client.create_flow("nightly")
    run = await client.create_flow_run(flow)
    await client.create_task_run("extract", flow_run=run)
    decision = await client.set_flow_run_state(run, "running")
    assert decision.verdict == v1.VERDICT_ACCEPT
    assert [each.id async for each in client.list_flows()] == [flow.id]
    for method in ("CreateFlow", "CreateFlowRun", "CreateTaskRun", "SetState", "ListFlows"):
        assert server.calls[method] == 3, method


async def test_a_lost_answer_has_the_effect_of_one_call(
    server: FakeServer, client: AsyncClient
) -> None:
    flow = await client.create_flow("nightly")
    for method in ("CreateFlowRun", "SetState", "BatchSetStates", "BatchCreateTaskRuns"):
        server.fail(method, Code.UNAVAILABLE, after=True)
    run = await client.create_flow_run(flow)
    assert server.created[run.id] == 1
    assert (await client.set_flow_run_state(run, states.running())).run_count == 1
    [decision] = await client.set_flow_run_states([(run, states.running())])
    assert isinstance(decision, v1.Decision)
    assert decision.run_count == 2
    assert len(server.history[run.id]) == 2
    [task] = await client.create_task_runs([client.new_task_run("extract", flow_run=run)])
    assert server.created[str(task)] == 1
    for method in ("CreateFlowRun", "SetState", "BatchSetStates", "BatchCreateTaskRuns"):
        first, second = server.requests_of(method)
        assert first == second


async def test_an_answer_that_comes_too_late_is_asked_for_again(
    server: FakeServer, client: AsyncClient, run: v1.FlowRun
) -> None:
    server.stall("SetState", 1.0)
    decision = await client.set_flow_run_state(run, "running")
    assert decision.run_count == 1
    assert server.calls["SetState"] == 2


@pytest.mark.parametrize("after", [False, True])
async def test_changes_without_an_id_are_not_sent_again(
    server: FakeServer, client: AsyncClient, run: v1.FlowRun, after: bool
) -> None:
    server.fail("UpdateFlowRun", Code.UNAVAILABLE, after=after)
    server.fail("DeleteFlowRun", Code.UNAVAILABLE, retry_after=0, reason="OUTCOME_UNKNOWN")
    with pytest.raises(Unavailable):
        await client.update_flow_run(run, name="new")
    with pytest.raises(Unavailable) as caught:
        await client.delete_flow_run(run)
    assert caught.value.reason == "OUTCOME_UNKNOWN"
    assert server.calls["UpdateFlowRun"] == server.calls["DeleteFlowRun"] == 1


async def test_changes_are_sent_again_when_nothing_was_done(
    server: FakeServer, client: AsyncClient, run: v1.FlowRun
) -> None:
    server.fail("UpdateFlowRun", Code.UNAVAILABLE, retry_after=0.01, reason="DATABASE_AWAY")
    server.fail("UpdateFlowRun", Code.RESOURCE_EXHAUSTED, retry_after=0.01)
    assert (await client.update_flow_run(run, name="new")).name == "new"
    assert server.calls["UpdateFlowRun"] == 3


async def test_the_server_says_how_long_to_wait(server: FakeServer, client: AsyncClient) -> None:
    server.fail("CountFlows", Code.RESOURCE_EXHAUSTED, retry_after=0.4)
    server.fail("CountFlows", Code.ABORTED, retry_after=0.1)
    began = time.monotonic()
    assert await client.count_flows() == 0
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.RESOURCE_EXHAUSTED, ResourceExhausted),
        (Code.ABORTED, Aborted),
        (Code.INVALID_ARGUMENT, InvalidArgument),
        (Code.INTERNAL, InterlockError),
        (Code.UNKNOWN, InterlockError),
        (Code.CANCELLED, Cancelled),
    ],
)
async def test_what_will_not_get_better_is_not_sent_again(
    server: FakeServer, client: AsyncClient, code: Code, kind: type[InterlockError]
) -> None:
    server.fail("CountFlows", code)
    with pytest.raises(kind) as caught:
        await client.count_flows()
    assert caught.value.code is code
    assert server.calls["CountFlows"] == 1


async def test_the_time_budget_ends_the_retries(server: FakeServer, client: AsyncClient) -> None:
    server.fail("CountFlows", Code.UNAVAILABLE, times=1000)
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await client.with_timeout(timedelta(seconds=0.5)).count_flows()
    assert time.monotonic() - began < 1.5
    assert server.calls["CountFlows"] > 2
    assert "Given up after" in caught.value.__notes__[0]


async def test_no_answer_at_all(server: FakeServer, client: AsyncClient) -> None:
    server.stall("CountFlows", 2.0)
    with pytest.raises(DeadlineExceeded):
        await client.with_timeout(0.2).count_flows()


async def test_a_server_that_comes_back_is_found(server: FakeServer, client: AsyncClient) -> None:
    await client.count_flows()
    server.stop()
    call = asyncio.create_task(client.count_flows())
    await asyncio.sleep(0.5)
    assert not call.done()
    await asyncio.to_thread(server.start)
    assert await call == 0


async def test_no_server() -> None:
    async with AsyncClient("127.0.0.1:1", timeout=0.5) as client:
        with pytest.raises(Unavailable) as caught:
            await client.count_flows()
    assert caught.value.reason == ""


async def test_errors_say_what_is_wrong(server: FakeServer, client: AsyncClient) -> None:
    with pytest.raises(NotFound) as caught:
        await client.get_flow_run("none")
    assert caught.value.reason == "FLOW_RUN_NOT_FOUND"
    assert (caught.value.resource_type, caught.value.resource_name) == ("FLOW_RUN_NOT", "the one")
    server.fail("CreateFlow", Code.INVALID_ARGUMENT, message="too long", field="name")
    with pytest.raises(InvalidArgument) as wrong:
        await client.create_flow("x")
    [violation] = wrong.value.field_violations
    assert (violation.field, violation.description) == ("name", "too long")
    assert str(wrong.value) == "INVALID_ARGUMENT: too long; name: too long"
    again = pickle.loads(pickle.dumps(wrong.value))
    assert (type(again), str(again), again.code) == (
        InvalidArgument,
        str(wrong.value),
        Code.INVALID_ARGUMENT,
    )
    assert again.field_violations == wrong.value.field_violations


async def test_the_same_id_with_other_content(client: AsyncClient, run: v1.FlowRun) -> None:
    decision = await client.set_flow_run_state(run, "running")
    with pytest.raises(AlreadyExists, match="ID_REUSED"):
        await client.set_flow_run_state(run, "failed", proposal_id=decision.proposal_id)


async def test_cancelling_a_call_cancels_it(server: FakeServer, client: AsyncClient) -> None:
    server.stall("CountFlows", 1.0)
    call = asyncio.create_task(client.with_timeout(30).count_flows())
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_lists_go_over_pages(server: FakeServer, client: AsyncClient) -> None:
    flow = await client.create_flow("nightly")
    for _ in range(7):
        await client.create_flow_run(flow)
    server.fail("ListFlowRuns", Code.UNAVAILABLE)
    runs = [run.id async for run in client.list_flow_runs(page_size=3)]
    assert runs == list(server.flow_runs)
    assert server.calls["ListFlowRuns"] == 4
    assert await client.count_flow_runs() == 7


async def test_batches_fit_the_server(server: FakeServer, client: AsyncClient) -> None:
    flow_run = await client.create_flow_run(await client.create_flow("nightly"))
    requests = [
        client.new_task_run("t", dynamic_key=str(number), flow_run=flow_run)
        for number in range(350)
    ]
    answers = await client.create_task_runs(requests)
    assert answers == [request.id for request in requests]
    decisions = await client.set_task_run_states((str(each), "running") for each in answers)
    assert [getattr(each, "run_count", 0) for each in decisions] == [1] * 350
    assert server.calls["BatchSetStates"] == 3
    assert server.calls["GetServerInfo"] == 1


async def test_one_item_of_a_batch_fails_alone(client: AsyncClient, run: v1.FlowRun) -> None:
    good, bad = await client.set_flow_run_states([(run, "running"), ("none", "running")])
    assert isinstance(good, v1.Decision)
    assert isinstance(bad, NotFound)
    assert bad.field_violations[0].field == "proposals[0].run_id"
    one, other = await client.create_task_runs(
        [client.new_task_run("a", flow_run=run), client.new_task_run("a", flow_run="none")]
    )
    assert isinstance(one, str)
    assert isinstance(other, NotFound)


async def test_values_arrive_as_they_are(server: FakeServer, client: AsyncClient) -> None:
    parameters = {"b": 2**70, "a": [1.5, None, "é", "\udc80", "\0"]}
    due = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    run = await client.create_flow_run(
        await client.create_flow("nightly", tags=["x"], labels={"k": "v"}),
        parameters=parameters,
        state=states.scheduled(due),
        retries=3,
        retry_delay=timedelta(milliseconds=1500),
    )
    stored = server.flow_runs[run.id]
    assert json.loads(stored.parameters_json) == parameters
    assert list(json.loads(stored.parameters_json)) == ["b", "a"]
    assert stored.state.details.scheduled_time.ToDatetime(tzinfo=UTC) == due
    assert (stored.retry_policy.max_retries, stored.retry_policy.delay.ToMilliseconds()) == (
        3,
        1500,
    )
    task = await client.create_task_run("t", retries=2, retry_delay=[1, 2.5], inputs={"a": [1]})
    policy = server.task_runs[task.id].retry_policy
    assert [delay.ToMilliseconds() for delay in policy.delays] == [1000, 2500]
    with pytest.raises(ValueError, match=r"NaN|nan|JSON compliant"):
        await client.create_flow_run(run.flow_id, parameters={"x": float("nan")})
    with pytest.raises(TypeError):
        await client.create_flow("nightly", tags="xyz")
    with pytest.raises(ValueError, match="no state type"):
        await client.set_flow_run_state(run, "finished")


async def test_only_what_is_given_changes(
    server: FakeServer, client: AsyncClient, run: v1.FlowRun
) -> None:
    await client.update_flow_run(run, tags=["b"], labels={}, retries=0, etag="7")
    [request] = server.requests_of("UpdateFlowRun")
    assert sorted(request.update_mask.paths) == ["labels", "retry_policy", "tags"]
    assert request.flow_run.etag == "7"
    assert request.flow_run.HasField("retry_policy")


async def test_a_run_can_always_report_its_failure(
    server: FakeServer, client: AsyncClient, run: v1.FlowRun
) -> None:
    decision = await client.set_flow_run_state(
        run, states.failed("bad \0 byte \udc80", name="Odd\0")
    )
    assert decision.state.message == "bad \\x00 byte \\udc80" + ESCAPED
    assert decision.state.name == "Odd\\x00"
    draft = v1.StateDraft(type=v1.STATE_TYPE_FAILED, message="é" * 100_000, name="n" * 300)
    decision = await client.set_flow_run_state(run, draft)
    message = decision.state.message
    assert len(message.encode()) <= MAX_STATE_MESSAGE_BYTES
    kept = message.partition("…")[0]
    assert message.endswith(f" [cut by the client: {200_000 - len(kept.encode()):,} bytes more]")
    assert len(decision.state.name.encode()) <= 200


async def test_histories(client: AsyncClient, run: v1.FlowRun) -> None:
    await client.set_flow_run_state(run, "running")
    await client.set_flow_run_state(run, "completed")
    types = [each.state.type async for each in client.list_flow_run_states(run, page_size=1)]
    assert types == [v1.STATE_TYPE_RUNNING, v1.STATE_TYPE_COMPLETED]


async def test_a_tail_goes_on_where_it_broke(server: FakeServer, client: AsyncClient) -> None:
    for number in range(10):
        server.logs["run"].append(v1.LogRecord(ordinal=number, message=str(number)))
    server.tail_breaks = [2, 0, 0, 1]
    server.tail_end = v1.TAIL_END_SILENT
    tail = client.tail_logs("run")
    assert [record.ordinal async for record in tail] == list(range(10))
    assert tail.end == v1.TAIL_END_SILENT
    assert server.calls["TailLogs"] == 5


async def test_a_tail_can_be_left_and_taken_up(server: FakeServer, client: AsyncClient) -> None:
    for number in range(10):
        server.logs["run"].append(v1.LogRecord(ordinal=number))
    tail = client.tail_logs("run")
    async for record in tail:
        if record.ordinal == 4:
            break
    assert tail.next_ordinal == 5
    server.tail_end = v1.TAIL_END_DRAINED
    rest = client.tail_logs("run", from_ordinal=tail.next_ordinal)
    assert [record.ordinal async for record in rest] == [5, 6, 7, 8, 9]


async def test_a_search_goes_on_where_it_broke_and_keeps_its_limits(
    server: FakeServer, client: AsyncClient
) -> None:
    for number in range(10):
        server.logs["run"].append(v1.LogRecord(ordinal=number))
    server.search_breaks = [2, 0, 3, 1]
    search = client.search_logs(v1.LogFilter(min_level=20), runs=["run"], max_matches=8)
    assert [found.record.ordinal async for found in search] == list(range(8))
    assert (search.end, search.matches, search.scanned) == (v1.SEARCH_END_ENOUGH_MATCHES, 8, 8)
    assert [asked.max_matches for asked in server.searches] == [8, 6, 6, 3, 2]
    rest = client.search_logs(
        v1.LogFilter(min_level=20), runs=["run"], resume_token=search.resume_token
    )
    assert [found.record.ordinal async for found in rest] == [8, 9]
    assert (rest.end, rest.resume_token) == (v1.SEARCH_END_ALL_SEARCHED, "")


async def test_a_tail_of_a_server_that_is_gone_raises(
    server: FakeServer, client: AsyncClient
) -> None:
    server.tail_breaks = [0] * 1000
    with pytest.raises(Unavailable):
        async for _ in client.with_timeout(0.5).tail_logs("run"):
            pass


@pytest.fixture
def happened(server: FakeServer) -> list[str]:
    """Ten events, by the ids of their runs."""
    ids = [str(number) for number in range(10)]
    server.run_events = [
        v1.RunEvent(run_id=id_, resume_token=str(place)) for place, id_ in enumerate(ids, 1)
    ]
    return ids


async def seen(watch: AsyncRunWatch, last: str) -> list[str]:
    ids = []
    async for event in watch:
        ids.append(event.run_id)
        if event.run_id == last:
            break
    return ids


async def test_a_watch_goes_on_where_it_broke(
    server: FakeServer, client: AsyncClient, happened: list[str]
) -> None:
    server.watch_breaks = [2, 0, 0, 4, 1]
    watch = client.watch_runs(since=datetime(2026, 1, 1, tzinfo=UTC))
    assert await seen(watch, "9") == happened
    assert server.watched_from == ["", "2", "2", "2", "6", "7"]


async def test_a_watch_can_be_left_and_taken_up(
    server: FakeServer, client: AsyncClient, happened: list[str]
) -> None:
    watch = client.watch_runs(resume_token="1")
    # In the middle of a message.
    assert await seen(watch, "4") == ["1", "2", "3", "4"]
    assert watch.resume_token == "5"
    assert await seen(watch, "6") == ["5", "6"]
    assert await seen(client.watch_runs(resume_token=watch.resume_token), "9") == ["7", "8", "9"]


async def test_a_watch_begins_where_it_was_started(
    server: FakeServer, client: AsyncClient, happened: list[str]
) -> None:
    watch = client.watch_runs()
    await watch.start()
    assert watch.resume_token == "3"
    await watch.start()
    assert await seen(watch, "9") == happened[3:]
    assert server.watched_from == ["", "3"]


async def test_a_watch_that_may_have_missed_something_raises(
    server: FakeServer, client: AsyncClient
) -> None:
    with pytest.raises(OutOfRange) as caught:
        await seen(client.watch_runs(resume_token="old"), "9")
    assert caught.value.reason == "WATCH_TOKEN_EXPIRED"


def test_a_watch_of_the_synchronous_client(server: FakeServer, happened: list[str]) -> None:
    server.watch_breaks = [4]
    with Client(server.target, timeout=5, retry=QUICK) as client:
        ids = []
        for event in client.watch_runs(resume_token="1"):
            ids.append(event.run_id)
            if event.run_id == "9":
                break
    assert ids == happened[1:]
    assert server.watched_from == ["1", "5"]


async def test_a_closed_client_says_so(server: FakeServer) -> None:
    client = AsyncClient(server.target)
    await client.count_flows()
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.count_flows()


def test_the_target_can_come_from_the_environment(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_TARGET", server.target)

    # Made outside of the loop that uses it.
    made = AsyncClient()
    results: list[int] = []
    thread = Thread(target=lambda: results.append(asyncio.run(made.count_flows())))
    thread.start()
    thread.join(10)
    assert results == [0]
