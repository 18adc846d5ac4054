"""The blocking writer: it waits rather than drops, and says what it could not deliver."""

from __future__ import annotations

import threading
import time

import grpc
import pytest
from interlock import PermissionDenied, v1
from interlock.logs import Line, LogsNotDelivered, LogWriter

from tests.clients.fake_server import FakeServer, status

RUN = "018f0000-0000-7000-8000-000000000001"
OTHER = "018f0000-0000-7000-8000-000000000002"
NOW = 1_700_000_000_000_000


def line(message: str) -> Line:
    return Line(NOW, 20, "job", message)


def test_many_runs_share_a_stream_and_keep_their_order(server: FakeServer) -> None:
    with LogWriter(server.target) as writer:
        for number in range(1000):
            writer.write((RUN, OTHER)[number % 2], line(str(number)))
        writer.end_run(RUN)
        writer.end_run("018f0000-0000-7000-8000-000000000003")  # nothing was written to it
    assert server.lines(RUN) == [str(number) for number in range(0, 1000, 2)]
    assert server.lines(OTHER) == [str(number) for number in range(1, 1000, 2)]
    assert server.streams == 1
    assert {run_id: len(ends) for run_id, ends in server.ended.items()} == {RUN: 1}
    counts = writer.statistics
    assert (counts.accepted, counts.delivered, counts.waiting) == (1000, 1000, 0)


def test_what_is_no_run_or_no_line_is_refused_at_once_and_the_others_go_on(
    server: FakeServer,
) -> None:
    with LogWriter(server.target) as writer:
        writer.write(v1.FlowRun(id=RUN), line("a run in place of its id"))
        with pytest.raises(TypeError, match="neither an id"):
            writer.write(None, line("nowhere"))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="write a Line"):
            writer.write(RUN, "a text")  # type: ignore[arg-type]
        writer.end_run(v1.FlowRun(id=RUN))
    assert server.lines(RUN) == ["a run in place of its id"]
    assert len(server.ended[RUN]) == 1


def test_a_full_queue_makes_those_who_write_wait(server: FakeServer) -> None:
    server.acknowledging.clear()
    server.limits.log_window_bytes = 10_000
    server.limits.max_log_batch_records = 50
    written = threading.Event()

    def work(writer: LogWriter) -> None:
        for number in range(2000):
            writer.write(RUN, line(str(number)))
        written.set()

    with LogWriter(server.target, max_queue_records=100, batch_interval=0.01) as writer:
        worker = threading.Thread(target=work, args=(writer,))
        worker.start()
        with pytest.raises(TimeoutError, match="took no log record in"):  # noqa: PT012
            while True:
                writer.write(OTHER, line("more"), timeout=0.1)
        assert not written.is_set()
        taken = writer.statistics.accepted
        server.acknowledging.set()
        worker.join(30)
    assert written.is_set()
    assert taken < 2000
    assert server.lines(RUN) == [str(number) for number in range(2000)]
    counts = writer.statistics
    assert (counts.dropped, counts.delivered) == (0, counts.accepted)


def test_a_record_larger_than_the_queue_is_taken_when_it_is_empty(server: FakeServer) -> None:
    with LogWriter(server.target, max_queue_bytes=1000) as writer:
        for letter in "ab":
            writer.write(RUN, line(letter * 10_000), timeout=20)
    assert server.lines(RUN) == ["a" * 10_000, "b" * 10_000]


def test_a_server_that_is_away_is_waited_for(server: FakeServer) -> None:
    server.stop()
    with LogWriter(server.target, batch_interval=0.01) as writer:
        writer.write(RUN, line("patience"))
        assert not writer.flush(0.3)
        server.start()
        assert writer.flush(20)
    assert server.lines(RUN) == ["patience"]


def test_what_is_left_at_the_end_is_raised(
    server: FakeServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.stop()
    began = time.monotonic()
    with (  # noqa: PT012
        pytest.raises(LogsNotDelivered, match="2 log records could not be delivered") as caught,
        LogWriter(server.target, close_timeout=0.2) as writer,
    ):
        writer.write(RUN, line("one"))
        writer.write(RUN, line("two"))
    assert caught.value.records == 2
    assert time.monotonic() - began < 5
    assert "2 log records could not be delivered" in capfd.readouterr().err


def test_what_does_not_pass_by_itself_is_raised_at_once(server: FakeServer) -> None:
    server.break_before = [status(grpc.StatusCode.PERMISSION_DENIED, "not you")] * 50
    writer = LogWriter(server.target, max_queue_records=10, batch_interval=0.01)
    with pytest.raises(PermissionDenied, match="not you"):  # noqa: PT012
        for number in range(1000):
            writer.write(RUN, line(str(number)))
        writer.flush()
    with pytest.raises(PermissionDenied, match="not you"):
        writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(RUN, line("too late"))


def test_a_failure_in_the_block_is_not_hidden_by_what_is_left(server: FakeServer) -> None:
    with pytest.raises(KeyError), LogWriter(server.target) as writer:  # noqa: PT012
        writer.write(RUN, line("delivered all the same"))
        raise KeyError
    assert server.lines(RUN) == ["delivered all the same"]


def test_what_is_refused_is_counted_and_told(server: FakeServer) -> None:
    server.refuse.add(OTHER)
    refused = []
    with LogWriter(server.target, on_refused=lambda what, n: refused.append(n)) as writer:
        writer.write(OTHER, line("not kept"))
        writer.write(RUN, line("kept"))
    assert server.lines(RUN) == ["kept"]
    assert refused == [1]
    assert (writer.statistics.refused, writer.statistics.delivered) == (1, 1)


def test_what_the_contract_can_not_carry_is_made_to_fit(server: FakeServer) -> None:
    with LogWriter(server.target) as writer:
        writer.write(RUN, Line(10**20, 1000, "lo\udc80gger", "\udcff"))
        writer.write(RUN, Line(-(10**20), -1, "", "a\0b\r\n"))
    first, second = server.logs[RUN]
    assert (first.level, first.logger, first.message) == (100, "lo\\udc80gger", "\\udcff")
    assert first.time.ToJsonString().startswith("9999-12-31T23:59:59")
    assert (second.level, second.message) == (0, "a\0b\r\n")
    assert second.time.ToJsonString().startswith("0001-01-01T00:00:00")
