"""Appending to logs exactly once, and reading them page by page."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb
from interlock_server.core.engine import Engine
from interlock_server.rpc.log_service import LogService

from tests.support.logs import append, messages_of, read_log, record_batch
from tests.support.refusals import refused
from tests.support.runs import make_flow_run, make_task_run
from tests.support.servers import IN_MEMORY
from tests.support.stubs import Stubs


def ordinals_of(records: list[pb.LogRecord]) -> list[int]:
    return [record.ordinal for record in records]


# --- what comes in comes out ----------------------------------------------------------------------


def test_records_come_back_with_all_that_was_said_of_them(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    tasks = [make_task_run(stubs, flow_run_id=run.id).id for _ in range(2)]
    batch = record_batch(
        run.id,
        "one",
        "two, in two ",
        "parts",
        number=1,
        base_time={"seconds": 100, "nanos": 5_000},
        time_offsets_us=[0, -6, 1_000_000],
        levels=[10, 0, 50],
        loggers=["root", "app"],
        logger_indexes=[1, 0, 0],
        task_run_ids=tasks,
        task_run_indexes=[0, 2, 1],
        continued=[1],
    )
    appended = append(stubs, uuid7(), [batch])
    assert (appended.durable_before, appended.acknowledged, appended.refused) == (0, 1, [])

    one, two, parts = read_log(stubs, run.id)
    assert [one.message, two.message, parts.message] == ["one", "two, in two ", "parts"]
    assert [one.ordinal, two.ordinal, parts.ordinal] == [0, 1, 2]
    assert [one.level, two.level, parts.level] == [10, 0, 50]
    assert [one.logger, two.logger, parts.logger] == ["app", "root", "root"]
    assert [one.task_run_id, two.task_run_id, parts.task_run_id] == ["", tasks[1], tasks[0]]
    assert [one.continued, two.continued, parts.continued] == [False, True, False]
    times = [record.time.ToMicroseconds() for record in (one, two, parts)]
    assert times == [100_000_005, 99_999_999, 101_000_005]


def test_what_is_not_said_of_records_has_its_default(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    append(stubs, uuid7(), [record_batch(run.id, "a", "b", number=1)])
    for record in read_log(stubs, run.id):
        assert (record.level, record.logger, record.task_run_id) == (20, "", "")
        assert record.time.seconds == 1_700_000_000


def test_messages_come_back_to_the_letter(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    messages = [
        "NUL \x00 in the middle\x00",
        "CRLF\r\nCR\rLF\nTAB\t",
        "\x1b[31mred\x1b[0m",
        "日本語 😀 \U0010ffff \ufffe\uffff e\u0301",
        "".join(map(chr, range(32))),
        "",
        "x" * 1024 * 1024,
    ]
    append(stubs, uuid7(), [record_batch(run.id, *messages, number=1)])
    assert messages_of(read_log(stubs, run.id)) == messages


def test_the_largest_that_is_taken_comes_back(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    # Of many scripts, and of all control characters.
    text = ("".join(map(chr, range(0x2500))) * 420).encode()
    # A line of 10 MiB, split by its sender between characters.
    parts = []
    while text:
        end = min(1024 * 1024, len(text))
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
        parts.append(text[:end].decode())
        text = text[end:]
    many = [f"line {i}" for i in range(10_000)]
    batches = [
        record_batch(run.id, *parts, number=1, continued=range(len(parts) - 1)),
        record_batch(
            run.id, *many, number=2, time_offsets_us=[i * -7 % 100 for i in range(10_000)]
        ),
        record_batch(run.id, "goes on", number=3, continued=[0]),
        record_batch(run.id, "in the next batch", number=4, levels=[100]),
        record_batch(run.id, number=5, end_of_run=True),
    ]
    assert append(stubs, uuid7(), batches).refused == []
    records = read_log(stubs, run.id, page_size=1000)
    sent = [*parts, *many, "goes on", "in the next batch"]
    assert digest_of(messages_of(records)) == digest_of(sent)
    goes_on = [record.ordinal for record in records if record.continued]
    assert goes_on == [*range(len(parts) - 1), len(sent) - 2]
    assert records[-1].level == 100


def digest_of(messages: list[str]) -> str:
    return sha256("\0\n".join(messages).encode()).hexdigest()


@pytest.mark.parametrize("seconds", [-62_135_596_800, 253_402_300_799])
def test_far_off_times_come_back(stubs: Stubs, seconds: int) -> None:
    run = make_flow_run(stubs)
    moment = {"seconds": seconds, "nanos": 999_999_000 if seconds > 0 else 0}
    append(stubs, uuid7(), [record_batch(run.id, "far", number=1, base_time=moment)])
    (record,) = read_log(stubs, run.id)
    assert (record.time.seconds, record.time.nanos) == tuple(moment.values())


def test_a_task_run_that_is_part_of_no_flow_run_has_a_log_of_its_own(stubs: Stubs) -> None:
    task = make_task_run(stubs)
    append(stubs, uuid7(), [record_batch(task.id, "mine", number=1)])
    assert messages_of(read_log(stubs, task.id)) == ["mine"]


def test_a_run_without_records_has_an_empty_log(stubs: Stubs) -> None:
    assert read_log(stubs, make_flow_run(stubs).id) == []
    with refused(StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        read_log(stubs, uuid7())


# --- exactly once ---------------------------------------------------------------------------------


def test_batches_that_come_again_are_taken_once(stubs: Stubs) -> None:
    run, producer = make_flow_run(stubs), uuid7()
    batches = [record_batch(run.id, f"line {n}", number=n) for n in range(1, 6)]
    first = append(stubs, producer, [*batches[:2], batches[1], batches[0], batches[2]])
    second = append(stubs, producer, batches)
    third = append(stubs, producer, [])

    assert (first.durable_before, first.acknowledged) == (0, 3)
    assert (second.durable_before, second.acknowledged) == (3, 5)
    assert third.durable_before == 5
    assert messages_of(read_log(stubs, run.id)) == [f"line {n}" for n in range(1, 6)]


def test_a_producer_goes_on_after_a_broken_stream(stubs: Stubs) -> None:
    run, producer = make_flow_run(stubs), uuid7()
    batches = [record_batch(run.id, f"line {n}", number=n) for n in range(1, 41)]

    def first_message_then(rest: list[pb.AppendLogsRequest]) -> Iterator[pb.AppendLogsRequest]:
        yield pb.AppendLogsRequest(producer_id=producer)
        yield from rest

    durable = []
    for _ in range(5):
        stream = stubs.logs.AppendLogs(first_message_then(batches))
        durable.append(next(stream).acknowledged)
        # Cut off after the next acknowledgement, whatever else has come through.
        next(stream, None)
        stream.cancel()
    append(stubs, producer, batches)
    assert durable == sorted(durable)

    records = read_log(stubs, run.id)
    assert messages_of(records) == [f"line {n}" for n in range(1, 41)]
    assert ordinals_of(records) == list(range(40))


def test_producers_do_not_share_their_numbers(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    for name in "ab":
        append(stubs, uuid7(), [record_batch(run.id, name, number=1)])
    assert messages_of(read_log(stubs, run.id)) == ["a", "b"]


def test_a_producer_may_write_to_many_logs(stubs: Stubs) -> None:
    runs = [make_flow_run(stubs) for _ in range(3)]
    producer = uuid7()
    batches = [
        record_batch(runs[number % 3].id, f"line {number}", number=number)
        for number in range(1, 10)
    ]
    append(stubs, producer, batches[:5])
    assert append(stubs, producer, batches).durable_before == 5
    for place, run in enumerate(runs):
        numbers = [number for number in range(1, 10) if number % 3 == place]
        assert messages_of(read_log(stubs, run.id)) == [f"line {n}" for n in numbers]


@pytest.mark.parametrize(("numbers", "durable"), [((1, 2, 4), 2), ((2, 3, 1), 3), ((7, 9), 7)])
def test_a_batch_out_of_order_ends_the_stream(
    stubs: Stubs, numbers: tuple[int, ...], durable: int
) -> None:
    run, producer = make_flow_run(stubs), uuid7()
    batches = [record_batch(run.id, f"line {n}", number=n) for n in numbers]
    with refused(StatusCode.INVALID_ARGUMENT, "BATCH_OUT_OF_ORDER", "number"):
        append(stubs, producer, batches)
    assert append(stubs, producer, []).durable_before == durable
    assert messages_of(read_log(stubs, run.id)) == [f"line {n}" for n in numbers[:-1]]


def test_a_batch_that_can_not_be_taken_is_refused_and_the_stream_goes_on(stubs: Stubs) -> None:
    run, unknown = make_flow_run(stubs), uuid7()
    task = make_task_run(stubs, flow_run_id=run.id)
    second = {"seconds": 1}
    batches = [
        record_batch(run.id, "one", number=1),
        record_batch(unknown, "nowhere", number=2),
        record_batch(task.id, "not there", number=3),
        record_batch("no id", "x", number=4),
        record_batch(run.id, number=5),
        record_batch(run.id, "x", number=6, levels=[20, 20]),
        record_batch(run.id, "x", number=7, loggers=["a"], logger_indexes=[1]),
        record_batch(run.id, "x", number=8, task_run_ids=["bad"]),
        record_batch(run.id, "x", number=9, base_time={"seconds": 10**12}),
        record_batch(run.id, "x", number=10, base_time=second, time_offsets_us=[-(2**63)]),
        record_batch(run.id, *["x"] * 10_001, number=11),
        record_batch(run.id, "x" * (1024 * 1024 + 1), number=12),
        record_batch(run.id, "x", number=13, levels=[101]),
        record_batch(run.id, "x", number=14, levels=[2**32 - 1]),
        record_batch(run.id, *"xx", number=15, time_offsets_us=[1]),
        record_batch(run.id, "x", number=16, logger_indexes=[1]),
        record_batch(run.id, *"xx", number=17, task_run_ids=[task.id], task_run_indexes=[2, 1]),
        record_batch(run.id, *"xx", number=18, continued=[1, 1]),
        record_batch(run.id, *"xx", number=19, continued=[2]),
        pb.AppendLogsRequest(number=20, run_id=run.id, records=pb.LogColumns(messages=["x"])),
        pb.AppendLogsRequest(
            number=21, run_id=run.id, records=pb.LogColumns(base_time=Timestamp(seconds=1))
        ),
        record_batch(run.id, "two", number=22),
    ]
    producer = uuid7()
    appended = append(stubs, producer, batches)

    assert appended.acknowledged == 22
    why = {batch.number: batch.error for batch in appended.refused}
    assert {number: (error.reason, error.field) for number, error in why.items()} == {
        2: ("RUN_NOT_FOUND", "run_id"),
        3: ("TASK_RUN_IN_FLOW_RUN", "run_id"),
        4: ("INVALID_FIELD", "run_id"),
        5: ("INVALID_FIELD", "records"),
        6: ("INVALID_FIELD", "records.levels"),
        7: ("INVALID_FIELD", "records.logger_indexes"),
        8: ("INVALID_FIELD", "records.task_run_ids[0]"),
        9: ("INVALID_FIELD", "records.base_time"),
        10: ("INVALID_FIELD", "records.time_offsets_us"),
        11: ("INVALID_FIELD", "records.messages"),
        12: ("INVALID_FIELD", "records.messages[0]"),
        13: ("INVALID_FIELD", "records.levels"),
        14: ("INVALID_FIELD", "records.levels"),
        15: ("INVALID_FIELD", "records.time_offsets_us"),
        16: ("INVALID_FIELD", "records.logger_indexes"),
        17: ("INVALID_FIELD", "records.task_run_indexes"),
        18: ("INVALID_FIELD", "records.continued"),
        19: ("INVALID_FIELD", "records.continued"),
        20: ("INVALID_FIELD", "records.base_time"),
        21: ("INVALID_FIELD", "records.messages"),
    }
    assert messages_of(read_log(stubs, run.id)) == ["one", "two"]
    # Whoever has not heard the answers hears them again.
    again = append(stubs, producer, batches)
    assert (again.durable_before, again.acknowledged) == (22, 22)
    reasons = [(batch.number, batch.error.reason) for batch in again.refused]
    assert reasons == [(batch.number, batch.error.reason) for batch in appended.refused]
    assert messages_of(read_log(stubs, run.id)) == ["one", "two"]


@pytest.mark.parametrize("url", [IN_MEMORY])
async def test_who_does_not_read_what_is_refused_is_not_read_on(engine: Engine) -> None:
    sent = 0

    async def requests() -> AsyncIterator[pb.AppendLogsRequest]:
        nonlocal sent
        yield pb.AppendLogsRequest(producer_id=uuid7())
        for sent in range(1, 10_001):
            yield pb.AppendLogsRequest(number=sent, run_id="none")

    # Its context is for interceptors.
    answers = LogService(engine).AppendLogs(requests(), None)  # type: ignore[arg-type]
    told = [await anext(answers), await anext(answers)]
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0)
    assert 0 < sent < 10_000
    told += [answer async for answer in answers]
    refused_ones = [batch.number for answer in told for batch in answer.refused]
    assert refused_ones == list(range(1, 10_001))


def test_a_stream_needs_a_producer_and_may_say_nothing(stubs: Stubs) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "producer_id"):
        append(stubs, "", [])
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "number"):
        append(stubs, uuid7(), [record_batch(make_flow_run(stubs).id, "x", number=-1)])
    assert list(stubs.logs.AppendLogs(iter(()))) == []


def test_more_than_a_window_comes_through(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    line = "0123456789abcdef" * 4096
    batches = [record_batch(run.id, *[line] * 16, number=number) for number in range(1, 21)]
    assert append(stubs, uuid7(), batches).acknowledged == 20
    assert len(read_log(stubs, run.id, page_size=1000)) == 320


def test_ordinals_have_no_gaps_and_each_producers_order_is_kept(stubs: Stubs) -> None:
    run = make_flow_run(stubs)

    def produce(producer: int) -> None:
        batches = [
            record_batch(run.id, *(f"{producer} {n} {i}" for i in range(3)), number=n)
            for n in range(1, 11)
        ]
        append(stubs, uuid7(), batches)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(produce, range(16)))

    records = read_log(stubs, run.id, page_size=77)
    assert ordinals_of(records) == list(range(480))
    for producer in range(16):
        mine = [m for m in messages_of(records) if m.startswith(f"{producer} ")]
        assert mine == [f"{producer} {n} {i}" for n in range(1, 11) for i in range(3)]


# --- reading --------------------------------------------------------------------------------------


LEVELS = [5, 10, 20, 30, 40, 50]


@pytest.fixture
def log(stubs: Stubs) -> tuple[str, list[str], list[dict[str, Any]]]:
    """A log of 120 records in 12 chunks: its run, its task runs, and what each record is."""
    run = make_flow_run(stubs)
    tasks = [make_task_run(stubs, flow_run_id=run.id).id for _ in range(2)]
    # Each task run is in some chunks only, and so is each level.
    records = [
        {
            "message": f"line {i}",
            "level": LEVELS[(i // 10 + i % 2) % 6],
            "task": i // 10 % 3,
            "time": 1_000 + (i * 7) % 120,
        }
        for i in range(120)
    ]
    batches = []
    for number in range(12):
        part = records[number * 10 : number * 10 + 10]
        batches.append(
            record_batch(
                run.id,
                *(str(record["message"]) for record in part),
                number=number + 1,
                levels=[record["level"] for record in part],
                base_time={},
                time_offsets_us=[record["time"] for record in part],
                task_run_ids=tasks,
                task_run_indexes=[record["task"] for record in part],
            )
        )
    append(stubs, uuid7(), batches)
    return run.id, tasks, records


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("page_size", [1, 7, 10, 119, 120, 121])
def test_pages_of_a_log_hold_each_record_once(
    stubs: Stubs, log: tuple[str, Any, Any], page_size: int, descending: bool
) -> None:
    run_id, _, _ = log
    found = ordinals_of(read_log(stubs, run_id, page_size=page_size, descending=descending))
    assert found == (list(range(120))[::-1] if descending else list(range(120)))


@pytest.mark.parametrize("batches", [7, 8, 9, 16])
def test_a_log_of_any_number_of_chunks_is_read_once(stubs: Stubs, batches: int) -> None:
    run = make_flow_run(stubs)
    append(stubs, uuid7(), [record_batch(run.id, "x", number=n + 1) for n in range(batches)])
    for descending in (False, True):
        found = ordinals_of(read_log(stubs, run.id, descending=descending))
        assert found == sorted(range(batches), reverse=descending)


@pytest.mark.parametrize("descending", [False, True])
def test_a_log_can_be_filtered(
    stubs: Stubs, log: tuple[str, list[str], list[dict[str, Any]]], descending: bool
) -> None:
    run_id, tasks, records = log

    def expect(given: pb.LogFilter, wanted: list[int]) -> None:
        found = read_log(stubs, run_id, filter=given, page_size=9, descending=descending)
        assert ordinals_of(found) == (wanted[::-1] if descending else wanted), given

    for level in (0, 1, 5, 6, 20, 30, 31, 50, 51, 100):
        expect(
            pb.LogFilter(min_level=level),
            [i for i, record in enumerate(records) if record["level"] >= level],
        )
    for wanted in ([1], [2], [1, 2]):
        expect(
            pb.LogFilter(task_run_ids=[tasks[task - 1] for task in wanted]),
            [i for i, record in enumerate(records) if record["task"] in wanted],
        )
    expect(pb.LogFilter(task_run_ids=[uuid7()]), [])
    since_until = pb.LogFilter()
    since_until.since.FromMicroseconds(1_020)
    since_until.until.FromMicroseconds(1_050)
    expect(since_until, [i for i, record in enumerate(records) if 1_020 <= record["time"] < 1_050])
    since_until.min_level = 30
    since_until.task_run_ids.append(tasks[0])
    expect(
        since_until,
        [
            i
            for i, record in enumerate(records)
            if 1_020 <= record["time"] < 1_050 and record["level"] >= 30 and record["task"] == 1
        ],
    )


def test_a_task_run_may_be_named_twice_and_in_capitals(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    task = uuid7()
    batch = record_batch(
        run.id, *"abc", number=1, task_run_ids=[task.upper(), task], task_run_indexes=[1, 2, 0]
    )
    assert append(stubs, uuid7(), [batch]).refused == []
    found = read_log(stubs, run.id, filter=pb.LogFilter(task_run_ids=[task]))
    assert [(record.message, record.task_run_id) for record in found] == [("a", task), ("b", task)]


def test_a_logger_may_be_named_twice_and_a_task_run_be_of_another_run(stubs: Stubs) -> None:
    run, other = make_flow_run(stubs), make_flow_run(stubs)
    task = make_task_run(stubs, flow_run_id=other.id)
    batch = record_batch(run.id, *"abc", number=1, loggers=["a", "a", ""], logger_indexes=[0, 1, 2])
    batch.records.task_run_ids.append(task.id)
    assert append(stubs, uuid7(), [batch]).refused == []
    found = [(record.logger, record.task_run_id) for record in read_log(stubs, run.id)]
    assert found == [("a", task.id), ("a", task.id), ("", task.id)]
    assert read_log(stubs, other.id) == []


def test_a_logs_token_holds_only_for_its_request(stubs: Stubs, log: tuple[str, Any, Any]) -> None:
    run_id, _, _ = log
    token = stubs.logs.ListLogs(pb.ListLogsRequest(run_id=run_id, page_size=5)).next_page_token
    other = make_flow_run(stubs)
    for request in (
        pb.ListLogsRequest(run_id=other.id),
        pb.ListLogsRequest(run_id=run_id, descending=True),
        pb.ListLogsRequest(run_id=run_id, filter=pb.LogFilter(min_level=1)),
    ):
        request.page_token = token
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "page_token"):
            stubs.logs.ListLogs(request)


def test_a_page_of_long_lines_fits_into_a_message(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    line = "x" * 1024 * 1024
    producer = uuid7()
    append(stubs, producer, [record_batch(run.id, *[line] * 4, number=n) for n in range(1, 6)])
    request = pb.ListLogsRequest(run_id=run.id, page_size=1000)
    page = stubs.logs.ListLogs(request)
    assert page.next_page_token
    assert page.ByteSize() < 16 * 1024 * 1024
    assert len(read_log(stubs, run.id, page_size=1000)) == 20


def test_a_page_does_not_unpack_more_than_it_can_send(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    line = "x" * 1_000_000
    append(stubs, uuid7(), [record_batch(run.id, *[line] * 5, number=n) for n in range(1, 9)])
    for descending in (False, True):
        found = read_log(stubs, run.id, page_size=1000, descending=descending)
        assert ordinals_of(found) == sorted(range(40), reverse=descending)
