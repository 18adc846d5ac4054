"""Runs that are reported by blocks and by functions, in both clients."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from interlock import (
    AsyncClient,
    Client,
    FlowRunContext,
    RetryPolicy,
    TransitionAborted,
    TransitionRejected,
    context,
    states,
    v1,
)
from interlock._sync.pausing import until_resumed

from tests.clients.fake_server import FakeServer, Run

Code = grpc.StatusCode


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    retry = RetryPolicy(initial_delay=0.01, max_delay=0.05)
    with Client(server.target, timeout=5, retry=retry) as made:
        yield made


def types(server: FakeServer, run_id: str) -> list[str]:
    return [each.state.name for each in server.history[run_id]]


def test_a_block_reports_its_run(server: FakeServer, client: Client) -> None:
    with client.flow_run("nightly", parameters={"day": 3}) as run:
        assert run.run_count == 1
        assert run.state.name == "Running"
        with run.task("extract") as first:
            pass
        with run.task("extract", inputs={"a": 1}) as second:
            assert context.task_run_id.get() == second.id
        assert (context.flow_run_id.get(), context.task_run_id.get()) == (run.id, "")
    assert (context.flow_run_id.get(), context.task_run_id.get()) == ("", "")
    for run_id in (run.id, first.id, second.id):
        assert types(server, run_id) == ["Running", "Completed"]
    assert server.task_runs[first.id].dynamic_key == "0"
    assert server.task_runs[second.id].dynamic_key == "1"
    assert server.flow_runs[run.id].parameters_json == '{"day":3}'
    assert server.flows[server.flow_runs[run.id].flow_id].name == "nightly"


def test_a_server_that_is_away_while_a_run_is_paused_is_waited_for(server: FakeServer) -> None:
    retry = RetryPolicy(initial_delay=0.01, max_delay=0.01)
    with Client(server.target, timeout=0.05, retry=retry) as client, client.flow_run("f") as run:
        server.fail("GetFlowRun", Code.UNAVAILABLE, times=20)
        assert until_resumed(client, run.id, v1.State()).id == run.id
        assert server.calls["GetFlowRun"] == 21


def test_an_exception_is_a_failure(
    server: FakeServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        client.flow_run("nightly") as run,
        run.task("divide") as task,
    ):
        _ = 1 / 0
    assert types(server, run.id) == types(server, task.id) == ["Running", "Failed"]
    assert server.task_runs[task.id].state.message == "ZeroDivisionError: division by zero"
    failures = [record for record in caplog.records if record.name == "interlock.run"]
    assert [record.levelno for record in failures] == [logging.ERROR] * 2
    # The traceback is there once, in the task's log.
    assert [bool(record.exc_info) for record in failures] == [True, False]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_a_crash(
    server: FakeServer, client: Client, kind: type[BaseException]
) -> None:
    with pytest.raises(kind), client.flow_run("nightly") as run:
        raise kind
    assert types(server, run.id) == ["Running", "Crashed"]


async def test_a_cancelled_task_is_a_crash(server: FakeServer) -> None:
    async with AsyncClient(server.target) as client:
        entered = asyncio.Event()

        async def work() -> None:
            async with client.flow_run("nightly"):
                entered.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    [run_id] = server.flow_runs
    assert types(server, run_id) == ["Running", "Crashed"]


def test_a_failure_that_can_not_be_reported_is_still_raised(
    server: FakeServer, client: Client
) -> None:
    def body() -> None:
        server.fail("SetState", Code.INTERNAL)
        _ = 1 / 0

    with pytest.raises(ZeroDivisionError) as caught, client.flow_run("nightly"):
        body()
    assert "could not report this failure" in caught.value.__notes__[0]


def test_a_failure_with_an_impossible_text_is_reported(
    server: FakeServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest-xdist can not carry what is logged here.
    monkeypatch.setattr(logging.getLogger("interlock.run"), "disabled", True)

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(Odd), client.flow_run("nightly") as run:
        raise Odd
    assert "its text can not be had" in server.flow_runs[run.id].state.message
    with pytest.raises(ValueError, match="bad"), client.flow_run("nightly") as run:
        raise ValueError("bad \0 \udc80")
    assert "\\x00 \\udc80" in server.flow_runs[run.id].state.message


def test_a_run_that_is_due_later_is_waited_for(server: FakeServer, client: Client) -> None:
    due = datetime.now(UTC) + timedelta(seconds=0.5)
    flow_run = client.create_flow_run(client.create_flow("x"), state=states.scheduled(due))
    with client.enter_flow_run(flow_run):
        assert datetime.now(UTC) >= due
    assert types(server, flow_run.id) == ["Running", "Completed"]


def test_a_run_that_may_not_run_does_not_run(server: FakeServer, client: Client) -> None:
    server.decide = lambda proposal, run: v1.Decision(
        verdict=v1.VERDICT_ABORT, reason="RUN_FINISHED", explanation="it is over"
    )
    over = "RUN_FINISHED: it is over"
    with pytest.raises(TransitionAborted, match=over), client.flow_run("nightly"):
        pytest.fail("the body ran")
    cached = v1.State(type=v1.STATE_TYPE_COMPLETED, name="Cached")
    server.decide = lambda proposal, run: v1.Decision(
        verdict=v1.VERDICT_REJECT, reason="CACHED", state=cached
    )
    with pytest.raises(TransitionRejected) as caught, client.task_run("t"):
        pytest.fail("the body ran")
    assert caught.value.decision.state.name == "Cached"
    assert context.task_run_id.get() == ""


def test_a_run_that_is_told_to_stop_says_that_it_stopped(
    server: FakeServer, client: Client
) -> None:
    def cancel(run: FlowRunContext, result: float) -> None:
        server.flow_runs[run.id].state.type = v1.STATE_TYPE_CANCELLING
        _ = 1 / result

    with pytest.raises(TransitionRejected, match="CANCELLING"), client.flow_run("n") as run:
        cancel(run, 1)
    assert server.flow_runs[run.id].state.type == v1.STATE_TYPE_CANCELLED
    with pytest.raises(ZeroDivisionError), client.flow_run("n") as run:
        cancel(run, 0)
    assert server.flow_runs[run.id].state.type == v1.STATE_TYPE_CANCELLED


def test_a_block_may_end_its_run_by_itself(server: FakeServer, client: Client) -> None:
    with client.flow_run("nightly") as run:
        run.set_state(states.completed("all well", name="Done"))
    assert types(server, run.id) == ["Running", "Done"]


def test_a_block_with_retries_says_that_it_is_to_be_run_again(
    server: FakeServer, client: Client
) -> None:
    with pytest.raises(ZeroDivisionError) as caught, client.flow_run("n", retries=1) as run:
        _ = 1 / 0
    assert "is to be tried again in 0 s" in caught.value.__notes__[0]
    assert types(server, run.id) == ["Running", "AwaitingRetry"]
    with client.enter_flow_run(run.id) as again:
        assert again.run_count == 2
    assert types(server, run.id) == ["Running", "AwaitingRetry", "Running", "Completed"]


def test_functions_are_run_again(server: FakeServer, client: Client) -> None:
    moments: list[float] = []

    def flaky(factor: int) -> int:
        moments.append(time.monotonic())
        if len(moments) < 3:
            raise ValueError("not yet")
        return factor * 2

    def flow(run: FlowRunContext, factor: int) -> int:
        return run.run_task(flaky, factor, retries=2, retry_delay=[0.2, 0.4])

    assert client.run_flow(flow, 21) == 42
    assert moments[1] - moments[0] >= 0.2
    assert moments[2] - moments[1] >= 0.4
    [task] = server.task_runs.values()
    assert task.task_key == "flaky"
    again = ["Running", "AwaitingRetry"]
    assert types(server, task.id) == [*again, *again, "Running", "Completed"]
    [flow_run] = server.flow_runs.values()
    assert types(server, flow_run.id) == ["Running", "Completed"]
    assert server.flows[flow_run.flow_id].name == "flow"


def test_a_function_that_keeps_failing_raises(server: FakeServer, client: Client) -> None:
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise ValueError("never")

    with client.flow_run("nightly") as run, pytest.raises(ValueError, match="never"):
        run.run_task(broken, key="b", retries=2)
    assert len(calls) == 3


def test_a_flow_that_is_run_again_finds_its_tasks(server: FakeServer, client: Client) -> None:
    attempts: list[int] = []

    def flow(run: FlowRunContext) -> None:
        attempts.append(run.run_count)
        for _ in range(2):
            run.run_task(int, key="t")
        if len(attempts) == 1:
            raise ValueError("once")

    client.run_flow(flow, flow="nightly", retries=1)
    assert attempts == [1, 2]
    assert len(server.task_runs) == 2


def test_lost_answers_do_no_harm(server: FakeServer, client: Client) -> None:
    for method in ("CreateFlow", "CreateFlowRun", "CreateTaskRun", "SetState"):
        server.fail(method, Code.UNAVAILABLE, after=True, times=2)
    with client.flow_run("nightly") as run:
        server.fail("SetState", Code.UNAVAILABLE, after=True)
        with run.task("t") as task:
            server.fail("SetState", Code.UNAVAILABLE, after=True)
    for run_id in (run.id, task.id):
        assert types(server, run_id) == ["Running", "Completed"]
    assert (len(server.flow_runs), len(server.task_runs)) == (1, 1)
    counts = [server.flow_runs[run.id].run_count, server.task_runs[task.id].run_count]
    assert counts == [1, 1]


def test_waiting_goes_on_with_the_same_proposal(server: FakeServer, client: Client) -> None:
    waits = iter(range(3))

    def decide(proposal: v1.Proposal, run: Run) -> v1.Decision | None:
        if next(waits, None) is None:
            return None
        decision = v1.Decision(verdict=v1.VERDICT_WAIT)
        decision.retry_after.FromMilliseconds(10)
        return decision

    server.decide = decide
    with client.flow_run("nightly"):
        pass
    ids = [request.proposal.id for request in server.requests_of("SetState")]
    assert len(set(ids[:4])) == 1
    assert ids[4] != ids[3]


async def test_the_asynchronous_client_does_the_same(server: FakeServer) -> None:
    tries: list[int] = []

    async def flaky(word: str) -> str:
        tries.append(1)
        await asyncio.sleep(0)
        if len(tries) < 2:
            raise ValueError(word)
        return word.upper()

    async with AsyncClient(server.target) as client:
        async with client.flow_run("nightly") as run:
            assert await run.run_task(flaky, "done", retries=1) == "DONE"

            async def one(number: int) -> str:
                async with run.task("part", dynamic_key=str(number)) as task:
                    await asyncio.sleep(0.01)
                    assert context.task_run_id.get() == task.id
                    return task.id

            ids = await asyncio.gather(*(one(number) for number in range(10)))
            assert context.task_run_id.get() == ""
        decision = await client.set_flow_run_state(run.id, "completed")
        assert decision.verdict == v1.VERDICT_ACCEPT
    for task_id in ids:
        assert types(server, task_id) == ["Running", "Completed"]
