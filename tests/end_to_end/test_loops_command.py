"""`interlock server loops`, with a server that runs and without one."""

import json
from pathlib import Path

from tests.end_to_end.commands import interlock
from tests.support.runs import until
from tests.support.servers import ServerProcess

NAMES = {
    "dead flow runs",
    "dead task runs",
    "late runs",
    "pauses",
    "cancelling",
    "parts of cancelled runs",
    "small log chunks",
}


def test_the_loops_of_a_server_are_shown() -> None:
    with ServerProcess(environment={"INTERLOCK_LOOPS_PERIOD": "0.5"}) as server:
        words = ("server", "loops", "--admin-socket", server.admin_socket)
        until(lambda: '"loops_run_here"' in server.log)
        shown = interlock(*words)
        assert shown.returncode == 0, shown.stderr
        head, *lines = shown.stdout.splitlines()
        assert head.split() == ["LOOP", "PERIOD", "LOOKED", "FOUND", "DONE", "ERROR"]
        assert {line.partition("  ")[0] for line in lines} == NAMES
        loops = [json.loads(line) for line in interlock(*words, "--json").stdout.splitlines()]
        assert {loop["name"] for loop in loops} == NAMES
        assert {loop["period"] for loop in loops} == {"0.500s"}
        assert all("look_time" in loop for loop in loops)


def test_a_server_that_keeps_logs_for_a_time_shows_the_loop_for_it() -> None:
    with ServerProcess(environment={"INTERLOCK_LOG_RETENTION": "30d"}) as server:
        shown = interlock("server", "loops", "--admin-socket", server.admin_socket)
        assert "old logs" in shown.stdout, shown.stderr


def test_loops_that_are_off_rest() -> None:
    with ServerProcess(environment={"INTERLOCK_LOOPS": "false"}) as server:
        shown = interlock("server", "loops", "--admin-socket", server.admin_socket)
        assert shown.returncode == 0
        assert "INTERLOCK_LOOPS is off" in shown.stderr


def test_without_a_server_there_are_none(tmp_path: Path) -> None:
    missing = interlock("server", "loops", "--admin-socket", tmp_path / "admin.sock")
    assert missing.returncode == 1
    assert "loops run in a server" in missing.stderr
