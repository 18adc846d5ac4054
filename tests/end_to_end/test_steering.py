"""Steering runs and asking why they wait, from the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from interlock import Client
from interlock.v1.flow_run_pb2 import FlowRun

from tests.end_to_end.commands import interlock
from tests.support.runs import unique
from tests.support.servers import ServerProcess

SCHEMA = '{"type": "object", "required": ["approved"]}'


@pytest.fixture(scope="module")
def client(interlock_on_sqlite_memory: ServerProcess) -> Iterator[Client]:
    with Client(interlock_on_sqlite_memory.target, proposed_by="etl") as made:
        yield made


@pytest.fixture
def run(client: Client) -> FlowRun:
    """One that runs."""
    made = client.create_flow_run(client.create_flow(unique("flow")))
    client.set_flow_run_state(made, "running")
    return made


class Terminal:
    def __init__(self, target: str) -> None:
        self._target = target

    def do(self, *words: str, answer: str = "") -> str:
        """Run a command that must succeed, and answer its output."""
        done = interlock(*words, "--server", self._target, answer=answer)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(self, *words: str) -> str:
        """Run a command that must fail, and answer the line that says why."""
        done = interlock(*words, "--server", self._target)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        return done.stderr


@pytest.fixture
def terminal(interlock_on_sqlite_memory: ServerProcess) -> Terminal:
    return Terminal(interlock_on_sqlite_memory.target)


def test_a_run_is_paused_explained_and_resumed_with_input(
    client: Client, terminal: Terminal, run: FlowRun, tmp_path: Path
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(SCHEMA)
    options = ("--schema", f"@{schema}", "--key", "gate", "--timeout", "1h30m")
    said = terminal.do("flow-run", "pause", run.id, "--message", "May I?", *options)
    assert said == f"{run.id} is Paused.\n"

    told = terminal.do("flow-run", "explain", run.id)
    assert told.splitlines()[0] == "Paused"
    assert re.search(
        r"^PAUSED +It was paused .* by \S+: May I\? Resume it with the input", told, re.M
    )
    assert re.search(r"^ +until .*\(in 1h\)", told, re.M)
    assert re.search(rf"^INPUT_AWAITED .* key gate.*{re.escape(SCHEMA)}", told, re.M)

    why = terminal.fail("flow-run", "resume", run.id, "--input", "{}")
    assert '"approved" is a required property' in why
    answer = '{"approved": true, "n": 1.50}'
    assert terminal.do("flow-run", "resume", run.id, "--input", "-", answer=answer) == (
        f"{run.id} is Running.\n"
    )
    assert client.get_flow_run_input(run, "gate").input_json == answer


def test_what_was_refused_is_said_with_the_state_that_the_run_is_in(
    terminal: Terminal, run: FlowRun
) -> None:
    why = terminal.fail("flow-run", "resume", run.id)
    assert "NOT_PAUSED" in why
    assert why.count("Running") == 1
    assert "NO_DEPLOYMENT" in terminal.fail("flow-run", "pause", run.id, "--suspend")


def test_a_run_is_cancelled(client: Client, terminal: Terminal, run: FlowRun) -> None:
    decision = json.loads(terminal.do("flow-run", "cancel", run.id, "--message", "no", "--json"))
    assert (decision["verdict"], decision["state"]["name"]) == ("VERDICT_ACCEPT", "Cancelling")
    assert terminal.do("flow-run", "cancel", run.id) == f"{run.id} is Cancelling.\n"
    client.set_flow_run_state(run, "cancelled")
    assert "RUN_FINISHED" in terminal.fail("flow-run", "cancel", run.id)


def test_a_task_run_is_inspected_and_explained(
    client: Client, terminal: Terminal, run: FlowRun
) -> None:
    task = client.create_task_run("load", flow_run=run, name="load-7", inputs={"n": 1}, retries=1)
    for state in ("running", "failed", "running", "failed"):
        client.set_task_run_state(task, state, message=f"m {state}")
    shown, history = terminal.do("task-run", "inspect", task.id).split("\n\n")
    assert re.search(r"^task run +load-7\s*$", shown, re.M)
    assert re.search(rf"^flow run +{run.id}\s*$", shown, re.M)
    assert re.search(r"^runs +2 of 2 at most\s*$", shown, re.M)
    assert re.search(r'^inputs +\{"n":1\}\s*$', shown, re.M)
    lines = history.splitlines()
    assert lines[0].split() == ["TIME", "PROPOSED", "BY", "DECISION", "STATE", "RULE", "REASON"]
    assert re.search(r"Failed +etl +reject +AwaitingRetry +retry +RETRYING: Retry 1 of 1", lines[3])
    assert json.loads(terminal.do("task-run", "inspect", task.id, "--json"))["history"][4]

    told = json.loads(terminal.do("task-run", "explain", task.id, "--json"))
    assert told["summary"].endswith("ago: m failed.")
    assert [cause["reason"] for cause in told["causes"]] == ["FAILED", "RETRIES_EXHAUSTED"]
