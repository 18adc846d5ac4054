"""Looking at runs and logs from the terminal, against real servers."""

import json
import re
import signal
import time
from dataclasses import dataclass

import pytest
from interlock import Client
from interlock.channel import DEFAULT_TARGET
from interlock.ids import uuid7
from interlock.log_columns import Line, pack
from interlock.v1.log_pb2 import AppendLogsRequest

from tests.end_to_end.commands import TIMEOUT, interlock, interlock_on_terminal, start_interlock
from tests.support.postgresql import ports
from tests.support.servers import ServerProcess
from tests.support.stubs import connected

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202ekcatta\x9b1A"
"""Sets the terminal's title, clears it, turns text around, moves up."""

HARMLESS = r"\x1b]0;owned\x07\x1b[2J\u202ekcatta\x9b1A"
"""How an operator sees it."""

MANY = 3000


@dataclass(frozen=True)
class Fleet:
    """A server, and what it was told: a run that has failed, one that goes on, and their flow."""

    server: ServerProcess
    flow: str
    ended: str
    running: str
    task: str

    def ask(self, *words: str) -> tuple[str, str]:
        """Run a command that must succeed, and answer its output and what else it said."""
        done = interlock(*words, "--server", self.server.target)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    def ask_in_vain(self, *words: str) -> str:
        """Run a command that must fail, and answer the one line that says why."""
        done = interlock(*words, "--server", self.server.target)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr


def append(target: str, run_id: str, *lines: Line, end: bool = False) -> None:
    """Write lines to a run's log, durably, as a producer of their own."""
    batch = AppendLogsRequest(
        producer_id=uuid7(), number=1, run_id=run_id, records=pack(lines), end_of_run=end
    )
    with connected(target) as stubs:
        answers = list(stubs.logs.AppendLogs(iter([batch])))
    assert answers[-1].acknowledged == 1
    assert not [refused for answer in answers for refused in answer.refused]


