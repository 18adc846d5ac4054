"""Deleting logs, or their oldest part: what goes, what stays, and how everyone goes on."""

import time
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb

from tests.support.logs import append, log_call, messages_of, read_log, record_batch
from tests.support.refusals import refused
from tests.support.runs import (
    COMPLETED,
    RUNNING,
    FlowRuns,
    make_flow_run,
    make_task_run,
    proposal,
)
from tests.support.stubs import Stubs


def delete(stubs: Stubs, run_id: str, before: Timestamp | None = None) -> tuple[int, int]:
    """How many records were deleted, and the ordinal of the first one that is left."""
    answer = stubs.logs.DeleteLogs(pb.DeleteLogsRequest(run_id=run_id, before=before))
    return answer.deleted, answer.first_ordinal


def now() -> Timestamp:
    """A time that is not that of anything done before or behind it."""
    time.sleep(0.002)
    made = Timestamp()
    made.FromMicroseconds(time.time_ns() // 1000)
    time.sleep(0.002)
    return made


def write(stubs: Stubs, run_id: str, *messages: str, **columns: Any) -> None:
    stubs.logs.WriteLogs(log_call(run_id, *messages, **columns))


def numbered(records: list[pb.LogRecord]) -> list[tuple[int, str]]:
    return [(record.ordinal, record.message) for record in records]


def test_a_log_is_deleted_and_goes_on_behind_its_last_ordinal(stubs: Stubs) -> None:
    run, producer = make_flow_run(stubs), uuid7()
    task = make_task_run(stubs, flow_run_id=run.id)
    batches = [record_batch(run.id, "a", "b", number=1, task_run_ids=[task.id])]
    append(stubs, producer, batches)
    write(stubs, run.id, "c")

    assert delete(stubs, run.id) == (3, 3)
    assert delete(stubs, run.id) == (0, 3)
    assert read_log(stubs, run.id) == []
    assert read_log(stubs, run.id, descending=True) == []

    # What was deleted is not new when it comes again.
    appended = append(stubs, producer, [*batches, record_batch(run.id, "d", number=2)])
    assert (appended.durable_before, appended.acknowledged) == (1, 2)
    write(stubs, run.id, "e", task_run_ids=[task.id])
    assert numbered(read_log(stubs, run.id)) == [(3, "d"), (4, "e")]
    of_task = pb.LogFilter(task_run_ids=[task.id])
    assert numbered(read_log(stubs, run.id, filter=of_task)) == [(4, "e")]
    assert delete(stubs, run.id) == (2, 5)


def test_only_what_came_before_a_time_is_deleted(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    start = now()
    # Their makers' clocks do not count.
    write(stubs, run.id, "a", base_time={"seconds": 9_000_000_000})
    write(stubs, run.id, "b")
    middle = now()
    write(stubs, run.id, "c", base_time={"seconds": 1})
    write(stubs, run.id, "d")

    assert delete(stubs, run.id, start) == (0, 0)
    assert delete(stubs, run.id, middle) == (2, 2)
    assert delete(stubs, run.id, middle) == (0, 2)
    left = [(2, "c"), (3, "d")]
    assert numbered(read_log(stubs, run.id)) == left
    assert numbered(read_log(stubs, run.id, page_size=1)) == left
    assert numbered(read_log(stubs, run.id, page_size=1, descending=True)) == left[::-1]
    assert delete(stubs, run.id, Timestamp(seconds=200_000_000_000)) == (2, 4)


def test_a_run_without_a_log_has_nothing_to_delete(stubs: Stubs) -> None:
    run, alone = make_flow_run(stubs), make_task_run(stubs)
    inside = make_task_run(stubs, flow_run_id=run.id)
    assert delete(stubs, run.id) == (0, 0)
    assert delete(stubs, alone.id) == (0, 0)
    write(stubs, alone.id, "mine")
    assert delete(stubs, alone.id) == (1, 1)
    with refused(StatusCode.INVALID_ARGUMENT, "TASK_RUN_IN_FLOW_RUN", "run_id"):
        delete(stubs, inside.id)
    with refused(StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        delete(stubs, uuid7())
    FlowRuns(stubs).delete(run.id)
    with refused(StatusCode.NOT_FOUND, "DELETED"):
        delete(stubs, run.id)


def test_a_log_of_many_chunks_is_deleted_whole(stubs: Stubs) -> None:
    run, count = make_flow_run(stubs), 1_203
    task = make_task_run(stubs, flow_run_id=run.id)
    append(
        stubs,
        uuid7(),
        (record_batch(run.id, "x", number=n + 1, task_run_ids=[task.id]) for n in range(count)),
    )
    assert delete(stubs, run.id) == (count, count)
    assert read_log(stubs, run.id, filter=pb.LogFilter(task_run_ids=[task.id])) == []


def test_pages_go_on_where_a_log_was_deleted(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    for part in ("ab", "cd"):
        write(stubs, run.id, *part)
    middle = now()
    write(stubs, run.id, *"ef")

    def second_page(descending: bool) -> pb.ListLogsResponse:
        request = pb.ListLogsRequest(run_id=run.id, page_size=1, descending=descending)
        request.page_token = stubs.logs.ListLogs(request).next_page_token
        delete(stubs, run.id, middle)
        return stubs.logs.ListLogs(request)

    assert numbered(list(second_page(descending=False).records)) == [(4, "e")]
    page = second_page(descending=True)
    assert numbered(list(page.records)) == [(4, "e")]
    request = pb.ListLogsRequest(run_id=run.id, page_size=1)
    request.page_token = stubs.logs.ListLogs(request).next_page_token
    delete(stubs, run.id)
    page = stubs.logs.ListLogs(request)
    assert (list(page.records), page.next_page_token) == ([], "")


def test_a_tail_goes_on_where_its_log_was_deleted(stubs: Stubs) -> None:
    run = make_flow_run(stubs, state={"type": RUNNING})
    write(stubs, run.id, "a", "b")
    following = stubs.logs.TailLogs(pb.TailLogsRequest(run_id=run.id), timeout=60)
    assert numbered(list(next(following).records)) == [(0, "a"), (1, "b")]
    delete(stubs, run.id)
    write(stubs, run.id, "c")
    assert numbered(list(next(following).records)) == [(2, "c")]

    late = stubs.logs.TailLogs(pb.TailLogsRequest(run_id=run.id, from_ordinal=1), timeout=60)
    assert numbered(list(next(late).records)) == [(2, "c")]
    delete(stubs, run.id)
    FlowRuns(stubs).propose(proposal(run.id, COMPLETED))
    for tail in (following, late):
        assert [part.end for part in tail if part.end] == [pb.TAIL_END_DRAINED]


def test_a_log_is_appended_to_while_it_is_deleted(stubs: Stubs) -> None:
    run, count = make_flow_run(stubs), 60
    deleted: list[tuple[int, int]] = []

    def batches() -> Any:
        for number in range(1, count + 1):
            if number % 20 == 0:
                deleted.append(delete(stubs, run.id))
            yield record_batch(run.id, str(number), number=number)

    appended = append(stubs, uuid7(), batches())
    assert (appended.acknowledged, appended.refused) == (count, [])
    left = read_log(stubs, run.id)
    assert sum(number for number, _ in deleted) + len(left) == count
    assert [record.ordinal for record in left] == list(range(deleted[-1][1], count))
    assert messages_of(left) == [str(record.ordinal + 1) for record in left]
