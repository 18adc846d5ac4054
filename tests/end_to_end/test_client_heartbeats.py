"""Blocks that say that they live and are told when to stop, in both clients, on a real server."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from interlock import AsyncClient, Client, NotFound, RunStopped, uuid7
from interlock.v1 import HEARTBEAT_ADVICE_CONTINUE, HeartbeatAnswer

from tests.support.heartbeats import beat
from tests.support.runs import until
from tests.support.servers import IN_MEMORY, ServerProcess

PATIENCE = 20.0
"""Seconds. What is waited for takes one; on a busy machine several."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server whose loops look twice a second."""
    with ServerProcess(IN_MEMORY, environment={"INTERLOCK_LOOPS_PERIOD": "0.5"}) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as client:
        yield client


def reasons(client: Client, run_id: str) -> list[str]:
    return [line.reason for line in client.list_flow_run_states(run_id)]


def test_a_block_that_lives_longer_than_its_timeout_completes(client: Client) -> None:
    with client.flow_run("f", heartbeat=0.6) as run:
        # Another run falls silent and dies: for so long this one must have been heard of.
        silent = client.create_flow_run(client.create_flow("g"))
        client.set_flow_run_state(silent, "running")
        client.send_heartbeats([beat("flow_run", silent.id, 1, timeout=0.9)])
        until(lambda: client.get_flow_run(silent.id).state.name == "Crashed", PATIENCE)
        assert run.told_to_stop == ""
        run.check()
    assert client.get_flow_run(run.id).state.name == "Completed"
    assert reasons(client, run.id) == ["", "", ""]


def test_a_run_that_is_cancelled_is_told_and_its_block_ends_as_cancelled(client: Client) -> None:
    told = threading.Event()
    heard: list[str] = []

    def on_stop(reason: str) -> None:
        heard.append(reason)
        told.set()

    run = client.flow_run("f", heartbeat=1, on_stop=on_stop)

    def work() -> None:
        with run:
            client.set_flow_run_state(run.id, "cancelling")
            assert told.wait(PATIENCE)
            run.check()

    with pytest.raises(RunStopped) as caught:
        work()
    assert heard == ["CANCEL"]
    assert caught.value.reason == "CANCEL"
    assert client.get_flow_run(run.id).state.name == "Cancelled"


def test_an_attempt_that_is_superseded_has_nothing_to_say_any_more(client: Client) -> None:
    run = client.flow_run("f", heartbeat=0.6)

    def work() -> None:
        with run:
            client.set_flow_run_state(run.id, "running")
            until(lambda: run.told_to_stop == "SUPERSEDED", PATIENCE)

    with pytest.raises(RunStopped):
        work()
    after = client.get_flow_run(run.id)
    assert (after.state.name, after.run_count) == ("Running", 2)


def test_a_failure_after_the_end_changes_nothing(client: Client) -> None:
    run = client.flow_run("f", heartbeat=0.6)

    def work() -> None:
        with run:
            client.set_flow_run_state(run.id, "cancelled")
            until(lambda: run.told_to_stop == "FINISHED", PATIENCE)
            raise ValueError("what was left undone")

    with pytest.raises(ValueError, match="undone"):
        work()
    assert client.get_flow_run(run.id).state.name == "Cancelled"


def test_a_crash_is_tried_again_where_the_client_says_so(client: Client) -> None:
    run = client.create_flow_run(client.create_flow("f"), retries=1, retry_crashes=True)
    client.set_flow_run_state(run, "running")
    client.send_heartbeats([beat("flow_run", run.id, 1, timeout=0.2)])
    until(lambda: client.get_flow_run(run.id).state.name == "AwaitingRetry", PATIENCE)
    with client.enter_flow_run(run, heartbeat=30) as again:
        assert again.run_count == 2
    assert client.get_flow_run(run.id).state.name == "Completed"


def test_heartbeats_can_be_sent_by_hand(client: Client) -> None:
    with client.task_run("t", heartbeat=30) as task:
        error, answer = client.send_heartbeats(
            [beat("flow_run", uuid7(), 1), beat("task_run", task.id, 1)]
        )
        assert isinstance(error, NotFound)
        assert isinstance(answer, HeartbeatAnswer)
        assert answer.advice == HEARTBEAT_ADVICE_CONTINUE


async def test_the_asynchronous_client_does_the_same(server: ServerProcess) -> None:
    told = asyncio.Event()
    async with AsyncClient(server.target) as client:
        run = client.flow_run("f", heartbeat=1, on_stop=lambda _: told.set())

        async def work() -> None:
            async with run:
                await client.set_flow_run_state(run.id, "cancelling")
                async with asyncio.timeout(PATIENCE):
                    await told.wait()
                run.check()

        with pytest.raises(RunStopped):
            await work()
        assert run.told_to_stop == "CANCEL"
        assert (await client.get_flow_run(run.id)).state.name == "Cancelled"
        async with client.flow_run("f", heartbeat=0.5) as short:
            pass
        assert (await client.get_flow_run(short.id)).state.name == "Completed"


def test_a_server_that_is_away_is_waited_for() -> None:
    with ServerProcess() as server, Client(server.target) as client:
        with client.flow_run("f", heartbeat=30) as run:
            server.restart()
            answer = client.get_flow_run(run.id)
            assert answer.state.name == "Running"
        assert client.get_flow_run(run.id).state.name == "Completed"


def test_no_thread_stays_behind(client: Client) -> None:
    with client.flow_run("f", heartbeat=30):
        assert any(thread.name == "interlock" for thread in threading.enumerate())
    until(lambda: all(thread.name != "interlock" for thread in threading.enumerate()), PATIENCE)
