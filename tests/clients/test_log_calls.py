"""Writing a few lines to a log: what becomes of them, whatever happens on the way."""

import time
from collections.abc import Iterator

import grpc
import pytest
from interlock import Client, RetryPolicy, v1
from interlock.ids import uuid7
from interlock.log_columns import Line

from tests.clients.fake_server import FakeServer

QUICK = RetryPolicy(initial_delay=0.01, max_delay=0.05, attempt_timeout=0.5)


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.target, timeout=5, retry=QUICK) as made:
        yield made


def test_texts_are_lines_of_now_and_lines_say_more(server: FakeServer, client: Client) -> None:
    run_id, task_run_id = uuid7(), uuid7()
    before = time.time_ns() // 1000
    client.write_logs(run_id, ["one", Line(5, 40, "app", "two", task_run_id), Line(6)])
    client.write_logs(run_id, "a text alone")
    client.write_logs(run_id, Line(7, 30, message="a line alone"))
    one, two, three, alone, line_alone = server.logs[run_id]
    assert (one.message, one.level, one.logger, one.task_run_id) == ("one", 20, "", "")
    assert before <= one.time.ToMicroseconds() <= time.time_ns() // 1000
    assert (two.message, two.level, two.logger, two.task_run_id) == ("two", 40, "app", task_run_id)
    assert two.time.ToMicroseconds() == 5
    assert (three.message, three.level) == ("", 20)
    assert alone.message == "a text alone"
    assert (line_alone.message, line_alone.level) == ("a line alone", 30)


def test_no_lines_are_no_call(server: FakeServer, client: Client) -> None:
    client.write_logs(uuid7(), [])
    assert server.requests_of("WriteLogs") == []


@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
def test_a_call_that_fails_is_sent_again_with_its_id(
    server: FakeServer, client: Client, after: bool
) -> None:
    run_id = uuid7()
    server.fail("WriteLogs", grpc.StatusCode.UNAVAILABLE, after=after, times=2)
    client.write_logs(run_id, ["one", "two"])
    assert len({request.id for request in server.requests_of("WriteLogs")}) == 1
    assert server.lines(run_id) == ["one", "two"]


def test_many_lines_are_as_many_calls_as_the_servers_limits_ask_for(
    server: FakeServer, client: Client
) -> None:
    server.limits = v1.Limits(
        max_message_bytes=100_000, max_log_batch_records=2_000, max_log_message_bytes=20_000
    )
    run_id = uuid7()
    many = [str(n) for n in range(4_001)]
    client.write_logs(run_id, many)
    assert server.lines(run_id) == many
    requests = server.requests_of("WriteLogs")
    assert max(len(request.records.messages) for request in requests) <= 2_000
    assert max(request.ByteSize() for request in requests) <= 100_000
    assert len({request.id for request in requests}) == len(requests)
    # The limits are asked for once, and only where something may not fit.
    client.write_logs(run_id, many)
    assert len(server.requests_of("GetServerInfo")) == 1


def test_a_message_that_is_too_long_goes_on_in_the_next_record(
    server: FakeServer, client: Client
) -> None:
    run_id = uuid7()
    long = "é" * (200 * 1024)
    client.write_logs(run_id, ["before", long, "behind"])
    records = server.logs[run_id]
    assert all(len(r.message.encode()) <= server.limits.max_log_message_bytes for r in records)
    assert "".join(record.message for record in records) == f"before{long}behind"
    assert [record.continued for record in records] == [False, *[True] * 6, False, False]


def test_what_is_no_unicode_is_escaped(server: FakeServer, client: Client) -> None:
    run_id = uuid7()
    client.write_logs(run_id, ["caf\udce9", Line(1, 20, "app\udce9", "NUL \0")])
    first, second = server.logs[run_id]
    assert first.message == "caf\\udce9"
    assert (second.logger, second.message) == ("app\\udce9", "NUL \0")
