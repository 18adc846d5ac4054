"""The spill: what is logged while the server is away comes from a file, in order and once."""

from __future__ import annotations

import logging
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from interlock import InterlockHandler, v1
from interlock.ids import uuid7
from interlock.logs import LogsNotDelivered, SpillFileError, SpillFileInUse, deliver
from interlock.logs.spill_file import SpillFile, to_frame

from tests.clients.fake_server import FakeServer
from tests.clients.test_logs import RUN, wait_until

Capture = pytest.CaptureFixture[str]
Make = Callable[..., tuple[logging.Logger, InterlockHandler]]
OTHER = RUN[:-1] + "2"


@pytest.fixture
def make(
    server: FakeServer,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Make]:
    # On a busy machine the spiller may have to wait for its turn.
    monkeypatch.setattr("interlock.logs.outbox._PATIENCE", 20.0)
    handlers: list[InterlockHandler] = []
    logger = logging.getLogger(f"spill.{request.node.name}")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False

    def make_one(**options: object) -> tuple[logging.Logger, InterlockHandler]:
        usual = {"run_id": RUN, "spill_folder": tmp_path, "max_queue_records": 100}
        handler = InterlockHandler(
            server.target,
            **{**usual, "batch_interval": 0.01, **options},  # type: ignore[arg-type]
        )
        handlers.append(handler)
        logger.addHandler(handler)
        return logger, handler

    yield make_one
    server.acknowledging.set()
    for handler in handlers:
        logger.removeHandler(handler)
        handler.close(1.0)


def spill_file(folder: Path) -> Path:
    (file,) = folder.glob("*.spill")
    return file


def take_away(server: FakeServer, handler: InterlockHandler) -> None:
    """Stop the server, and return when the handler, which has a stream, has seen it."""
    server.stop()
    wait_until(lambda: handler._shipper.trouble)


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"line {number}" for number in range(start, start + count)]


def log(logger: logging.Logger, count: int, start: int = 0) -> None:
    for line in numbered(count, start):
        logger.info(line)


