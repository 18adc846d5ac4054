"""`interlock replay`, as a user types it, against real servers: real runs, real signals.

The command checks its own work; here some of that is asked of the server once more, by other means.
"""

import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from interlock import Client, states
from interlock.v1.flow_run_pb2 import FlowRun, FlowRunFilter
from interlock.v1.state_pb2 import STATE_TYPE_COMPLETED, STATE_TYPE_RUNNING, StateType
from interlock.v1.task_run_pb2 import TaskRun, TaskRunFilter
from interlock_server.replay import Trace, load

from tests.end_to_end.commands import TIMEOUT, interlock, interlock_on_terminal, start_interlock
from tests.support.postgresql import Postgresql
from tests.support.servers import ServerProcess
from tests.support.shared_data import workflows_folder

ALL = (
    "wfinstances/fetchngs-dirt02-001.json",
    "wfinstances/rnaseq-dirt02-001.json",
    "wfinstances/soykb-chameleon-30fastq-20ch-001.json",
    "wfinstances/1000genome-chameleon-22ch-250k-001.json",
    "wfinstances/montage-chameleon-2mass-05d-001.json",
    "pegasus/montage-1.0.bp",
    "pegasus/process_wf_failure/jobstate.log",
    "pegasus/hierarchical_wf_success/jobstate.log",
    "nextflow-trace/execution_trace.txt",
)
MONTAGE, PROCESS, SOYKB = ALL[5], ALL[6], ALL[2]

DIALECTS = pytest.mark.parametrize("dialect", ["sqlite_file", "postgresql_18"])


