"""The demo, as `make demo` runs it."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from interlock import Client

from tests.end_to_end.commands import Ended, environment, interlock
from tests.support.servers import ServerProcess, sqlite_url

_TIMEOUT = 100.0
"""Seconds. It takes five; on a busy machine several times that."""


def command(folder: Path, packages: int) -> list[str]:
    words = [sys.executable, "-m", "interlock_server.demo", "--workers", "2"]
    return [*words, "--packages", str(packages), "--folder", str(folder)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def ended(folder: Path) -> Ended:
    """A demo that has run to its end."""
    return subprocess.run(
        command(folder, 12), capture_output=True, text=True, timeout=_TIMEOUT, env=environment()
    )


def test_all_is_read_back_as_reported(ended: Ended) -> None:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    found = re.search(
        r"^([\d,]+) states and ([\d,]+) log lines read back as reported\.$", ended.stdout, re.M
    )
    assert found is not None
    states, lines = (int(each.replace(",", "")) for each in found.groups())
    # Three states each for 12 packages, the report and the flow run; two more for each retry.
    assert states >= 3 * 14 + 2
    assert lines > 12


def test_a_task_really_fails_and_is_tried_again(ended: Ended) -> None:
    assert re.search(r"modules-d: SyntaxError: .*3\.10.*dataclasses\.py", ended.stdout)
    assert re.search(r"tasks Completed\s+│\s+13\b", ended.stdout)
    retries = re.search(r"retries\s+│\s+(\d+)", ended.stdout)
    assert retries is not None
    assert int(retries[1]) >= 1


def test_the_end_shows_a_timeline_and_no_control_characters(ended: Ended) -> None:
    assert "worker-1" in ended.stdout
    assert "worker-2" in ended.stdout
    assert "█" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_the_report_is_where_it_is_said_to_be(ended: Ended, folder: Path) -> None:
    assert f"The report: {folder / 'report.txt'}" in ended.stdout
    report = json.loads((folder / "report.json").read_text())
    assert len(report["packages"]) == 12
    assert report["total"]["lines"] == sum(each["counts"]["lines"] for each in report["packages"])


def test_what_it_says_to_try_next_works(ended: Ended) -> None:
    said = ended.stdout.partition("What to try next")[2]
    lines = [shlex.split(line) for line in said.splitlines() if line.startswith("  ")]
    commands = [words for words in lines if words[0] != "#"]
    start, others = commands[0], commands[1:]
    assert start[1:4] == ["server", "start", "--database"]
    assert len(others) == 4
    with ServerProcess(start[4]) as server:
        for words in others:
            shown = interlock(*words[1:], variables={"INTERLOCK_TARGET": server.target})
            assert shown.returncode == 0, shown.stderr
            assert shown.stdout


def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, 1000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A group of its own, which is what a terminal sends Ctrl-C to.
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        # The first change of a state, or the first count: the workers work.
        if " -> " in line or "tasks done" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    # It ends only when the workers, which have these pipes too, are gone.
    _, errors = process.communicate(timeout=_TIMEOUT)
    assert process.returncode == 130
    assert errors == "Stopped. Nothing is left running.\n"
    target = re.search(r"server on ([\d.]+):(\d+)", said)
    assert target is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((target[1], int(target[2])), timeout=10)

    with (
        ServerProcess(sqlite_url(tmp_path / "interlock.db")) as server,
        Client(server.target) as client,
    ):
        [run] = client.list_flow_runs()
        assert run.state.name == "Crashed"
        states = {each.state.name for each in client.list_task_runs()}
        assert "Crashed" in states
        assert states <= {"Completed", "Crashed", "AwaitingRetry"}


def test_a_server_that_does_not_start_is_said(tmp_path: Path) -> None:
    (tmp_path / "interlock.db").write_bytes(b"no database" * 1000)
    ended = subprocess.run(
        command(tmp_path, 1), capture_output=True, text=True, timeout=_TIMEOUT, env=environment()
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "--folder" in ended.stderr


def test_a_folder_that_can_not_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = subprocess.run(
        command(tmp_path / "file" / "in", 1),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        env=environment(),
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "--folder" in ended.stderr


def test_what_a_demo_of_an_older_version_left_is_upgraded(tmp_path: Path) -> None:
    older = interlock(
        *["server", "database", "upgrade", "-y", "--revision", "0001"],
        *["--database", sqlite_url(tmp_path / "interlock.db")],
    )
    assert older.returncode == 0, older.stderr
    ended = subprocess.run(
        command(tmp_path, 1), capture_output=True, text=True, timeout=_TIMEOUT, env=environment()
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