def test_what_finds_no_room_in_memory_is_kept_in_a_file_and_delivered_in_order(
    server: FakeServer, make: Make, tmp_path: Path, capfd: Capture
) -> None:
    logger, handler = make()
    log(logger, 10)
    assert handler.flush(10)
    take_away(server, handler)
    log(logger, 5_000, start=10)
    file = spill_file(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"-{os.getpid()}-" in file.name
    assert handler.statistics.waiting == 5_000
    server.start()
    log(logger, 90, start=5_010)
    assert handler.flush(30)
    assert server.lines(RUN) == numbered(5_100)
    assert len(server.producers) == 1
    assert not file.exists()
    counts = handler.statistics
    assert (counts.dropped, counts.delivered, counts.waiting) == (0, 5_100, 0)
    assert counts.spilled > 4_000
    said = capfd.readouterr().err
    assert said.count("the service can not be reached: log records are kept in") == 1
    assert said.count(f"the service has all log records that were kept in {file}") == 1


def test_a_server_that_is_too_slow_is_spilled_before_and_streams_may_break(
    server: FakeServer, make: Make, tmp_path: Path, capfd: Capture
) -> None:
    server.limits.log_window_bytes = 10_000
    server.limits.max_log_batch_records = 50
    server.acknowledging.clear()
    logger, handler = make()
    log(logger, 1)
    wait_until(lambda: server.lines(RUN))
    log(logger, 4_000, start=1)
    assert spill_file(tmp_path).exists()
    server.drop_batches = 5
    server.acknowledging.set()
    log(logger, 1_000, start=4_001)
    assert handler.flush(60)
    assert server.drop_batches == 0
    assert server.lines(RUN) == numbered(5_001)
    assert handler.statistics.dropped == 0
    assert not list(tmp_path.iterdir())
    assert "takes log records too slowly: they are kept in" in capfd.readouterr().err


def test_outages_follow_one_another(server: FakeServer, make: Make, tmp_path: Path) -> None:
    logger, handler = make()
    log(logger, 1, start=-1)
    assert handler.flush(30)
    for outage in range(3):
        take_away(server, handler)
        log(logger, 500, start=500 * outage)
        assert spill_file(tmp_path).exists()
        server.start()
        assert handler.flush(30)
        assert not list(tmp_path.iterdir())
    assert server.lines(RUN) == numbered(1501, start=-1)
    assert len(server.producers) == 1


def test_ends_of_runs_keep_their_place(server: FakeServer, make: Make) -> None:
    server.stop()
    logger, handler = make()
    log(logger, 200)
    handler.end_run(RUN)
    for number in range(200):
        logger.info("other %d", number, extra={"flow_run_id": OTHER})
    handler.end_run(OTHER)
    server.start()
    assert handler.flush(30)
    assert server.lines(RUN) == numbered(200)
    assert len(server.lines(OTHER)) == 200
    assert [len(server.ended[run_id]) for run_id in (RUN, OTHER)] == [1, 1]


def test_beyond_its_bound_records_are_dropped_and_counted(
    server: FakeServer, make: Make, tmp_path: Path, capfd: Capture
) -> None:
    server.stop()
    logger, handler = make(max_spill_bytes=50_000, max_queue_records=50)
    log(logger, 20_000)
    assert spill_file(tmp_path).stat().st_size <= 50_000
    dropped = handler.statistics.dropped
    assert dropped
    server.start()
    assert handler.flush(30)
    kept = [record.message for record in server.logs[RUN] if record.logger == logger.name]
    assert len(kept) == 20_000 - dropped
    assert sorted(kept, key=lambda line: int(line.split()[1])) == kept
    words = [record.message for record in server.logs[RUN] if record.logger == "interlock.logs"]
    assert sum(int(each.split()[0].replace(",", "")) for each in words) == dropped
    assert "full, records are dropped" in capfd.readouterr().err
    # Once all is delivered there is room again.
    take_away(server, handler)
    log(logger, 100)
    assert spill_file(tmp_path).exists()
    server.start()
    assert handler.flush(30)
    assert server.lines(RUN)[-100:] == numbered(100)


@pytest.mark.parametrize("trouble", ["missing", "full"])
def test_a_disk_that_takes_nothing_is_said_once_and_records_stay_in_memory(
    server: FakeServer,
    make: Make,
    tmp_path: Path,
    capfd: Capture,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    server.stop()
    if trouble == "full":
        real = os.write

        def write(descriptor: int, data: bytes) -> int:
            if os.fstat(descriptor).st_size > 20_000:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[:7_000])

        monkeypatch.setattr(os, "write", write)
        logger, handler = make()
    else:
        logger, handler = make(spill_folder=tmp_path / "none")
    log(logger, 3_000)
    dropped = handler.statistics.dropped
    assert dropped
    said = capfd.readouterr().err
    assert said.count("log records can not be kept in a file, they stay in memory") == 1
    server.start()
    assert handler.flush(30)
    kept = [record.message for record in server.logs[RUN] if record.logger == logger.name]
    assert len(kept) == 3_000 - dropped
    assert sorted(kept, key=lambda line: int(line.split()[1])) == kept
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_damaged_under_way_costs_no_more_than_itself(
    server: FakeServer, make: Make, tmp_path: Path, capfd: Capture
) -> None:
    server.stop()
    logger, handler = make()
    log(logger, 1_000)
    file = spill_file(tmp_path)
    wait_until(lambda: handler.statistics.spilled > 900)
    os.truncate(file, file.stat().st_size // 2)
    server.start()
    assert handler.flush(30)
    log(logger, 10, start=1_000)
    assert handler.flush(30)
    lines = server.lines(RUN)
    assert lines[-10:] == numbered(10, start=1_000)
    assert len(lines) == len(set(lines))
    counts = handler.statistics
    assert counts.refused > 0
    assert counts.delivered + counts.refused == 1_010
    assert "can not be read back from" in capfd.readouterr().err


def test_a_service_that_knows_more_than_was_sent_gets_a_new_producer(
    server: FakeServer, make: Make, tmp_path: Path
) -> None:
    logger, handler = make()
    log(logger, 10)
    assert handler.flush(10)
    take_away(server, handler)
    log(logger, 1_000, start=10)
    (producer,) = server.producers
    server.producers[producer] = 10_000
    server.start()
    assert handler.flush(30)
    assert server.lines(RUN) == numbered(1_010)
    assert len(server.producers) == 2
    assert not list(tmp_path.iterdir())


# The end of a process, and what comes after it


def run_worker(
    server: FakeServer, folder: Path, script: str, queue: int = 1200, **options: str
) -> subprocess.CompletedProcess[str]:
    asked = ", ".join(f"{name}={value}" for name, value in options.items())
    head = f"""
        import logging, os, signal, time
        from interlock import InterlockHandler
        handler = InterlockHandler(
            run_id="{RUN}", max_queue_records={queue}, spill_folder={str(folder)!r},
            close_timeout=0.3, batch_interval=0.01, {asked}
        )
        logging.basicConfig(level="INFO", handlers=[handler])
        """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script)],
        env={**os.environ, "INTERLOCK_TARGET": server.target},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("count", [1000, 20], ids=["spilled", "only in memory"])
