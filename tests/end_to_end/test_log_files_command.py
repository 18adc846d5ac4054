"""`interlock logs import` and `export`, and what of it `flow-run logs` shows."""

import gzip
import json
import os
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from interlock import Client
from interlock.ids import uuid7
from interlock.log_columns import Line
from interlock.logs import LogWriter

from tests.end_to_end.commands import interlock, interlock_on_terminal
from tests.support.servers import ServerProcess
from tests.support.shared_data import logs_folder


@pytest.fixture(scope="module")
def server(interlock_on_sqlite_file: ServerProcess) -> ServerProcess:
    return interlock_on_sqlite_file


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as client:
        yield client


def ask(server: ServerProcess, *words: str | Path) -> tuple[str, str]:
    done = interlock(*words, variables={"INTERLOCK_TARGET": server.target})
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_file_goes_in_and_comes_out_byte_for_byte(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    data = (
        "2024-01-02 03:04:05,678 ERROR worker.1 \x1b[31mfailed\x1b[0m\n  at line 5\n"
        "NUL \0, CRLF\r\n\n" + "ä" * 400_000 + "\n"
    ).encode() * 2
    plain, text, lines, again = (tmp_path / name for name in ("plain", "text", "jsonl", "again"))
    plain.write_bytes(data)
    run_id = ask(server, "logs", "import", plain, "--flow", "imported", "--utc")[0].strip()
    ask(server, "logs", "export", run_id, "-o", text)
    assert sha256(text.read_bytes()).digest() == sha256(data).digest()
    first, second, *_ = client.list_logs(run_id)
    assert first.time.ToJsonString() == "2024-01-02T03:04:05.678Z"
    assert (second.time, first.level, second.level) == (first.time, 40, 40)
    run = client.get_flow_run(run_id)
    assert (run.name, run.state.name) == ("plain", "Completed")
    # It ends at once: what was imported is drained.
    assert [record.ordinal for record in client.tail_logs(run_id)][:2] == [0, 1]

    ask(server, "logs", "export", run_id, "--format", "jsonl", "-o", lines)
    other = client.create_flow_run(run.flow_id)
    ask(server, "logs", "import", lines, "--run", other.id)
    ask(server, "logs", "export", other.id, "--format", "jsonl", "-o", again)
    assert again.read_bytes() == lines.read_bytes()


def test_real_logs_come_back_as_they_are(server: ServerProcess, tmp_path: Path) -> None:
    for file in sorted(logs_folder().glob("*/*"))[:3]:
        run_id = ask(server, "logs", "import", file, "--flow", "real")[0].strip()
        ask(server, "logs", "export", run_id, "-o", tmp_path / "out")
        assert (
            sha256((tmp_path / "out").read_bytes()).digest() == sha256(file.read_bytes()).digest()
        )


def test_an_export_replaces_no_pipe_no_device_and_no_link(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    run = client.create_flow_run(client.create_flow(uuid7()))
    client.write_logs(run, ["one", "two"])
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    # Open for both, so that neither end waits for the other.
    reader = os.open(pipe, os.O_RDWR)
    try:
        ask(server, "logs", "export", run.id, "-o", pipe)
        assert os.read(reader, 100) == b"one\ntwo\n"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    file.write_text("old")
    link.symlink_to(file)
    ask(server, "logs", "export", run.id, "-o", link)
    assert (link.is_symlink(), file.read_text()) == (True, "one\ntwo\n")
    assert sorted(tmp_path.iterdir()) == [file, link, pipe]


def test_what_can_not_be_imported_is_said_and_leaves_no_run_running(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text('{"time": "2024-01-01T00:00:00Z", "message": "fine"}\n{"time": 5}\n')
    variables = {"INTERLOCK_TARGET": server.target}
    done = interlock("logs", "import", file, "--flow", "broken-file", variables=variables)
    assert done.returncode == 1
    assert "Line 2 is no log record" in done.stderr
    run = next(client.list_flow_runs())
    assert run.state.name == "Failed"
    assert f"What is before it is in the log of {run.id}." in done.stderr
    compressed = tmp_path / "old.log.gz"
    compressed.write_bytes(gzip.compress(b"a line\n"))
    done = interlock("logs", "import", compressed, "--flow", "compressed", variables=variables)
    assert (done.returncode, "zcat" in done.stderr) == (1, True)
    unknown = uuid7()
    done = interlock("logs", "import", file, "--run", unknown, variables=variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert unknown in done.stderr


def test_a_merged_log_names_task_runs_in_a_column(server: ServerProcess, client: Client) -> None:
    run = client.create_flow_run(client.create_flow(uuid7()))
    load = client.create_task_run("load", flow_run=run, name="load")
    check = client.create_task_run("verify", flow_run=run, name="check-all")
    with LogWriter(server.target) as writer:
        for time_us, (task, message, goes_on) in enumerate(
            [("", "begins", False), (load.id, "a", False), (check.id, "b\nc", False)]
        ):
            writer.write(run.id, Line(time_us, 20, "etl.sub", message, task, goes_on))
        for message in ("long ", "word"):
            writer.write(run.id, Line(9, 40, "etl", message, load.id, message == "long "))

    def shown(*options: str) -> list[str]:
        output, _ = ask(server, "flow-run", "logs", run.id, *options)
        return [re.sub(r"^[-\d]+ [\d:.]+ ", "", line) for line in output.splitlines()]

    assert shown() == [
        "INFO               | etl.sub begins",
        "INFO     load      | etl.sub a",
        "INFO     check-all | etl.sub b",
        "    c",
        "ERROR    load      | etl long word",
    ]
    assert shown("--task-run", "load", "--tail", "2") == ["ERROR    load | etl long word"]
    assert shown("--task-run", "verify") == shown("--task-run", "check-all")
    assert shown("--grep", "^C$", "-E", "-i") == ["INFO     check-all | etl.sub b", "    c"]
    assert len(shown("--logger", "etl.sub")) == 4
    own = ask(server, "task-run", "logs", check.id, "--json")[0]
    assert [json.loads(line)["message"] for line in own.splitlines()] == ["b\nc"]
    assert "no such log lines" in ask(server, "flow-run", "logs", run.id, "--grep", "zz")[1]
    empty = client.create_flow_run(run.flow_id)
    assert ask(server, "flow-run", "logs", empty.id)[1] == "The run has no log lines.\n"
    assert ask(server, "flow-run", "logs", run.id, "--tail", "0")[1] == ""

    variables = {"INTERLOCK_TARGET": server.target}
    for words in (("flow-run", "logs"), ("logs", "export"), ("logs", "search", "a", "--run")):
        done = interlock(*words, check.id, variables=variables)
        assert (done.returncode, f"interlock task-run logs {check.id}" in done.stderr) == (1, True)
    backwards = ("--since", "1h", "--until", "2h")
    assert interlock("flow-run", "logs", run.id, *backwards, variables=variables).returncode == 2

    on_terminal = interlock_on_terminal("flow-run", "logs", run.id, "--server", server.target)
    colours = re.findall(r"\x1b\[(\d+)m(load|check-all) +\|", on_terminal)
    assert len({colour for colour, _ in colours}) == 2
