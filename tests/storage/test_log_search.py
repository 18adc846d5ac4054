"""Searching the logs of many runs, on every dialect."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb
from interlock.v1 import state_pb2
from interlock.v1.flow_run_pb2 import FlowRunFilter

from tests.support.logs import append, record_batch
from tests.support.runs import COMPLETED, FAILED, make_flow, make_flow_run, make_task_run
from tests.support.servers import ServerProcess
from tests.support.stubs import Stubs, connected

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


@dataclass
class Logs:
    """What is in the logs, youngest run first, as one would keep it without a database."""

    flow_id: str
    records: dict[str, list[pb.LogRecord]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def search(self, request: pb.SearchLogsRequest, matches: Any) -> list[tuple[str, int, bool]]:
        """Run, ordinal, and whether it is just context."""
        found = []
        before, after = request.context_before, request.context_after
        for run_id in sorted(self.records, reverse=not request.oldest_first):
            if request.run_ids and run_id not in request.run_ids:
                continue
            if request.flow_runs.state_types and run_id not in self.failed:
                continue
            log = self.records[run_id]
            hits = [record.ordinal for record in log if matches(record)]
            found += [
                (run_id, ordinal, ordinal not in hits)
                for ordinal in range(len(log))
                if any(hit - before <= ordinal <= hit + after for hit in hits)
            ]
        return found


@pytest.fixture(scope="module")
def logs(stubs: Stubs) -> Logs:
    """Five runs with logs in chunks of one to nine records."""
    draw = random.Random(5)
    made = Logs(make_flow(stubs).id)
    task_run = ""
    for number in range(5):
        state = {"type": FAILED if number % 2 else COMPLETED}
        run = make_flow_run(stubs, made.flow_id, state=state)
        if number % 2:
            made.failed.add(run.id)
        task_run = make_task_run(stubs, flow_run_id=run.id).id
        batches = []
        for batch in range(1, draw.randint(6, 14)):
            size = draw.randint(1, 9)
            columns = {
                "levels": [draw.choice([10, 20, 40]) for _ in range(size)],
                "time_offsets_us": [batch * 60 * SECOND + i for i in range(size)],
                "loggers": ["a", "b"],
                "logger_indexes": [draw.randint(0, 1) for _ in range(size)],
                "task_run_ids": [task_run],
                "task_run_indexes": [batch % 2] * size,
            }
            messages = [
                f"{draw.choice(['load', 'store'])} {draw.randint(0, 9)}" for _ in range(size)
            ]
            batches.append(record_batch(run.id, *messages, number=batch, **columns))
        append(stubs, uuid7(), batches)
        log = stubs.logs.ListLogs(pb.ListLogsRequest(run_id=run.id, page_size=1000))
        made.records[run.id] = list(log.records)
    return made


def send(stubs: Stubs, request: pb.SearchLogsRequest) -> Iterator[pb.SearchLogsResponse]:
    return stubs.logs.SearchLogs(request, timeout=60)


def search_on(stubs: Stubs, request: pb.SearchLogsRequest) -> list[tuple[str, int, bool]]:
    """Search to the end, over as many calls as it takes."""
    found: list[tuple[str, int, bool]] = []
    asked = pb.SearchLogsRequest()
    asked.CopyFrom(request)
    while True:
        end = pb.SEARCH_END_UNSPECIFIED
        for answer in send(stubs, asked):
            assert not end, "the last message was not the last"
            end = answer.end
            asked.resume_token = answer.resume_token
            found += [(it.run_id, it.record.ordinal, it.is_context) for it in answer.records]
        assert end
        if end == pb.SEARCH_END_ALL_SEARCHED:
            assert not asked.resume_token
            return found


def since(minute: int) -> Timestamp:
    return Timestamp(seconds=START // SECOND + 60 * minute)


def minute_of(record: pb.LogRecord) -> int:
    return (record.time.seconds - START // SECOND) // 60


CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "all": ({}, lambda it: True),
    "text": ({"text": {"substring": "load 7"}}, lambda it: it.message == "load 7"),
    "regex": (
        {"text": {"regex": "^S.*3$", "ignore_case": True}},
        lambda it: it.message == "store 3",
    ),
    "level": ({"min_level": 40}, lambda it: it.level >= 40),
    "logger": ({"loggers": ["a"]}, lambda it: it.logger == "a"),
    "time": (
        {"since": since(3), "until": since(5)},
        lambda it: 3 <= minute_of(it) < 5,
    ),
    "level, time and text": (
        {"min_level": 20, "since": since(4), "text": {"substring": "load"}},
        lambda it: it.level >= 20 and minute_of(it) >= 4 and "load" in it.message,
    ),
    "nothing": ({"text": {"substring": "nowhere"}}, lambda it: False),
}


@pytest.mark.parametrize("context", [(0, 0), (2, 3), (100, 100)])
def test_a_search_finds_what_matches_and_what_is_near_it(
    stubs: Stubs, logs: Logs, context: tuple[int, int]
) -> None:
    failed = FlowRunFilter(flow_ids=[logs.flow_id], state_types=[state_pb2.STATE_TYPE_FAILED])
    ids = list(logs.records)
    for name, (filter_, matches) in CASES.items():
        request = pb.SearchLogsRequest(
            filter=pb.LogFilter(**filter_), context_before=context[0], context_after=context[1]
        )
        in_runs = pb.SearchLogsRequest(run_ids=ids[1:3], oldest_first=True)
        for chosen in (in_runs, pb.SearchLogsRequest(flow_runs=failed)):
            chosen.MergeFrom(request)
            assert search_on(stubs, chosen) == logs.search(chosen, matches), name


@pytest.mark.parametrize("limits", [{"max_matches": 7}, {"max_scanned": 1}])
def test_a_search_goes_on_behind_its_limits(
    stubs: Stubs, logs: Logs, limits: dict[str, Any]
) -> None:
    for name in ("text", "level, time and text"):
        filter_, matches = CASES[name]
        request = pb.SearchLogsRequest(
            run_ids=list(logs.records),
            filter=pb.LogFilter(**filter_),
            context_before=2,
            context_after=3,
            **limits,
        )
        assert search_on(stubs, request) == logs.search(request, matches)


def test_a_search_of_all_logs_finds_those_of_others_too(stubs: Stubs, logs: Logs) -> None:
    task_run = logs.records[max(logs.records)][-1].task_run_id or next(
        each.task_run_id for each in logs.records[max(logs.records)] if each.task_run_id
    )
    for wanted in (
        pb.LogFilter(task_run_ids=[task_run]),
        pb.LogFilter(since=since(2), text=pb.TextPattern(substring="load 7")),
        pb.LogFilter(text=pb.TextPattern(substring="load 7")),
    ):
        found = search_on(stubs, pb.SearchLogsRequest(filter=wanted))
        expected = logs.search(
            pb.SearchLogsRequest(),
            lambda it, wanted=wanted: (
                it.task_run_id == task_run
                if wanted.task_run_ids
                else it.message == "load 7" and (minute_of(it) >= 2 or not wanted.HasField("since"))
            ),
        )
        assert [each for each in found if each[0] in logs.records] == expected
        assert found == sorted(found, key=lambda each: -int(each[0].replace("-", ""), 16))


def test_a_search_says_how_far_it_came_and_why_it_ended(stubs: Stubs, logs: Logs) -> None:
    request = pb.SearchLogsRequest(run_ids=list(logs.records))
    total = sum(map(len, logs.records.values()))
    *_, last = send(stubs, request)
    assert (last.end, last.scanned, last.matches) == (pb.SEARCH_END_ALL_SEARCHED, total, total)
    request.max_matches = 3
    *_, last = send(stubs, request)
    assert (last.end, last.matches) == (pb.SEARCH_END_ENOUGH_MATCHES, 3)
    request.max_matches, request.max_scanned = 0, 1
    *_, last = send(stubs, request)
    assert last.end == pb.SEARCH_END_ENOUGH_SCANNED
    assert 0 < last.scanned < total


def test_chunks_that_can_not_match_are_not_looked_at(stubs: Stubs, logs: Logs) -> None:
    run_id = next(iter(logs.records))
    wanted = pb.LogFilter(since=since(3), until=since(4))
    *_, last = send(stubs, pb.SearchLogsRequest(run_ids=[run_id], filter=wanted))
    assert (
        last.scanned == last.matches == sum(minute_of(each) == 3 for each in logs.records[run_id])
    )


def test_large_finds_come_in_parts_and_can_be_resumed_behind_each(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    lines = [f"{number} {'x' * 50_000}" for number in range(60)]
    append(stubs, uuid7(), [record_batch(run.id, *lines, number=1)])
    request = pb.SearchLogsRequest(run_ids=[run.id], context_before=1)
    request.filter.text.regex = "^[0-9]*[05] "
    answers = list(send(stubs, request))
    assert len([answer for answer in answers if answer.records]) > 1
    whole = [each.record.ordinal for answer in answers for each in answer.records]
    assert whole == [n for n in range(60) if n % 5 in (0, 4)][:-1]
    came = 0
    for answer in answers[:-1]:
        came += len(answer.records)
        request.resume_token = answer.resume_token
        rest = [each.record.ordinal for part in send(stubs, request) for each in part.records]
        assert rest == whole[came:]


def test_a_server_that_stops_tells_its_searches_where_to_go_on() -> None:
    with ServerProcess() as server, connected(server.target) as stubs:
        run = make_flow_run(stubs)
        line = "x" * 60_000
        for _ in range(20):
            append(stubs, uuid7(), [record_batch(run.id, *[line] * 100, number=1)])
        answers = send(stubs, pb.SearchLogsRequest(max_matches=100_000))
        # Far more than gRPC takes ahead of its reader.
        first = next(answers)
        assert first.records
        with ThreadPoolExecutor(1) as other:
            stopping = other.submit(server.stop)
            *_, last = answers
            stopping.result()
        assert last.end == pb.SEARCH_END_SERVER_DRAINING
        assert last.resume_token