def test_what_is_left_at_exit_is_named_and_delivered_by_another_process_once(
    server: FakeServer, tmp_path: Path, count: int
) -> None:
    server.stop()
    worker = run_worker(
        server, tmp_path, f"for number in range({count}): logging.info('line %d', number)"
    )
    assert worker.returncode == 0
    file = spill_file(tmp_path)
    assert f"{count:,} log records could not be delivered to {server.target}" in worker.stderr
    assert f"{count:,} of them are kept" in worker.stderr
    assert f"interlock logs deliver {file}" in worker.stderr
    assert "lost" not in worker.stderr
    copy = file.read_bytes()
    server.start()
    delivery = deliver(file, server.target, timeout=30)
    assert (delivery.records, delivery.delivered, delivery.known) == (count, count, 0)
    assert server.lines(RUN) == numbered(count)
    assert not file.exists()
    # As if it had been killed before it could delete the file.
    file.write_bytes(copy)
    delivery = deliver(file, server.target, timeout=30)
    assert (delivery.records, delivery.delivered, delivery.known) == (count, 0, count)
    assert server.lines(RUN) == numbered(count)
    assert not file.exists()


def test_without_a_file_it_is_said_how_many_are_lost(server: FakeServer, tmp_path: Path) -> None:
    server.stop()
    worker = run_worker(server, tmp_path, "logging.info('gone')", max_spill_bytes="0")
    assert "1 log records could not be delivered" in worker.stderr
    assert "1 of them are lost" in worker.stderr
    assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_what_was_acknowledged_and_what_was_not(
    server: FakeServer, tmp_path: Path
) -> None:
    server.limits.log_window_bytes = 10_000
    server.limits.max_log_batch_records = 50
    server.drop_batches = 1_000_000  # stored, never acknowledged: the worker can not know
    script = """
        for number in range(2_000):
            logging.info("line %d", number)
        while handler.statistics.spilled < 1_000:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    assert run_worker(server, tmp_path, script, queue=1_800).returncode == -signal.SIGKILL
    server.drop_batches = 0
    file = spill_file(tmp_path)
    stored = len(server.lines(RUN))
    with file.open("ab") as torn:
        torn.write(file.read_bytes()[40:100])
    delivery = deliver(file, server.target, timeout=30)
    assert delivery.torn_bytes == 60
    assert delivery.known + delivery.delivered == delivery.records
    assert delivery.known <= stored
    lines = server.lines(RUN)
    assert lines == numbered(len(lines))
    assert len(lines) > 1_000
    assert len(server.producers) == 1


def test_a_file_whose_process_lives_is_refused(
    server: FakeServer, make: Make, tmp_path: Path
) -> None:
    server.stop()
    logger, _handler = make()
    log(logger, 500)
    with pytest.raises(SpillFileInUse, match="is in use"):
        deliver(spill_file(tmp_path), server.target)


def test_delivering_breaks_off_and_goes_on(server: FakeServer, tmp_path: Path) -> None:
    file = left_file(tmp_path, 40)
    server.acknowledging.clear()
    server.limits.log_window_bytes = 100
    with pytest.raises(LogsNotDelivered, match="could not be delivered"):
        deliver(file, server.target, timeout=1)
    server.acknowledging.set()
    server.drop_batches = 2
    delivery = deliver(file, server.target, timeout=30)
    assert delivery.records == 40
    assert delivery.known + delivery.delivered == 40
    assert server.lines(RUN) == numbered(40)
    assert not file.exists()


def test_what_is_refused_from_a_file_is_told(server: FakeServer, tmp_path: Path) -> None:
    server.refuse.add(RUN)
    refused = []
    delivery = deliver(
        left_file(tmp_path, 3), server.target, on_refused=lambda _, n: refused.append(n)
    )
    assert (delivery.delivered, delivery.refused, refused) == (0, 3, [1, 1, 1])


def test_other_files_are_refused(server: FakeServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for content in (b"", b"hello", b"x" * 1000):
        other.write_bytes(content)
        with pytest.raises(SpillFileError, match="is no file of log records"):
            deliver(other, server.target)
        assert other.read_bytes() == content
    damaged = left_file(tmp_path, 1)
    damaged.write_bytes(damaged.read_bytes().replace(b"ILKLOGS1", b"ILKLOGS1\1", 1))
    with pytest.raises(SpillFileError, match="header can not be read"):
        deliver(damaged, server.target)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_a_file_of_its_own(server: FakeServer, tmp_path: Path) -> None:
    server.stop()
    script = """
        for number in range(200):
            logging.info("parent %d", number)
        if (child := os.fork()) == 0:
            for number in range(200):
                logging.info("child %d", number)
            handler.close(0.1)
            os._exit(0)
        os.waitpid(child, 0)
        """
    worker = run_worker(server, tmp_path, script, queue=220)
    assert worker.returncode == 0, worker.stderr
    files = list(tmp_path.glob("*.spill"))
    assert len(files) == len({re.split("-", file.name)[2] for file in files}) == 2
    server.start()
    for file in files:
        assert deliver(file, server.target, timeout=30).delivered == 200
    lines = server.lines(RUN)
    assert [line for line in lines if "parent" in line] == [f"parent {n}" for n in range(200)]
    assert [line for line in lines if "child" in line] == [f"child {n}" for n in range(200)]


def left_file(folder: Path, batches: int) -> Path:
    """A file with a record in each batch."""
    file = SpillFile.create(str(folder), uuid7(), 0)
    for number, message in enumerate(numbered(batches), 1):
        request = v1.AppendLogsRequest(run_id=RUN, records=v1.LogColumns(messages=[message]))
        request.records.base_time.GetCurrentTime()
        file.append([to_frame(request, number, 1)])
    file.close()
    return Path(file.path)


def test_a_disk_that_hangs_holds_nobody_up_for_long(
    server: FakeServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop()
    hanging = threading.Event()
    real = SpillFile.append

    def append(file: SpillFile, frames: list[bytes]) -> None:
        hanging.wait(30)
        real(file, frames)

    monkeypatch.setattr(SpillFile, "append", append)
    monkeypatch.setattr("interlock.logs.outbox._PATIENCE", 0.1)
    logger, handler = make()
    began = time.monotonic()
    log(logger, 2_000)
    taken = time.monotonic() - began
    hanging.set()
    assert handler.statistics.dropped
    assert taken < 2, "only the first one waits"
    server.start()
    assert handler.flush(30)


def test_the_file_is_sent_while_many_records_come(
    server: FakeServer, make: Make, tmp_path: Path
) -> None:
    server.stop()
    logger, handler = make()
    log(logger, 200)
    assert spill_file(tmp_path).exists()
    server.start()
    stop, logged = threading.Event(), 200

    def work() -> None:
        nonlocal logged
        while not stop.is_set():
            log(logger, 100, start=logged)
            logged += 100

    worker = threading.Thread(target=work)
    worker.start()
    try:
        wait_until(lambda: len(server.lines(RUN)) > 1_000, 30)
    finally:
        stop.set()
        worker.join()
    assert handler.flush(60)
    assert server.lines(RUN) == numbered(logged)
