"""GetHistory: runs by time and state, on every dialect."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from interlock.v1 import flow_run_pb2, task_run_pb2

from tests.storage.test_pages import due, family
from tests.support.refusals import refused
from tests.support.runs import CANCELLED, RUNNING, SCHEDULED, FlowRuns, Runs, proposal
from tests.support.stubs import Stubs

FUTURE = 10_000_000_000
"""A time, in seconds, at which nothing in these tests is late."""


def history(stubs: Stubs, runs: Runs, filter_: dict[str, Any], **request: Any) -> list[Any]:
    """The buckets; times and the interval are given in seconds."""
    made: dict[str, Any] = {}
    for field, seconds in request.items():
        whole, rest = divmod(round(seconds * 1_000_000), 1_000_000)
        made[field] = {"seconds": whole, "nanos": rest * 1000}
    if isinstance(runs, FlowRuns):
        flow_runs = flow_run_pb2.FlowRunServiceGetHistoryRequest(**made)
        flow_runs.filter.CopyFrom(flow_run_pb2.FlowRunFilter(**filter_))
        return list(stubs.flow_runs.GetHistory(flow_runs).buckets)
    task_runs = task_run_pb2.TaskRunServiceGetHistoryRequest(**made)
    task_runs.filter.CopyFrom(task_run_pb2.TaskRunFilter(**filter_))
    return list(stubs.task_runs.GetHistory(task_runs).buckets)


def counts(bucket: Any) -> dict[tuple[int, str], int]:
    return {(each.state_type, each.state_name): each.count for each in bucket.counts}


def test_runs_count_where_they_were_first_due_and_empty_buckets_are_there(
    stubs: Stubs, runs: Runs
) -> None:
    parent, mine = family(stubs, runs)
    # 10 s from 0.5 s on: a run at the very start counts, one at the very end does not.
    times = [0.5, 0.500001, 3.499999, 3.5, 9.4, 10.5, 12.499999, 12.5]
    for time in times:
        runs.make(**parent, state=due(FUTURE + int(time), round(time % 1 * 1_000_000)))
    odd = runs.make(**parent, state=due(FUTURE + 3) | {"name": "Odd"})
    start, end = FUTURE + 0.5, FUTURE + 10.6
    buckets = history(stubs, runs, mine, start_time=start, end_time=end, interval=3)
    scheduled = (SCHEDULED, "Scheduled")
    assert [counts(bucket) for bucket in buckets] == [
        {scheduled: 3, (SCHEDULED, "Odd"): 1},
        {scheduled: 1},
        {scheduled: 1},
        # The last one is whole: it goes on beyond the end.
        {scheduled: 2},
    ]
    bounds = [(b.start_time.ToMicroseconds(), b.end_time.ToMicroseconds()) for b in buckets]
    first = FUTURE * 1_000_000 + 500_000
    assert bounds == [(first + 3_000_000 * i, first + 3_000_000 * (i + 1)) for i in range(4)]
    # Moved on, a run counts as what it is now, where it was first due.
    runs.propose(proposal(odd.id, CANCELLED))
    buckets = history(stubs, runs, mine, start_time=start, end_time=end, interval=3)
    assert counts(buckets[0]) == {scheduled: 3, (CANCELLED, "Cancelled"): 1}
    odd_filter = mine | {"ids": [odd.id]}
    buckets = history(stubs, runs, odd_filter, start_time=start, end_time=end, interval=3)
    assert [counts(bucket) for bucket in buckets] == [{(CANCELLED, "Cancelled"): 1}, {}, {}, {}]
    nothing = mine | {"tags": {"any": ["nothing"]}}
    buckets = history(stubs, runs, nothing, start_time=start, end_time=end, interval=3)
    assert [counts(bucket) for bucket in buckets] == [{}] * 4


def test_times_before_1970_and_of_any_length_have_their_buckets(stubs: Stubs, runs: Runs) -> None:
    parent, mine = family(stubs, runs)
    for time in (-62_135_596_800, -1, 0, 253_402_300_799):
        runs.make(**parent, state=due(time))
    year = 366 * 86_400
    buckets = history(stubs, runs, mine, start_time=-2, end_time=1, interval=1)
    assert [sum(counts(bucket).values()) for bucket in buckets] == [0, 1, 1]
    long_ago = {"start_time": -62_135_596_800, "end_time": -62_135_596_800 + 500 * year}
    buckets = history(stubs, runs, mine, **long_ago, interval=year)
    assert [sum(counts(bucket).values()) for bucket in buckets] == [1] + [0] * 499
    assert buckets[0].counts[0].total_lateness.seconds > 60_000_000_000
    # All together they are later than 64 bits of microseconds, and than a Duration.
    for _ in range(160):
        runs.make(**parent, state=due(-62_135_596_800))
    (late,) = history(stubs, runs, mine, **long_ago, interval=10 * year)[0].counts
    assert late.count == 161
    assert late.total_lateness.seconds == 315_576_000_000


def test_run_time_and_lateness_are_those_of_the_runs(stubs: Stubs, runs: Runs) -> None:
    parent, mine = family(stubs, runs)
    goes_on = runs.make(**parent, state={"type": RUNNING})
    late = runs.make(**parent, state=due(1_000_000_000))
    started_late = runs.make(**parent, state=due(1_000_000_000))
    runs.propose(proposal(started_late.id, RUNNING, force=True))
    never_started = runs.make(**parent, state=due(1_000_000_000))
    runs.propose(proposal(never_started.id, CANCELLED))
    early = runs.make(**parent, state=due(FUTURE))
    runs.propose(proposal(early.id, RUNNING, force=True))

    def of(run: Any) -> tuple[Any, Any, Any]:
        """The count of one run, and the run read before and after it."""
        before = runs.get(run.id)
        at = run.expected_start_time.ToMicroseconds() / 1_000_000
        window = {"start_time": at - 1, "end_time": at + 1, "interval": 2}
        only = {**mine, "ids": [run.id]}
        ((count,),) = [bucket.counts for bucket in history(stubs, runs, only, **window)]
        return before, count, runs.get(run.id)

    for run in (goes_on, late, started_late, never_started, early):
        before, count, after = of(run)
        for field in ("estimated_run_time", "lateness"):
            length = getattr(count, f"total_{field}").ToMicroseconds()
            least, most = (getattr(r, field).ToMicroseconds() for r in (before, after))
            assert least <= length <= most
    assert of(early)[1].total_lateness.ToMicroseconds() == 0
    assert of(goes_on)[1].total_estimated_run_time.ToMicroseconds() > 0


WRONG: list[tuple[str, dict[str, float]]] = [
    ("interval", {"start_time": 0, "end_time": 10, "interval": 0.999999}),
    ("interval", {"start_time": 0, "end_time": 501, "interval": 1}),
    ("interval", {"start_time": 0, "end_time": 10}),
    ("interval", {"start_time": 0, "end_time": 10, "interval": -1}),
    ("end_time", {"start_time": 10, "end_time": 10, "interval": 1}),
    ("end_time", {"start_time": 10, "interval": 1}),
    ("start_time", {"end_time": 10, "interval": 1}),
    ("start_time", {"start_time": 1e14, "end_time": 1, "interval": 1}),
    ("end_time", {"start_time": 253_402_300_000, "end_time": 253_402_300_799, "interval": 1000}),
    ("filter.ids[0]", {"start_time": 0, "end_time": 1, "interval": 1}),
]


@pytest.mark.parametrize(("field", "request_"), WRONG)
def test_a_request_that_makes_no_sense_is_refused(
    stubs: Stubs, runs: Runs, field: str, request_: dict[str, float]
) -> None:
    filter_ = {"ids": ["x"]} if field.startswith("filter") else {}
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field):
        history(stubs, runs, filter_, **request_)


def test_as_many_buckets_as_there_may_be_are_answered(stubs: Stubs, runs: Runs) -> None:
    buckets = history(stubs, runs, {}, start_time=0, end_time=500, interval=1)
    assert len(buckets) == 500
    assert buckets[-1].end_time == Timestamp(seconds=500)
