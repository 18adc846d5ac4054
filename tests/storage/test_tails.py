"""Following a log: what is there, then what comes, until the run is drained."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb
from interlock_server.core.logs.ends import DRAIN_SILENCE, TailEnd, drained
from interlock_server.rules.states import StateType
from interlock_server.storage.log_status_queries import LogStatus

from benchmarks.processes import resident_bytes
from tests.support.logs import append, messages_of, read_log, record_batch
from tests.support.refusals import refused
from tests.support.runs import COMPLETED, RUNNING, FlowRuns, make_flow_run, proposal
from tests.support.servers import ServerProcess
from tests.support.stubs import Stubs, connected

TIMEOUT = 60
"""Seconds. A tail that does not end by itself fails its test."""


def tail(stubs: Stubs, run_id: str, **request: object) -> Iterator[pb.TailLogsResponse]:
    asked = pb.TailLogsRequest(run_id=run_id, **request)  # type: ignore[arg-type]
    return stubs.logs.TailLogs(asked, timeout=TIMEOUT)


def follow(stubs: Stubs, run_id: str, **request: object) -> tuple[list[pb.LogRecord], int]:
    """All records of a tail, and why it ended."""
    records: list[pb.LogRecord] = []
    end = pb.TAIL_END_UNSPECIFIED
    for part in tail(stubs, run_id, **request):
        assert end == pb.TAIL_END_UNSPECIFIED, "the last message was not the last"
        records += part.records
        if part.records:
            assert part.next_ordinal == part.records[-1].ordinal + 1
        end = part.end
    return records, end


def finish(stubs: Stubs, run_id: str) -> None:
    FlowRuns(stubs).propose(proposal(run_id, COMPLETED))


def test_history_comes_first_then_what_is_appended_then_the_end(stubs: Stubs) -> None:
    run = make_flow_run(stubs, state={"type": RUNNING})
    producer = uuid7()
    append(stubs, producer, [record_batch(run.id, "one", "two", number=1)])
    following = tail(stubs, run.id)

    first = next(following)
    assert messages_of(first.records) == ["one", "two"]
    assert first.next_ordinal == 2
    append(stubs, producer, [record_batch(run.id, "three", number=2)])
    assert messages_of(next(following).records) == ["three"]
    append(stubs, producer, [record_batch(run.id, "four", number=3, end_of_run=True)])
    assert messages_of(next(following).records) == ["four"]
    finish(stubs, run.id)
    last = next(following)
    assert (last.end, last.next_ordinal, list(last.records)) == (pb.TAIL_END_DRAINED, 4, [])
    assert list(following) == []


def test_a_tail_of_a_drained_log_ends_at_once(stubs: Stubs) -> None:
    run = make_flow_run(stubs, state={"type": COMPLETED})
    batch = record_batch(run.id, *map(str, range(3000)), number=1, end_of_run=True)
    append(stubs, uuid7(), [batch])
    records, end = follow(stubs, run.id)
    assert messages_of(records) == [str(i) for i in range(3000)]
    assert end == pb.TAIL_END_DRAINED


def test_a_run_that_ends_without_a_word_is_drained(stubs: Stubs) -> None:
    run = make_flow_run(stubs, state={"type": COMPLETED})
    assert follow(stubs, run.id) == ([], pb.TAIL_END_DRAINED)


def test_a_tail_waits_for_the_producer_that_has_not_closed(stubs: Stubs) -> None:
    run = make_flow_run(stubs, state={"type": RUNNING})
    slow, quick = uuid7(), uuid7()
    append(stubs, slow, [record_batch(run.id, "slow", number=1)])
    append(stubs, quick, [record_batch(run.id, "quick", number=1, end_of_run=True)])
    finish(stubs, run.id)
    following = tail(stubs, run.id)
    seen = messages_of(next(following).records)
    if len(seen) < 2:
        seen += messages_of(next(following).records)
    assert seen == ["slow", "quick"]
    append(stubs, slow, [record_batch(run.id, "at last", number=2, end_of_run=True)])
    assert messages_of(next(following).records) == ["at last"]
    assert next(following).end == pb.TAIL_END_DRAINED


def test_a_tail_begins_where_it_is_told_to(stubs: Stubs) -> None:
    run = make_flow_run(stubs, state={"type": COMPLETED})
    batches = [record_batch(run.id, *"abcde", number=n, end_of_run=n == 3) for n in (1, 2, 3)]
    append(stubs, uuid7(), batches)
    for start in (0, 1, 5, 7, 14, 15, 1000):
        records, end = follow(stubs, run.id, from_ordinal=start)
        assert [record.ordinal for record in records] == list(range(start, 15))
        assert end == pb.TAIL_END_DRAINED


def test_a_tail_can_be_filtered(stubs: Stubs) -> None:
    run = make_flow_run(stubs, state={"type": COMPLETED})
    batches = [
        record_batch(run.id, *"abc", number=1, levels=[10, 40, 20]),
        record_batch(run.id, *"def", number=2),
        record_batch(run.id, *"ghi", number=3, levels=[50, 10, 30], end_of_run=True),
    ]
    append(stubs, uuid7(), batches)
    records, end = follow(stubs, run.id, filter=pb.LogFilter(min_level=30))
    assert (messages_of(records), end) == (["b", "g", "i"], pb.TAIL_END_DRAINED)


def test_a_tail_that_finds_nothing_tells_how_far_it_has_read(stubs: Stubs) -> None:
    run, producer = make_flow_run(stubs, state={"type": RUNNING}), uuid7()
    append(stubs, producer, [record_batch(run.id, *"abc", number=1, levels=[10, 10, 10])])
    for wanted in (
        pb.LogFilter(min_level=50),
        pb.LogFilter(text=pb.TextPattern(substring="nowhere")),
    ):
        following = tail(stubs, run.id, filter=wanted)
        told = next(following)
        assert (list(told.records), told.end) == ([], pb.TAIL_END_UNSPECIFIED)
        assert told.next_ordinal == 3
    append(stubs, producer, [record_batch(run.id, "nowhere", number=2)])
    assert next(following).next_ordinal == 4
    append(stubs, producer, [record_batch(run.id, "x", number=3)])
    assert next(following).next_ordinal == 5


def test_a_chunk_from_an_earlier_time_comes_in_its_turn(stubs: Stubs) -> None:
    run, producer = make_flow_run(stubs, state={"type": RUNNING}), uuid7()
    following = tail(stubs, run.id, filter=pb.LogFilter(since=Timestamp(seconds=1_000)))
    for number, seconds in enumerate((5_000, 2_000, 10, 7_000), 1):
        batch = record_batch(run.id, str(seconds), number=number, base_time={"seconds": seconds})
        append(stubs, producer, [batch])
    seen: list[str] = []
    while len(seen) < 3:
        seen += messages_of(next(following).records)
    assert seen == ["5000", "2000", "7000"]


def test_there_is_no_tail_of_what_is_not_there(stubs: Stubs) -> None:
    with refused(StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        follow(stubs, uuid7())


def test_a_tail_of_a_run_that_is_deleted_ends_with_it(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    append(stubs, uuid7(), [record_batch(run.id, "line", number=1)])
    following = tail(stubs, run.id)
    next(following)
    FlowRuns(stubs).delete(run.id)
    with refused(StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        list(following)


def test_logs_can_be_listed_and_followed_while_many_write(stubs: Stubs) -> None:
    writers, batches = 16, 20
    runs = [make_flow_run(stubs, state={"type": RUNNING}) for _ in range(4)]
    started = threading.Barrier(writers + 2 * len(runs))

    def write(writer: int) -> None:
        started.wait(TIMEOUT)
        run = runs[writer % len(runs)]
        append(
            stubs,
            uuid7(),
            (
                record_batch(
                    run.id, f"{writer}:{n}:a", f"{writer}:{n}:b", number=n, end_of_run=n == batches
                )
                for n in range(1, batches + 1)
            ),
        )

    def tail_to_the_end(run_id: str) -> list[pb.LogRecord]:
        started.wait(TIMEOUT)
        records, end = follow(stubs, run_id)
        assert end == pb.TAIL_END_DRAINED
        return records

    def list_all_along(run_id: str) -> int:
        started.wait(TIMEOUT)
        seen = -1
        expected = writers // len(runs) * batches * 2
        while seen < expected:
            records = read_log(stubs, run_id, page_size=50)
            assert [record.ordinal for record in records] == list(range(len(records)))
            assert len(records) >= seen
            seen = len(records)
            assert FlowRuns(stubs).page(filter={"ids": [run_id]})[0][0].state.type == RUNNING
        return seen

    with ThreadPoolExecutor(writers + 2 * len(runs)) as pool:
        tails = [pool.submit(tail_to_the_end, run.id) for run in runs]
        lists = [pool.submit(list_all_along, run.id) for run in runs]
        for write_one in [pool.submit(write, writer) for writer in range(writers)]:
            write_one.result()
        for listing in lists:
            assert listing.result() == writers // len(runs) * batches * 2
        for run in runs:
            finish(stubs, run.id)
        for tailing in tails:
            followed = [record.ordinal for record in tailing.result()]
            assert followed == list(range(len(followed)))
            assert len(followed) == writers // len(runs) * batches * 2


def test_readers_that_never_read_hold_little_and_hinder_nobody() -> None:
    with ServerProcess() as server, connected(server.target) as stubs:
        run, producer = make_flow_run(stubs, state={"type": RUNNING}), uuid7()
        lines = [f"{n} {uuid7()}" * 20 for n in range(1_000)]
        append(stubs, producer, [record_batch(run.id, *lines, number=n) for n in range(1, 16)])
        # About 15 MB of messages, or more than 150 MB for all readers.
        following = tail(stubs, run.id)
        assert sum(len(next(following).records) for _ in range(3)) > 0
        before = resident_bytes(server.pid)
        silent = [tail(stubs, run.id) for _ in range(12)]
        for each in silent:
            next(each)
        # Whoever reads gets all of it meanwhile, and what is new.
        records = [r for part in tail_until(stubs, run.id, 15_000) for r in part.records]
        assert [record.ordinal for record in records] == list(range(15_000))
        assert resident_bytes(server.pid) - before < 12 * 8_000_000
        for each in (*silent, following):
            each.cancel()  # type: ignore[attr-defined]


def tail_until(stubs: Stubs, run_id: str, ordinal: int) -> Iterator[pb.TailLogsResponse]:
    following = tail(stubs, run_id)
    for part in following:
        yield part
        if part.next_ordinal >= ordinal:
            following.cancel()  # type: ignore[attr-defined]
            return


def test_a_server_that_stops_tells_its_tails_where_to_go_on() -> None:
    with ServerProcess() as server, connected(server.target) as stubs:
        run = make_flow_run(stubs)
        append(stubs, uuid7(), [record_batch(run.id, *"abc", number=1)])
        following = tail(stubs, run.id)
        assert next(following).next_ordinal == 3
        server.stop()
        last = next(following)
        assert (last.end, last.next_ordinal) == (pb.TAIL_END_SERVER_DRAINING, 3)
        assert list(following) == []


def test_silence_before_the_end_does_not_count() -> None:
    end = 10 * DRAIN_SILENCE

    def at(now: int) -> TailEnd | None:
        return drained(LogStatus(StateType.COMPLETED, end, True, 0, now))

    assert at(end + DRAIN_SILENCE) is None
    assert at(end + DRAIN_SILENCE + 1) is TailEnd.SILENT
