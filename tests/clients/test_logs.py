"""The log handler: nothing lost silently, nothing twice, over streams that break."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from interlock import Client, InterlockHandler, v1
from interlock.retry import Backoff

from tests.clients.fake_server import FakeServer, status

RUN = "018f0000-0000-7000-8000-000000000001"
Make = Callable[..., tuple[logging.Logger, InterlockHandler]]


@pytest.fixture
def make(server: FakeServer, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    handlers: list[InterlockHandler] = []
    logger = logging.getLogger(f"worker.{request.node.name}")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False

    def make_one(**options: object) -> tuple[logging.Logger, InterlockHandler]:
        options = {"run_id": RUN, "spill_folder": tmp_path, **options}
        handler = InterlockHandler(server.target, **options)  # type: ignore[arg-type]
        handlers.append(handler)
        logger.addHandler(handler)
        return logger, handler

    yield make_one
    server.acknowledging.set()
    for handler in handlers:
        logger.removeHandler(handler)
        handler.close(1.0)


def wait_until(true: Callable[[], object], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.01)


def more_than(server: FakeServer, count: int) -> bool:
    return len(server.lines(RUN)) > count


def test_a_record_keeps_all_that_it_says(server: FakeServer, make: Make) -> None:
    logger, handler = make()
    before = time.time()
    logger.warning("disk %d%% full\r\n\x1b[31mred\x00", 93)
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it broke")
    assert handler.flush(10)
    first, second = server.logs[RUN]
    assert first.message == "disk 93% full\r\n\x1b[31mred\x00"
    assert first.level == 30
    assert first.logger == logger.name
    assert before - 0.001 <= first.time.ToNanoseconds() / 1e9 <= time.time()
    assert second.level == 40
    assert second.message.startswith("it broke\nTraceback (most recent call last)")
    assert second.message.endswith("ValueError: no")


def test_flushing_a_closed_handler_does_not_wait(server: FakeServer, make: Make) -> None:
    logger, handler = make()
    logger.info("the last words")
    handler.close(10)
    before = time.monotonic()
    assert handler.flush(30)
    assert time.monotonic() - before < 5


def test_many_records_come_in_order_and_once(server: FakeServer, make: Make) -> None:
    logger, handler = make(batch_interval=0.01)
    for number in range(20_000):
        logger.info("line %d", number)
    assert handler.flush(30)
    assert server.lines(RUN) == [f"line {number}" for number in range(20_000)]
    counts = handler.statistics
    assert (counts.accepted, counts.delivered, counts.waiting) == (20_000, 20_000, 0)


def test_broken_streams_lose_nothing_and_repeat_nothing(server: FakeServer, make: Make) -> None:
    server.drop_batches = 4
    logger, handler = make(batch_interval=0.005)
    for number in range(500):
        logger.info("line %d", number)
        if number % 50 == 0:
            time.sleep(0.05)
    assert handler.flush(30)
    assert server.drop_batches == 0
    assert server.streams == 5
    assert server.lines(RUN) == [f"line {number}" for number in range(500)]
    assert len(server.producers) == 1


def test_a_server_that_restarts_loses_nothing_and_repeats_nothing(
    server: FakeServer, make: Make
) -> None:
    logger, handler = make(batch_interval=0.005)
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            logger.info("line %d", number)
            number += 1
            time.sleep(0.001)

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(2):
        wait_until(lambda: len(server.lines(RUN)) > 20)
        server.stop()
        time.sleep(0.3)
        seen = len(server.lines(RUN))
        server.start()
        wait_until(partial(more_than, server, seen + 50))
    stop.set()
    worker.join()
    assert handler.flush(30)
    lines = server.lines(RUN)
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert handler.statistics.accepted == len(lines)


def test_logging_never_waits_for_the_server(
    server: FakeServer, make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    server.acknowledging.clear()
    server.limits.log_window_bytes = 10_000
    logger, handler = make(max_queue_records=1000, batch_interval=0.01, max_spill_bytes=0)
    slowest = 0.0
    for number in range(5_000):
        began = time.perf_counter()
        logger.info("line %d", number)
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < 0.5
    dropped = handler.statistics.dropped
    assert dropped > 0
    server.acknowledging.set()
    assert handler.flush(30)
    lines = server.lines(RUN)
    kept = [line for line in lines if line.startswith("line ")]
    words = [record for record in server.logs[RUN] if record.logger == "interlock.logs"]
    told = sum(int(word.message.split()[0].replace(",", "")) for word in words)
    assert len(kept) == 5_000 - dropped
    assert told == dropped, [w.message for w in words]
    assert all(word.level == logging.WARNING for word in words)
    assert sorted(kept, key=lambda line: int(line.split()[1])) == kept
    assert capfd.readouterr().err.count("the log queue is full") == 1


def test_words_about_drops_stand_where_the_records_would(server: FakeServer, make: Make) -> None:
    server.stop()
    logger, handler = make(max_queue_records=3, batch_interval=0.01, max_spill_bytes=0)
    for number in range(5):
        logger.info("line %d", number)
    server.start()
    assert handler.flush(20)
    logger.info("after")
    assert handler.flush(20)
    lines = server.lines(RUN)
    assert lines[:3] == ["line 0", "line 1", "line 2"]
    assert lines[3].startswith("2 log records were dropped here")
    assert lines[4:] == ["after"]


def test_drops_are_told_even_if_nothing_more_is_logged(server: FakeServer, make: Make) -> None:
    server.stop()
    logger, handler = make(max_queue_records=1, batch_interval=0.01, max_spill_bytes=0)
    for _ in range(3):
        logger.info("one")
    server.start()
    wait_until(lambda: len(server.lines(RUN)) == 2, 20)
    assert server.lines(RUN)[1].startswith("2 log records were dropped here")
    assert handler.statistics.dropped == 2


def test_what_is_refused_is_reported(
    server: FakeServer, make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    refusals: list[tuple[str, int]] = []
    other = RUN[:-1] + "2"
    server.refuse.add(other)
    logger, handler = make(on_refused=lambda what, n: refusals.append((what.error.reason, n)))
    logger.info("kept")
    logger.info("not kept", extra={"flow_run_id": other})
    logger.info("kept too")
    assert handler.flush(10)
    assert server.lines(RUN) == ["kept", "kept too"]
    assert refusals == [("RUN_NOT_FOUND", 1)]
    assert handler.statistics.refused == 1
    assert "refused 1 log records" in capfd.readouterr().err


def test_what_is_refused_is_reported_also_where_the_answer_was_lost(
    server: FakeServer, make: Make
) -> None:
    refusals: list[str] = []
    other = RUN[:-1] + "2"
    server.refuse.add(other)
    # One is refused, one behind it is durable, and then the stream breaks.
    server.swallow_answers = 2
    logger, handler = make(on_refused=lambda what, n: refusals.append(what.error.reason))
    logger.info("not kept", extra={"flow_run_id": other})
    logger.info("kept")
    assert handler.flush(10)
    assert server.streams == 2
    assert server.lines(RUN) == ["kept"]
    assert refusals == ["RUN_NOT_FOUND"]
    assert handler.statistics.delivered == 1


def test_a_broken_stream_behind_a_refused_batch_makes_no_new_producer(
    server: FakeServer, make: Make
) -> None:
    """What the server has not written yet of the old one would be written twice."""
    server.refuse.add(RUN[:-1] + "2")
    logger, handler = make()
    logger.info("not kept", extra={"flow_run_id": RUN[:-1] + "2"})
    assert handler.flush(10)
    server.break_before.append(status(grpc.StatusCode.UNAVAILABLE))
    logger.info("kept")
    assert handler.flush(10)
    assert server.streams == 2
    assert len(server.producers) == 1


def test_waits_between_streams_grow_and_begin_anew_with_each_acknowledgement(
    server: FakeServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[float] = []

    class Noted(Backoff):
        def next(self, at_least: float = 0.0) -> float:
            bounds.append(self._bound)
            super().next(at_least)
            return 0.0

    monkeypatch.setattr("interlock.logs.shipping.Backoff", Noted)
    cut = status(grpc.StatusCode.UNAVAILABLE, "cut")
    other = RUN[:-1] + "2"
    server.refuse.add(other)
    logger, handler = make(batch_interval=0.01)
    for run_id in (RUN, other):  # a refusal is an acknowledgement, too
        server.break_before = [cut] * 7
        logger.info("one", extra={"flow_run_id": run_id})
        assert handler.flush(30)
    assert bounds == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0] * 2
    assert server.streams == 15


def test_a_batch_that_breaks_every_stream_is_given_up_and_said(
    server: FakeServer, make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    poison = status(grpc.StatusCode.INVALID_ARGUMENT, "I can not take this")
    server.break_before = [poison] * 6
    logger, handler = make(batch_interval=0.01)
    logger.info("poison")
    assert handler.flush(60)
    logger.info("after")
    assert handler.flush(20)
    first, second = server.lines(RUN)
    assert first.startswith("1 log records could not be delivered here")
    assert second == "after"
    assert handler.statistics.refused == 1
    assert "I can not take this" in capfd.readouterr().err


def test_a_server_that_forgot_the_producer_gets_the_rest(server: FakeServer, make: Make) -> None:
    logger, handler = make(batch_interval=0.01)
    logger.info("one")
    assert handler.flush(10)
    server.stop()
    server.producers.clear()
    logger.info("two")
    server.start()
    assert handler.flush(20)
    assert server.lines(RUN) == ["one", "two"]


def test_long_messages_are_split_between_characters(server: FakeServer, make: Make) -> None:
    server.limits.max_log_message_bytes = 1000
    logger, handler = make()
    message = "a" + "é€😀" * 1000
    logger.info(message)
    logger.info("short")
    assert handler.flush(10)
    *parts, short = server.logs[RUN]
    assert "".join(part.message for part in parts) == message
    assert all(len(part.message.encode()) <= 1000 for part in parts)
    assert [part.continued for part in parts] == [True] * (len(parts) - 1) + [False]
    assert short.message == "short"
    assert not short.continued


def test_a_message_larger_than_a_message_of_grpc_arrives(server: FakeServer, make: Make) -> None:
    logger, handler = make()
    message = "x" * 12_000_000
    logger.info(message)
    assert handler.flush(30)
    assert "".join(server.lines(RUN)) == message


def test_odd_records_do_no_harm(server: FakeServer, make: Make) -> None:
    logger, handler = make()
    for created in (math.nan, math.inf, -1e30, 1e30, 0.0):
        record = logger.makeRecord(logger.name, 900, __file__, 1, "at %s", (created,), None)
        record.created = created
        handler.handle(record)
    low = logger.makeRecord("lo\udc80gger", -5, __file__, 1, "low \udcff", (), None)
    handler.handle(low)
    assert handler.flush(10)
    records = server.logs[RUN]
    assert [record.level for record in records] == [100] * 5 + [0]
    assert records[4].time.ToNanoseconds() == 0
    assert (records[5].message, records[5].logger) == ("low \\udcff", "lo\\udc80gger")


def test_records_find_their_run(server: FakeServer, make: Make) -> None:
    logger, handler = make(run_id="")
    logger.info("outside")
    with Client(server.target) as client:
        with client.flow_run("nightly") as run:
            logger.info("in the flow")
            with run.task("extract") as task:
                logger.info("in the task")
            logger.info("in the flow again")
        with client.task_run("alone") as alone:
            logger.info("alone")
    logger.info("named", extra={"flow_run_id": run.id, "task_run_id": task.id})
    assert handler.flush(10)
    seen = [(record.message, record.task_run_id) for record in server.logs[run.id]]
    assert seen == [
        ("in the flow", ""),
        ("in the task", task.id),
        ("in the flow again", ""),
        ("named", task.id),
    ]
    assert [(r.message, r.task_run_id) for r in server.logs[alone.id]] == [("alone", "")]
    assert handler.statistics.outside == 1
    assert len(server.ended[run.id]) == 1
    assert len(server.ended[alone.id]) == 1


def test_our_own_loggers_are_not_shipped(server: FakeServer, make: Make) -> None:
    _, handler = make()
    for name in ("grpc", "grpc._channel", "interlock", "interlock.text"):
        handler.handle(logging.getLogger(name).makeRecord(name, 40, "", 1, "no", (), None))
    name = "interlock.run"
    handler.handle(logging.getLogger(name).makeRecord(name, 40, "", 1, "yes", (), None))
    assert handler.flush(10)
    assert server.lines(RUN) == ["yes"]


def test_closing_half_closes_the_stream(server: FakeServer, make: Make) -> None:
    logger, handler = make()
    logger.info("last words")
    handler.close()
    assert server.lines(RUN) == ["last words"]
    wait_until(lambda: server.half_closed == 1)
    logger.info("too late")
    handler.close()
    assert handler.statistics.accepted == 1


def test_what_can_not_be_delivered_is_said(
    server: FakeServer, make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    server.stop()
    logger, handler = make()
    for _ in range(3):
        logger.info("lost")
    began = time.monotonic()
    assert not handler.flush(0.2)
    handler.close(0.3)
    assert time.monotonic() - began < 3
    assert "3 log records could not be delivered" in capfd.readouterr().err


def test_the_end_of_the_process_delivers(server: FakeServer) -> None:
    script = f"""
        import logging
        from interlock import InterlockHandler
        logging.basicConfig(level="INFO", handlers=[InterlockHandler(run_id="{RUN}")])
        for number in range(100):
            logging.info("line %d", number)
        """
    run_script(server, script)
    assert server.lines(RUN) == [f"line {number}" for number in range(100)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_ships_its_own_records(server: FakeServer) -> None:
    script = f"""
        import logging, os
        from interlock import InterlockHandler
        handler = InterlockHandler(run_id="{RUN}")
        logging.basicConfig(level="INFO", handlers=[handler])
        logging.info("parent before")
        handler.flush(10)
        if (child := os.fork()) == 0:
            logging.info("child")
            handler.close(10)
            os._exit(0)
        os.waitpid(child, 0)
        logging.info("parent after")
        """
    run_script(server, script)
    assert sorted(server.lines(RUN)) == ["child", "parent after", "parent before"]
    assert len(server.producers) == 2


def run_script(server: FakeServer, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "INTERLOCK_TARGET": server.target},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "interlock:" not in done.stderr


def test_several_threads_and_runs(server: FakeServer, make: Make) -> None:
    server.drop_batches = 3
    logger, handler = make(batch_interval=0.005)
    runs = [f"{RUN[:-1]}{digit}" for digit in range(4)]

    def work(run_id: str) -> None:
        for number in range(1000):
            logger.info("%d", number, extra={"flow_run_id": run_id})

    workers = [threading.Thread(target=work, args=(run_id,)) for run_id in runs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert handler.flush(30)
    for run_id in runs:
        assert server.lines(run_id) == [str(number) for number in range(1000)]


def test_tail_sees_what_the_handler_ships(server: FakeServer, make: Make) -> None:
    logger, handler = make()
    server.tail_breaks = [1, 0, 2]
    for number in range(20):
        logger.info("line %d", number)
    assert handler.flush(10)
    server.tail_end = v1.TAIL_END_DRAINED
    with Client(server.target) as client:
        tail = client.tail_logs(RUN)
        assert [record.ordinal for record in tail] == list(range(20))
        assert tail.end == v1.TAIL_END_DRAINED
        assert tail.next_ordinal == 20


def test_a_run_that_nothing_was_logged_for_is_not_ended(server: FakeServer, make: Make) -> None:
    logger, handler = make(run_id="")
    with Client(server.target) as client:
        with client.flow_run("quiet") as quiet:
            pass
        with client.flow_run("loud") as loud:
            logger.info("one")
    assert handler.flush(10)
    assert not server.ended[quiet.id]
    assert len(server.ended[loud.id]) == 1
