"""`interlock logs deliver`: what a worker left, from the terminal, on every dialect."""

import logging
from pathlib import Path

import pytest
from interlock import Client, InterlockHandler
from interlock.ids import uuid7

from tests.end_to_end.commands import interlock
from tests.support.postgresql import ports
from tests.support.servers import ServerProcess


@pytest.fixture(scope="module", params=["sqlite_file", "postgresql_18"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    server: ServerProcess = request.getfixturevalue(f"interlock_on_{request.param}")
    return server


def left_by_a_worker(folder: Path, run_id: str, count: int) -> Path:
    """A file with records, of a handler whose server was never there."""
    handler = InterlockHandler(f"127.0.0.1:{ports.free()}", run_id=run_id, spill_folder=folder)
    logger = logging.Logger("worker")
    logger.addHandler(handler)
    for number in range(count):
        logger.info("line %d", number)
    handler.close(0.1)
    (file,) = folder.iterdir()
    return file


def test_a_file_is_delivered_once_however_often_the_command_is_run(
    server: ServerProcess, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Client(server.target) as client:
        run = client.create_flow_run(client.create_flow(uuid7()))
        file = left_by_a_worker(tmp_path, run.id, 1000)
        content = file.read_bytes()
        assert f"interlock logs deliver {file}" in capfd.readouterr().err
        words = ("logs", "deliver", file, "--server", server.target)
        first = interlock(*words)
        assert (first.returncode, first.stdout) == (0, "Delivered 1,000 of 1,000 log records.\n")
        assert not file.exists()
        file.write_bytes(content + b"torn")
        second = interlock(*words)
        assert second.returncode == 0, second.stderr
        assert second.stdout == "Delivered 0 of 1,000 log records; 1,000 were there before.\n"
        assert "The last 4 bytes of the file were no whole batch" in second.stderr
        assert not file.exists()
        messages = [record.message for record in client.list_logs(run)]
        assert messages == [f"line {number}" for number in range(1000)]


def test_what_can_not_be_delivered_is_told_and_left(server: ServerProcess, tmp_path: Path) -> None:
    away = f"127.0.0.1:{ports.free()}"
    file = left_by_a_worker(tmp_path, uuid7(), 3)
    nobody = interlock("logs", "deliver", file, "--server", away)
    assert nobody.returncode == 1
    assert f"No server answers at {away}" in nobody.stderr
    assert file.exists()
    refused = interlock("logs", "deliver", file, "--server", server.target)
    assert refused.returncode == 1
    assert "0 of 3 log records; 3 were refused" in refused.stdout
    assert "RUN_NOT_FOUND" in refused.stderr
    other = tmp_path / "other"
    other.write_text("a plain log\n")
    strange = interlock("logs", "deliver", other, "--server", server.target)
    assert strange.returncode == 1
    assert strange.stderr == f"Error: {other} is no file of log records.\n"