@pytest.fixture(scope="module", params=["sqlite_file", "postgresql_18"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    server: ServerProcess = request.getfixturevalue(f"interlock_on_{request.param}")
    name = f"etl-{uuid7()}"
    now = time.time_ns() // 1000
    with Client(server.target) as client:
        flow = client.create_flow(name)
        ended = client.create_flow_run(flow, name=f"night{HOSTILE}", retries=1)
        client.set_flow_run_state(ended.id, "running")
        task = client.create_task_run("load", flow_run=ended.id, name="load-7", retries=1)
        for state in ("running", "failed", "running", "failed"):
            client.set_task_run_state(task.id, state)
        append(
            server.target,
            ended.id,
            Line(now - 3_600_000_000, 10, "etl", "an hour ago"),
            Line(now, 20, "etl", "begins \x1b[32mgreen\x1b[0m" + HOSTILE),
            Line(now + 1, 30, "etl.load", "two\nlines\r\n", task.id),
            Line(now + 2, 40, "etl.load", "failed", task.id),
            end=True,
        )
        client.set_flow_run_state(ended.id, "failed")
        client.set_flow_run_state(ended.id, "running")
        client.set_flow_run_state(ended.id, "failed", message="could not load")
        running = client.create_flow_run(flow, name="day")
        client.set_flow_run_state(running.id, "running")
        lines = [Line(now + number, 20, "many", f"line {number}") for number in range(MANY)]
        append(server.target, running.id, *lines)
    return Fleet(server, name, ended.id, running.id, task.id)


def test_flow_runs_are_listed_the_newest_first_with_their_flow_state_and_times(
    fleet: Fleet,
) -> None:
    heading, newer, older = fleet.ask("flow-run", "ls", "--flow", fleet.flow)[0].splitlines()

    assert heading.split() == ["ID", "FLOW", "NAME", "STATE", "STARTED", "TIME"]
    assert newer.split()[:4] == [fleet.running, fleet.flow, "day", "Running"]
    assert older.split()[:4] == [fleet.ended, fleet.flow, f"night{HARMLESS}", "Failed"]
    assert re.search(r"Failed +(now|\d+[smh] ago) +[\d.]+(µs|ms|s)", older)


def test_flow_runs_are_found_by_type_and_by_name_of_their_state(fleet: Fleet) -> None:
    def listed(*states: str) -> list[str]:
        options = [word for state in states for word in ("--state", state)]
        output, _ = fleet.ask("flow-run", "ls", "--flow", fleet.flow, "--json", *options)
        return [json.loads(line)["id"] for line in output.splitlines()]

    assert listed("failed") == [fleet.ended]
    assert listed("Running") == [fleet.running]
    assert listed("failed", "running") == [fleet.running, fleet.ended]
    assert listed("AwaitingRetry") == []


def test_flow_runs_are_found_by_name_tags_and_time_in_an_order(fleet: Fleet) -> None:
    def listed(*options: str) -> list[str]:
        output, _ = fleet.ask("flow-run", "ls", "--flow", fleet.flow, "--json", *options)
        return [json.loads(line)["id"] for line in output.splitlines()]

    assert listed("--name", "NIGHT") == [fleet.ended]
    assert listed("--tag", "nobody-has-this") == []
    assert listed("--state", "failed", "--state", "Running") == [fleet.running, fleet.ended]
    assert listed("--state", "AwaitingRetry", "--state", "running") == [fleet.running]
    assert listed("--since", "1h", "--order", "name") == [fleet.running, fleet.ended]
    assert listed("--until", "1h") == []
    assert listed("--order", "ended-last") == [fleet.ended, fleet.running]


def test_the_history_of_flow_runs_counts_them_by_time_and_state(fleet: Fleet) -> None:
    words = ("flow-run", "history", "--flow", fleet.flow, "--interval", "1h")
    heading, *rows = fleet.ask(*words, "--since", "2h")[0].splitlines()
    assert heading.split() == ["FROM", "RUNS", "RUNNING", "FAILED", "RUN", "TIME", "LATE"]
    assert len(rows) == 3
    assert sum(int(row[20:].split()[0].replace("-", "0")) for row in rows) == 2
    output, _ = fleet.ask(*words, "--since", "2h", "--state", "failed", "--json")
    counts = [each for line in output.splitlines() for each in json.loads(line).get("counts", [])]
    assert [(each["state_type"], each["count"]) for each in counts] == [("STATE_TYPE_FAILED", "1")]

    asked = (*words, "--since", "2h", "--server", fleet.server.target)
    narrow = re.sub("\x1b\\[[0-9;]*m", "", interlock_on_terminal(*asked, columns=56))
    assert "STATES" in narrow
    words_apart = " ".join(narrow.split())
    assert re.search("1 .*Running", words_apart)
    assert re.search("1 .*Failed", words_apart)
    assert max(map(len, narrow.splitlines())) <= 56

    why = fleet.ask_in_vain("flow-run", "history", "--since", "1d", "--interval", "1s")
    assert "at most 500" in why


def test_flows_are_listed_by_name(fleet: Fleet) -> None:
    heading, row = fleet.ask("flow", "ls", "--name", fleet.flow.upper())[0].splitlines()
    assert heading.split() == ["ID", "NAME", "TAGS", "CREATED"]
    assert row.split()[1] == fleet.flow
    assert fleet.ask("flow", "ls", "--tag", "nobody-has-this")[0] == ""


def test_a_list_that_goes_on_says_so_beside_the_list(fleet: Fleet) -> None:
    output, said = fleet.ask("flow-run", "ls", "--flow", fleet.flow, "--limit", "1")

    assert len(output.splitlines()) == 2
    assert "there are more" in said


def test_task_runs_are_listed_by_flow_run(fleet: Fleet) -> None:
    heading, row = fleet.ask("task-run", "ls", "--flow-run", fleet.ended)[0].splitlines()

    assert heading.split() == ["ID", "TASK", "NAME", "STATE", "RUNS", "STARTED", "TIME"]
    assert row.split()[:5] == [fleet.task, "load", "load-7", "Failed", "2"]
    assert fleet.ask("task-run", "ls", "--flow-run", fleet.running)[0] == ""


def test_inspect_shows_the_run_its_task_runs_and_each_decision_with_its_rule(fleet: Fleet) -> None:
    shown, _ = fleet.ask("flow-run", "inspect", fleet.ended)
    run, history = shown.split("\n\n")

    assert re.search(rf"^id +{fleet.ended}\s*$", run, re.M)
    assert re.search(r"^attempts +2 of 2 at most\s*$", run, re.M)
    assert re.search(r"^message +could not load\s*$", run, re.M)
    assert re.search(r"^task runs +1 Failed\s*$", run, re.M)
    assert re.search(r"^ended +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  \(", run, re.M)
    rows = [line.split("  ") for line in history.splitlines()[1:]]
    decisions = [[word.strip() for word in row if word.strip()] for row in rows]
    assert [row[1:4] for row in decisions[:2]] == [
        ["Pending", "accept", "Pending"],
        ["Running", "accept", "Running"],
    ]
    # The first failure was not written: a rule made a retry of it.
    assert decisions[2][1] == "Failed"
    assert decisions[2][2] == "reject"
    assert decisions[2][3] == "AwaitingRetry"
    assert "retry" in decisions[2][4]
    assert decisions[-1][1:4] == ["Failed", "accept", "Failed"]


def test_inspect_gives_scripts_all_in_one_object(fleet: Fleet) -> None:
    shown = json.loads(fleet.ask("flow-run", "inspect", fleet.ended, "--json")[0])

    assert shown["id"] == fleet.ended
    assert shown["flow"]["name"] == fleet.flow
    assert shown["task_run_counts"] == {"FAILED": 1}
    assert shown["history"][2]["verdict"] == "VERDICT_REJECT"


def test_a_log_reads_time_level_task_run_logger_message(fleet: Fleet) -> None:
    lines = fleet.ask("flow-run", "logs", fleet.ended)[0].split("\n")

    time_ = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    assert re.fullmatch(rf"{time_} DEBUG           \| etl an hour ago", lines[0])
    # Colours are left out where there is no terminal, what else a message may do is made visible.
    assert re.fullmatch(
        rf"{time_} INFO            \| etl begins green{re.escape(HARMLESS)}", lines[1]
    )
    assert re.fullmatch(rf"{time_} WARNING  load-7 \| etl.load two", lines[2])
    assert lines[3] == "    lines"
    assert re.fullmatch(rf"{time_} ERROR    load-7 \| etl.load failed", lines[4])
    assert lines[5:] == [""]


def test_a_terminal_shows_colours_but_obeys_no_message(fleet: Fleet) -> None:
    target = fleet.server.target
    shown = interlock_on_terminal("flow-run", "logs", fleet.ended, "--server", target)

    assert "begins \x1b[32mgreen\x1b[0m" + HARMLESS + "\x1b[0m\n" in shown
    assert "\x1b[33mWARNING" in shown
    # Nothing but colours is left.
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert not re.search("[\x07\x9b\u202e]", shown)

    listed = interlock_on_terminal("flow-run", "ls", "--flow", fleet.flow, "--server", target)
    assert "\x1b[1;31mFailed" in listed
    assert not re.search("[\x07\x9b\u202e]|\x1b\\]|\x1b\\[2J", listed)


def test_a_narrow_terminal_cuts_names_but_never_ids_and_states(fleet: Fleet) -> None:
    words = ["flow-run", "ls", "--flow", fleet.flow, "--server", fleet.server.target]
    shown = re.sub(r"\x1b\[[0-9;]*m", "", interlock_on_terminal(*words, columns=80))
    rows = shown.splitlines()

    assert all(len(row) <= 80 for row in rows)
    assert [row.split()[0] for row in rows[1:]] == [fleet.running, fleet.ended]
    assert "…" in rows[1]
    assert " Failed " in rows[2]


def test_raw_gives_messages_as_they_are(fleet: Fleet) -> None:
    assert HOSTILE in fleet.ask("flow-run", "logs", fleet.ended, "--raw")[0]


def test_a_log_is_narrowed_by_level_time_and_task_run(fleet: Fleet) -> None:
    def messages(*options: str) -> list[str]:
        output, _ = fleet.ask("flow-run", "logs", fleet.ended, "--json", *options)
        return [json.loads(line)["message"].split()[0] for line in output.splitlines()]

    assert messages("--level", "warning") == ["two", "failed"]
    assert messages("--level", "40") == ["failed"]
    assert messages("--since", "10m") == ["begins", "two", "failed"]
    assert messages("--since", "2h") == ["an", "begins", "two", "failed"]
    assert messages("--since", "2999-01-01") == []
    assert messages("--task-run", fleet.task) == ["two", "failed"]


@pytest.mark.parametrize("option", ["--level=loud", "--since=soon", "--since=", "--since=1e9d"])
def test_a_filter_that_makes_no_sense_is_a_usage_error(option: str) -> None:
    done = interlock("flow-run", "logs", uuid7(), option)

    assert done.returncode == 2
    assert "Invalid value" in done.stderr


def test_following_a_drained_log_ends_and_tells_why(fleet: Fleet) -> None:
    output, said = fleet.ask("flow-run", "logs", fleet.ended, "--follow", "--level", "error")

    assert output.endswith("load-7 | etl.load failed\n")
    assert said == f"That is all of {fleet.ended}: it has ended, and has said all.\n"


def test_following_prints_lines_as_they_come_and_bridges_a_restart_of_the_server() -> None:
    with ServerProcess() as server, Client(server.target) as client:
        run = client.create_flow_run(client.create_flow("followed"))
        client.set_flow_run_state(run.id, "running")
        append(server.target, run.id, Line(1, message="before"))
        tail = start_interlock("flow-run", "logs", run.id, "-f", "--server", server.target)
        with tail:
            assert tail.stdout is not None
            assert tail.stdout.readline().endswith(" - before\n")
            server.restart()
            append(server.target, run.id, Line(2, message="after"), end=True)
            assert tail.stdout.readline().endswith(" - after\n")
            client.set_flow_run_state(run.id, "completed")
            rest, said = tail.communicate(timeout=TIMEOUT)
    assert (rest, tail.returncode) == ("", 0)
    assert "it has ended" in said


def test_an_interrupted_follow_ends_quietly_with_130(fleet: Fleet) -> None:
    target = fleet.server.target
    tail = start_interlock("flow-run", "logs", fleet.running, "-f", "--server", target)
    with tail:
        assert tail.stdout is not None
        for _ in range(MANY):
            tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        assert tail.communicate(timeout=TIMEOUT) == ("", "")
    assert tail.returncode == 130


@pytest.mark.parametrize("words", [["logs"], ["logs", "--follow"], ["logs", "--json"]])
def test_a_reader_that_has_enough_ends_the_command_quietly_with_141(
    fleet: Fleet, words: list[str]
) -> None:
    head = start_interlock("flow-run", *words, fleet.running, "--server", fleet.server.target)
    with head:
        assert head.stdout is not None
        assert head.stderr is not None
        head.stdout.readline()
        head.stdout.close()
        said = head.stderr.read()
        head.wait(TIMEOUT)
    assert (said, head.returncode) == ("", 141)


@pytest.mark.parametrize(
    "words",
    [
        ["flow-run", "ls"],
        ["flow-run", "inspect", uuid7()],
        ["flow-run", "logs", uuid7(), "--follow"],
        ["task-run", "ls"],
    ],
)
def test_a_server_that_is_away_is_named_with_what_to_do(words: list[str]) -> None:
    address = f"127.0.0.1:{ports.free()}"
    done = interlock(*words, variables={"INTERLOCK_TARGET": address})

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: No server answers at {address}. Start one with `interlock server start`, or say "
        "where it is with --server HOST:PORT, or for workers, too, with INTERLOCK_TARGET.\n"
    )


def test_what_the_server_refuses_is_said_in_one_line(fleet: Fleet) -> None:
    unknown = uuid7()

    assert "id: 'x' is not a UUID" in fleet.ask_in_vain("flow-run", "inspect", "x")
    assert unknown in fleet.ask_in_vain("flow-run", "inspect", unknown)
    assert unknown in fleet.ask_in_vain("flow-run", "logs", unknown)
    assert unknown in fleet.ask_in_vain("flow-run", "logs", unknown, "--follow")
    assert unknown in fleet.ask_in_vain("task-run", "ls", "--flow-run", unknown)
    assert "no flow nowhere" in fleet.ask_in_vain("flow-run", "ls", "--flow", "nowhere")


def test_version_names_all_that_matters_in_a_bug_report() -> None:
    database = {"INTERLOCK_DATABASE_CONNECTION_URL": "postgresql://me:s3cret@db.example:5432/runs"}
    lines = interlock("version", variables=database).stdout.splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines)

    versions = {"server", "client", "grpc", "protobuf", "sqlalchemy", "sqlite", "python"}
    assert versions | {"platform", "home", "profile"} < set(shown)
    assert shown["database"] == "postgresql+asyncpg://me:***@db.example:5432/runs"


def test_help_loads_nothing_that_takes_time() -> None:
    # Modules are counted, not milliseconds: the machine may be busy.
    done = interlock("--help", variables={"PYTHONPROFILEIMPORTTIME": "1"})

    assert done.returncode == 0
    assert "flow-run" in done.stdout
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    heavy = {"grpc", "google.protobuf", "sqlalchemy", "alembic", "pydantic", "rich.table"}
    assert "click" in loaded
    assert not loaded & heavy


def test_the_default_address_is_the_clients() -> None:
    assert DEFAULT_TARGET in interlock("flow-run", "ls", "--help").stdout
