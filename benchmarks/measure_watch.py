"""How soon a watcher hears of a commit, on the server that made it and on another one."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from statistics import median

import grpc
from interlock.ids import uuid7
from interlock.v1 import flow_run_pb2, run_event_pb2, state_pb2

from benchmarks.content import make_running_runs
from benchmarks.databases import Databases
from benchmarks.measure_states import WorkMissing
from benchmarks.processes import Server, plain_interlock_server
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread
from tests.support.stubs import Stubs, connected

_PAUSE = 0.01
"""Seconds between two commits: each is heard of by itself."""

_PATIENCE = 30.0


def measure_watch(databases: Databases, scale: Scale) -> list[Result]:
    """Measure from the proposal to its event, the commit included."""
    url = databases.new()
    with ExitStack() as stack:
        one = stack.enter_context(plain_interlock_server(url))
        results = [_measured(databases, scale, "one server", one, one, 20)]
        if databases.many_servers:
            other = stack.enter_context(plain_interlock_server(url))
            results.append(_measured(databases, scale, "two servers", one, other, 100))
    return results


def _measured(
    databases: Databases, scale: Scale, where: str, writing: Server, watched: Server, most: float
) -> Result:
    (run_id,) = make_running_runs(writing, 1)
    heard_after, answered_after = [], []
    with connected(writing.target) as stubs, connected(watched.target) as watching:
        hearing = _Hearing(watching, run_id)
        for _ in range(scale.rounds):
            heard, answered = _round(stubs, hearing, run_id, scale.watched)
            heard_after.append(median(heard) * 1000)
            answered_after.append(median(answered) * 1000)
        hearing.end()
    return Result(
        f"commit -> watcher, {where}",
        databases.dialect,
        "ms",
        Spread.of(heard_after),
        "answer",
        Spread.of(answered_after),
        target=Target(most, "value", at_most=True),
    )


def _round(
    stubs: Stubs, hearing: _Hearing, run_id: str, count: int
) -> tuple[list[float], list[float]]:
    heard, answered = [], []
    for _ in range(count):
        proposal = state_pb2.Proposal(id=uuid7(), run_id=run_id)
        proposal.state.type = state_pb2.STATE_TYPE_RUNNING
        request = flow_run_pb2.FlowRunServiceSetStateRequest(proposal=proposal)
        sent = time.monotonic()
        stubs.flow_runs.SetState(request)
        answered.append(time.monotonic() - sent)
        heard.append(hearing.of(proposal.id) - sent)
        time.sleep(_PAUSE)
    return heard, answered


class _Hearing:
    """A watch, and when it heard of what."""

    def __init__(self, stubs: Stubs, run_id: str) -> None:
        wanted = run_event_pb2.RunEventFilter(run_ids=[run_id])
        self._call = stubs.run_events.WatchRuns(run_event_pb2.WatchRunsRequest(filter=wanted))
        next(self._call)
        self._times: dict[str, float] = {}
        self._news = threading.Condition()
        threading.Thread(target=self._hear, name="watcher", daemon=True).start()

    def _hear(self) -> None:
        try:
            for message in self._call:
                now = time.monotonic()
                with self._news:
                    self._times |= {event.state.id: now for event in message.events}
                    self._news.notify_all()
        except grpc.RpcError:
            pass  # It was ended.

    def of(self, state_id: str) -> float:
        """Answer when it heard of a state, by `time.monotonic`; wait until it has."""
        with self._news:
            if not self._news.wait_for(lambda: state_id in self._times, _PATIENCE):
                raise WorkMissing("A watcher was not told of a commit.")
            return self._times[state_id]

    def end(self) -> None:
        """Watch no more."""
        self._call.cancel()
