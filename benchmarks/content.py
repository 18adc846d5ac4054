"""What is in Interlock before a measure begins, and what is read back after it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from interlock.ids import uuid7
from interlock.v1 import flow_pb2, flow_run_pb2, log_pb2, state_pb2

from benchmarks.processes import Server
from tests.support.stubs import connected

_CALLERS = 32
_PAGE = 500


def make_running_runs(server: Server, count: int) -> list[str]:
    """Make flow runs that are in RUNNING, and answer their ids."""
    with connected(server.target) as stubs, ThreadPoolExecutor(_CALLERS) as threads:
        name = f"benchmark-{uuid7()}"
        flow = stubs.flows.CreateFlow(flow_pb2.CreateFlowRequest(name=name)).flow
        requests = [
            flow_run_pb2.CreateFlowRunRequest(
                id=uuid7(),
                flow_id=flow.id,
                name=f"nightly-{number}",
                parameters_json='{"date": "2026-01-31", "parts": 8, "dry_run": false}',
                tags=["nightly", "team-data"],
                state=state_pb2.StateDraft(type=state_pb2.STATE_TYPE_RUNNING),
            )
            for number in range(count)
        ]
        made = threads.map(stubs.flow_runs.CreateFlowRun, requests)
        return [answer.flow_run.id for answer in made]


def count_attempts(server: Server, run_ids: Sequence[str]) -> int:
    """Read how often the runs have entered RUNNING, all together: each SetState here adds one."""
    total = 0
    with connected(server.target) as stubs:
        for start in range(0, len(run_ids), _PAGE):
            ids = run_ids[start : start + _PAGE]
            page = stubs.flow_runs.ListFlowRuns(
                flow_run_pb2.ListFlowRunsRequest(
                    filter=flow_run_pb2.FlowRunFilter(ids=ids), page_size=_PAGE
                )
            )
            assert len(page.flow_runs) == len(ids), "A run is missing."
            total += sum(run.run_count for run in page.flow_runs)
    return total


def count_lines(server: Server, run_ids: Sequence[str]) -> int:
    """Read how many lines the runs' logs have, all together."""
    with connected(server.target) as stubs:
        return sum(
            record.ordinal + 1
            for run_id in run_ids
            for record in stubs.logs.ListLogs(
                log_pb2.ListLogsRequest(run_id=run_id, page_size=1, descending=True)
            ).records
        )
