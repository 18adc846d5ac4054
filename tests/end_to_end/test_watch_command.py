"""`interlock flow-run watch`: what happens to runs, from the terminal."""

import json
import signal
from collections.abc import Iterator
from subprocess import Popen

import pytest
from interlock import Client
from interlock.ids import uuid7

from tests.end_to_end.commands import TIMEOUT, interlock, start_interlock
from tests.support.servers import ServerProcess


@pytest.fixture(scope="module")
def server(interlock_on_sqlite_file: ServerProcess) -> ServerProcess:
    return interlock_on_sqlite_file


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as client:
        yield client


def watch(server: ServerProcess, *words: str) -> "Popen[str]":
    """A watch that begins a minute ago, so that nothing that a test does comes before it."""
    return start_interlock("flow-run", "watch", *words, "--since", "1m", "--server", server.target)


def interrupt(watching: "Popen[str]") -> None:
    """End a watch as a person does: it is quiet."""
    watching.send_signal(signal.SIGINT)
    assert watching.communicate(timeout=TIMEOUT) == ("", "")
    assert watching.returncode == 130


def line(watching: "Popen[str]") -> list[str]:
    """The words of the next line, behind date and time."""
    assert watching.stdout is not None
    return watching.stdout.readline().split()[2:]


def test_each_event_is_a_line_until_ctrl_c(server: ServerProcess, client: Client) -> None:
    run = client.create_flow_run(client.create_flow(uuid7()), name="night\x1b[2J", retries=1)
    task = client.create_task_run("load", flow_run=run, name="load")
    with watch(server, run.id, "--task-runs") as watching:
        assert line(watching) == ["flow", "run", run.id, "Pending", "night\\x1b[2J"]
        assert line(watching) == ["task", "run", task.id, "Pending", "load"]
        client.set_flow_run_state(run.id, "running")
        assert line(watching)[2:] == [run.id, "Running", "night\\x1b[2J"]
        client.set_flow_run_state(run.id, "failed", message="no such file")
        words = line(watching)
        assert words[2:6] == [run.id, "AwaitingRetry", "night\\x1b[2J", "RETRYING:"]
        client.delete_flow_run(run.id)
        assert line(watching) == ["flow", "run", run.id, "deleted"]
        assert line(watching) == ["task", "run", task.id, "deleted"]
        interrupt(watching)


def test_a_watch_is_narrowed_by_flow_state_and_tag(server: ServerProcess, client: Client) -> None:
    flow, other = client.create_flow(uuid7()), client.create_flow(uuid7())
    wanted = client.create_flow_run(flow, tags=["a", "b"])
    for run in (client.create_flow_run(flow, tags=["a"]), client.create_flow_run(other), wanted):
        client.set_flow_run_state(run.id, "running")
    options = ["--flow", flow.name, "--state", "running", "--tag", "a", "--tag", "b", "--json"]
    with watch(server, *options) as watching:
        assert watching.stdout is not None
        event = json.loads(watching.stdout.readline())
        assert (event["run_id"], event["state"]["name"]) == (wanted.id, "Running")
        assert event["type"] == "RUN_EVENT_TYPE_STATE"
        interrupt(watching)


def test_a_watch_bridges_a_restart_of_the_server() -> None:
    with ServerProcess() as server, Client(server.target) as client:
        run = client.create_flow_run(client.create_flow("watched"))
        with watch(server) as watching:
            assert line(watching)[3] == "Pending"
            server.restart()
            client.set_flow_run_state(run.id, "running")
            assert line(watching)[3] == "Running"
            interrupt(watching)


def test_what_can_not_be_watched_is_said_in_one_line(server: ServerProcess) -> None:
    for words, said in (
        (["x"], "filter.flow_run_ids[0]"),
        (["--since", "8d"], "7 days"),
        (["--flow", "nowhere"], "no flow nowhere"),
    ):
        done = interlock("flow-run", "watch", *words, "--server", server.target)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
