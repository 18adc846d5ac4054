"""Lists and histories among very many runs: how long a page takes, and a window of time."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from interlock.v1 import filter_pb2, flow_run_pb2, state_pb2
from sqlalchemy import make_url

from benchmarks.databases import Databases
from benchmarks.processes import interlock_server
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread
from tests.support.many_runs import RARE, RUNNING, SECOND, START, fill, id_of
from tests.support.stubs import Stubs, connected

PAGE = 50
_CALLS = 120
"""Of each filter and order in a round: the slowest one in a hundred is among them."""

Order = flow_run_pb2.FlowRunOrder

_ORDERS = (
    flow_run_pb2.FLOW_RUN_ORDER_ID_DESC,
    flow_run_pb2.FLOW_RUN_ORDER_EXPECTED_START_TIME_ASC,
    flow_run_pb2.FLOW_RUN_ORDER_EXPECTED_START_TIME_DESC,
)


class WrongAnswer(Exception):
    """A list or a history that is not what was put there."""


def _filters(count: int) -> dict[str, tuple[flow_run_pb2.FlowRunFilter, int]]:
    """The filters, and how many runs a page of each has."""
    failed, running = state_pb2.STATE_TYPE_FAILED, state_pb2.STATE_TYPE_RUNNING
    hour = filter_pb2.TimeFilter()
    hour.after.FromMicroseconds(START + SECOND * (count // 2))
    hour.before.FromMicroseconds(START + SECOND * (count // 2 + 3600))
    make = flow_run_pb2.FlowRunFilter
    return {
        "a state": (make(state_types=[failed]), PAGE),
        "a flow and a state": (
            make(flow_ids=[id_of(23)], state_types=[failed]),
            min(PAGE, count // 500),
        ),
        "a flow and a state, few": (make(flow_ids=[id_of(17)], state_types=[running]), RUNNING),
        "a tag": (make(tags=filter_pb2.TagFilter(all=["nightly"])), PAGE),
        "a tag, few": (make(tags=filter_pb2.TagFilter(any=["rare"])), RARE),
        "a part of the name": (make(name_contains="ORDERS"), PAGE),
        "an hour and a state": (make(expected_start_time=hour, state_types=[failed]), PAGE),
    }


def measure_lists(databases: Databases, scale: Scale) -> list[Result]:
    """Measure the slowest of a hundred pages, by each filter in each order."""
    url = databases.new()
    fill(url, scale.runs)
    results = []
    with interlock_server(url) as server, connected(server.target) as stubs:
        for name, (filter_, expected) in _filters(scale.runs).items():
            rounds = [_times(stubs, filter_, expected) for _ in range(scale.rounds)]
            slowest = [_at(times, 0.99) for times in rounds]
            results.append(
                Result(
                    f"ListFlowRuns, {PAGE} of {scale.runs:,} by {name}",
                    databases.dialect,
                    "ms (p99)",
                    Spread.of(slowest),
                    target=Target(20, "value", at_most=True),
                    details={"ms (p50)": Spread.of([_at(t, 0.5) for t in rounds]).median},
                )
            )
        results += _measure_histories(databases, scale, url, stubs)
    return results


def _times(stubs: Stubs, filter_: flow_run_pb2.FlowRunFilter, expected: int) -> list[float]:
    """How many milliseconds each of some calls took."""
    times = []
    for call in range(_CALLS):
        request = flow_run_pb2.ListFlowRunsRequest(
            filter=filter_, page_size=PAGE, order_by=_ORDERS[call % len(_ORDERS)]
        )
        began = time.perf_counter()
        page = stubs.flow_runs.ListFlowRuns(request)
        times.append((time.perf_counter() - began) * 1000)
        if len(page.flow_runs) != expected:
            raise WrongAnswer(f"{len(page.flow_runs)} runs where {expected} were to be")
    return times


def _at(times: list[float], part: float) -> float:
    return sorted(times)[int(len(times) * part)]


# --- histories ------------------------------------------------------------------------------------

_BARE = """
    SELECT (expected_start_time - {start}) / {interval}, state_type, state_name, count(*),
        sum(total_run_time + CASE WHEN state_type = 'RUNNING' AND state_timestamp < {now}
            THEN {now} - state_timestamp ELSE 0 END),
        sum(CASE WHEN start_time > expected_start_time THEN start_time - expected_start_time
            WHEN start_time IS NULL AND expected_start_time < {now}
                AND state_type NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'CRASHED')
            THEN {now} - expected_start_time ELSE 0 END)
    FROM flow_run WHERE expected_start_time >= {start} AND expected_start_time < {end}
    GROUP BY 1, 2, 3
"""


def _measure_histories(
    databases: Databases, scale: Scale, url: str, stubs: Stubs
) -> Iterator[Result]:
    with _bare(url) as ask:
        for runs in (min(100_000, scale.runs // 2), scale.runs):
            ours, bare = [], []
            for _ in range(scale.rounds + 1):
                bare.append(_bare_time(ask, runs))
                ours.append(_history_time(stubs, runs))
            # The first one warms up.
            yield Result(
                f"GetHistory of {runs:,} runs",
                databases.dialect,
                "ms",
                Spread.of(ours[1:]),
                "the bare SQL",
                Spread.of(bare[1:]),
                Spread.of_ratios(ours[1:], bare[1:]),
                Target(1.3, "ratio", at_most=True),
            )


def _interval(runs: int) -> int:
    return max(1, runs // 100) * SECOND


def _history_time(stubs: Stubs, runs: int) -> float:
    seconds = START // SECOND
    request = flow_run_pb2.FlowRunServiceGetHistoryRequest(
        start_time=Timestamp(seconds=seconds),
        end_time=Timestamp(seconds=seconds + runs),
        interval=Duration(seconds=_interval(runs) // SECOND),
    )
    began = time.perf_counter()
    buckets = stubs.flow_runs.GetHistory(request).buckets
    took = (time.perf_counter() - began) * 1000
    counted = sum(each.count for bucket in buckets for each in bucket.counts)
    if counted != runs:
        raise WrongAnswer(f"{counted} runs in a history of {runs}")
    return took


def _bare_time(ask: Callable[[str], Any], runs: int) -> float:
    statement = _BARE.format(
        start=START, end=START + runs * SECOND, interval=_interval(runs), now=time.time_ns() // 1000
    )
    began = time.perf_counter()
    ask(statement)
    return (time.perf_counter() - began) * 1000


@contextmanager
def _bare(url: str) -> Iterator[Callable[[str], Any]]:
    """Ask a database by its driver alone."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        sqlite = sqlite3.connect(str(address.database))
        yield lambda statement: sqlite.execute(statement).fetchall()
        sqlite.close()
        return
    plain = address.set(drivername="postgresql").render_as_string(hide_password=False)
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(plain))
        yield lambda statement: runner.run(connection.fetch(statement))
        runner.run(connection.close())