class Replay:
    """The command, while it runs."""

    def __init__(self, trace: Path, server: ServerProcess, *options: str) -> None:
        self.name = f"{trace.name} of {time.time_ns()}"
        options = ("--server", server.target, "--name", self.name, "--json", *options)
        self._process = start_interlock("replay", trace, *options)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_until_it_plays(self) -> None:
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            said += line
            if line.startswith("playing:"):
                return
        pytest.fail(f"It does not play:\n{said}")

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def kill_a_worker_process(self) -> None:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; answer the exit code and what it said."""
        out, err = self._process.communicate(timeout=TIMEOUT)
        return self._process.returncode, out, err

    def outcome(self) -> dict[str, Any]:
        """Wait for a good end; answer the summary."""
        code, out, err = self.end()
        assert code == 0, out + err
        summary: dict[str, Any] = json.loads(out)
        assert summary["agrees"]
        return summary


Play = Callable[..., Replay]


@pytest.fixture(scope="module")
def workflows() -> Path:
    return workflows_folder()


@pytest.fixture
def server(request: pytest.FixtureRequest, dialect: str) -> ServerProcess:
    shared: ServerProcess = request.getfixturevalue(f"interlock_on_{dialect}")
    return shared


@contextmanager
def own_server(request: pytest.FixtureRequest, dialect: str) -> Iterator[ServerProcess]:
    """A server that a test may kill."""
    if dialect == "sqlite_file":
        with ServerProcess() as server:
            yield server
        return
    postgresql: Postgresql = request.getfixturevalue(dialect)
    with postgresql.database() as url, ServerProcess(url) as server:
        yield server


def runs_of(client: Client, flow_run_id: str) -> dict[str, TaskRun]:
    """The replay's task runs by the ids of the trace's tasks."""
    wanted = TaskRunFilter(flow_run_ids=[flow_run_id])
    return {run.dynamic_key: run for run in client.list_task_runs(wanted, page_size=1000)}


def flow_run_named(client: Client, name: str) -> FlowRun:
    (found,) = client.list_flow_runs(FlowRunFilter(names=[name]))
    return found


def seconds(run: TaskRun | FlowRun, field: str) -> float:
    micros: int = getattr(run, field).ToMicroseconds()
    return micros / 1e6


def assert_parents_ended_first(trace: Trace, runs: dict[str, TaskRun]) -> None:
    for task in trace.tasks:
        for parent in task.parents if task.attempts else ():
            if runs[parent].HasField("end_time"):
                assert seconds(runs[parent], "end_time") <= seconds(runs[task.id], "start_time")


@DIALECTS
@pytest.mark.parametrize("file", ALL)
def test_every_recorded_run_is_replayed_exactly(
    workflows: Path, server: ServerProcess, file: str
) -> None:
    trace = load(workflows / file)
    with closing(Replay(workflows / file, server)) as replay:
        summary = replay.outcome()
    tasks, edges, attempts = len(trace.tasks), trace.edge_count, trace.attempt_count
    assert (summary["tasks"], summary["edges"], summary["attempts"]) == (tasks, edges, attempts)
    assert summary["play_seconds"] < 15

    with Client(server.target) as client:
        runs = runs_of(client, summary["flow_run_id"])
        flow_run = client.get_flow_run(summary["flow_run_id"])
        lines = sum(1 for _ in client.list_logs(flow_run, page_size=1000))
    expected = Counter(
        "SCHEDULED" if task.outcome is None else task.outcome.state and task.outcome.state[0]
        for task in trace.tasks
    )
    assert Counter(StateType.Name(run.state.type)[11:] for run in runs.values()) == expected
    assert [runs[task.id].run_count for task in trace.tasks] == [
        len(task.attempts) for task in trace.tasks
    ]
    all_well = set(expected) == {"COMPLETED"}
    assert flow_run.state.name == ("Completed" if all_well else "Failed")
    assert flow_run.name == replay.name
    assert_parents_ended_first(trace, runs)
    assert lines >= sum(len(a.logs) or 2 for task in trace.tasks for a in task.attempts)


NEXTFLOW = """\
task_id|name|status|attempt|exit|submit|duration|realtime
1|done before|CACHED|1|0|1000|1000|900
2|third time lucky|FAILED|1|1|1000|1000|900
3|third time lucky|FAILED|2|1|3000|1000|900
4|third time lucky|COMPLETED|3|0|4000|1000|900
5|stopped|ABORTED|1|-|1000|3000|2000
6|running at the end|RUNNING|1|-|1000|-|-
"""
JOBSTATE = """\
0 INTERNAL *** DAGMAN_STARTED 1.0 ***
1 moved SUBMIT 9.0 local - 1
2 moved EXECUTE 9.0 local - 1
4 moved JOB_EVICTED 9.0 local - 1
5 moved EXECUTE 9.0 local - 1
7 moved JOB_TERMINATED 9.0 local - 1
7 moved JOB_SUCCESS 0 local - 1
3 refused SUBMIT_FAILED 9.0 local - 2
9 INTERNAL *** DAGMAN_FINISHED 0 ***
"""


@DIALECTS
@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        (
            "trace.txt",
            NEXTFLOW.replace("|", "\t"),
            {
                "1": "Scheduled Pending Cached",
                "2": "Scheduled Pending Running AwaitingRetry Retrying AwaitingRetry Retrying "
                "Completed",
                "5": "Scheduled Pending Running Cancelled",
                "6": "Scheduled Pending",
            },
        ),
        (
            "jobstate.log",
            JOBSTATE,
            {
                "moved": "Scheduled Pending Running Crashed Pending Running Completed",
                "refused": "Scheduled Pending Crashed",
            },
        ),
    ],
)
def test_each_way_to_end_becomes_its_states(
    server: ServerProcess, tmp_path: Path, file: str, content: str, expected: dict[str, str]
) -> None:
    trace = tmp_path / file
    trace.write_text(content)
    with closing(Replay(trace, server, "--time-scale", "0.1")) as replay:
        summary = replay.outcome()
    assert summary["end"]["type"] == "FAILED"
    with Client(server.target) as client:
        found = {
            key: " ".join(each.state.name for each in client.list_task_run_states(run))
            for key, run in runs_of(client, summary["flow_run_id"]).items()
        }
    assert found == expected


@DIALECTS
def test_recorded_times_are_kept_scaled_by_several_processes(
    workflows: Path, server: ServerProcess
) -> None:
    scale = 0.002
    trace = load(workflows / MONTAGE)
    options = ("--time-scale", str(scale), "--processes", "2", "--workers", "40")
    with closing(Replay(workflows / MONTAGE, server, *options)) as replay:
        summary = replay.outcome()
    with Client(server.target) as client:
        flow_run = client.get_flow_run(summary["flow_run_id"])
        runs = runs_of(client, flow_run.id)
        proposers = {
            transition.proposed_by
            for run in runs.values()
            for transition in client.list_task_run_states(run)
            if transition.proposed_type == STATE_TYPE_RUNNING
        }
    began = seconds(flow_run, "start_time")
    for task in trace.tasks:
        (attempt,), run = task.attempts, runs[task.id]
        assert attempt.started is not None
        start = seconds(run, "start_time")
        assert start - began >= attempt.started * scale - 0.001
        assert seconds(run, "end_time") - start >= attempt.duration * scale - 0.001
    assert proposers == {"worker-1", "worker-2"}


@DIALECTS
def test_a_replay_goes_on_by_itself_when_the_server_is_killed_and_restarted(
    workflows: Path, request: pytest.FixtureRequest, dialect: str
) -> None:
    with own_server(request, dialect) as server:
        options = ("--time-scale", "0.0001", "--processes", "2")
        with closing(Replay(workflows / SOYKB, server, *options)) as replay:
            replay.wait_until_it_plays()
            with Client(server.target) as client:
                flow_run = flow_run_named(client, replay.name)
                completed = TaskRunFilter(
                    flow_run_ids=[flow_run.id], state_types=[STATE_TYPE_COMPLETED]
                )
                while client.count_task_runs(completed) < 100:
                    time.sleep(0.01)
                server.kill()
            server.start()
            with Client(server.target) as client:
                assert 100 <= client.count_task_runs(completed) < 416
            summary = replay.outcome()
    assert summary["end"]["type"] == "COMPLETED"


def test_a_difference_ends_it_with_1_and_is_told(
    workflows: Path, interlock_on_sqlite_file: ServerProcess
) -> None:
    server, meddled = interlock_on_sqlite_file, "register_local_0_0"
    with closing(Replay(workflows / PROCESS, server, "--time-scale", "0.01")) as replay:
        replay.wait_until_it_plays()
        with Client(server.target) as client:
            runs = runs_of(client, flow_run_named(client, replay.name).id)
            client.set_task_run_state(runs[meddled], states.crashed())
        code, out, err = replay.end()
    summary = json.loads(out)
    assert (code, summary["agrees"]) == (1, False), out + err
    differing = {check["what"]: check["differences"] for check in summary["checks"]}
    assert differing["exact sequences of states"] == [
        f"task {meddled}: expected Scheduled, found Scheduled -> Crashed"
    ]


def test_an_interrupted_replay_cancels_its_flow_run(
    workflows: Path, interlock_on_sqlite_file: ServerProcess
) -> None:
    server = interlock_on_sqlite_file
    options = ("--time-scale", "1", "--processes", "2")
    with closing(Replay(workflows / PROCESS, server, *options)) as replay:
        replay.wait_until_it_plays()
        replay.interrupt()
        code, _, err = replay.end()
    assert code == 130, err
    with Client(server.target) as client:
        run = flow_run_named(client, replay.name)
    assert (run.state.name, run.state.message) == ("Cancelled", "the replay was interrupted")


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the worker processes")
def test_a_worker_process_that_dies_ends_the_replay(
    workflows: Path, interlock_on_sqlite_file: ServerProcess
) -> None:
    server = interlock_on_sqlite_file
    options = ("--time-scale", "0.1", "--processes", "2")
    with closing(Replay(workflows / PROCESS, server, *options)) as replay:
        replay.wait_until_it_plays()
        replay.kill_a_worker_process()
        code, out, err = replay.end()
    assert (code, out) == (1, "")
    assert "Error: worker-1 has ended before its work" in err
    with Client(server.target) as client:
        assert flow_run_named(client, replay.name).state.name == "Crashed"


def test_without_logs_there_are_none(
    workflows: Path, interlock_on_sqlite_file: ServerProcess
) -> None:
    server = interlock_on_sqlite_file
    with closing(Replay(workflows / PROCESS, server, "--no-logs")) as replay:
        summary = replay.outcome()
    with Client(server.target) as client:
        assert list(client.list_logs(summary["flow_run_id"])) == []


def test_on_a_terminal_there_is_a_progress_display_and_a_table(
    workflows: Path, interlock_on_sqlite_file: ServerProcess
) -> None:
    shown = interlock_on_terminal(
        *("replay", workflows / PROCESS, "--server", interlock_on_sqlite_file.target)
    )
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "2/2 0 running" in plain
    assert "agrees" in plain


def test_in_a_pipe_there_are_plain_lines_and_a_table(
    workflows: Path, interlock_on_sqlite_file: ServerProcess
) -> None:
    server = interlock_on_sqlite_file
    ended = interlock("replay", workflows / PROCESS, "--server", server.target)
    assert ended.returncode == 0
    assert ended.stderr.splitlines()[-1] == "done: 2 of 2 tasks ended, 0 running"
    rows = [re.split("  +", line.strip()) for line in ended.stdout.splitlines()]
    assert ["exact sequences of states", "5", "5", "agrees"] in rows
    assert ["task runs that ran twice", "1", "1", "agrees"] in rows
    assert "FAILED, of 5 tasks 1 failed, 3 never ran." in ended.stdout
    assert "\x1b" not in ended.stdout


def test_what_is_no_trace_is_refused_in_one_line(
    tmp_path: Path, interlock_on_sqlite_file: ServerProcess
) -> None:
    (tmp_path / "notes.md").write_text("nothing recorded\n")
    with closing(Replay(tmp_path / "notes.md", interlock_on_sqlite_file)) as replay:
        code, out, err = replay.end()
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert "none of the known formats" in err
    assert err.count("\n") == 1
