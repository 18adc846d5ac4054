"""How soon a tail hears of a line: on the server that took it in, on another one, among many."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import ExitStack
from statistics import median

import grpc
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb

from benchmarks.content import make_running_runs
from benchmarks.databases import Databases
from benchmarks.measure_states import WorkMissing
from benchmarks.processes import Server, plain_interlock_server
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread
from tests.support.stubs import Stubs, connected

_PAUSE = 0.01
"""Seconds between two lines: each is heard of by itself."""

_PATIENCE = 30.0

_MOST_HERE, _MOST_ELSEWHERE = 20.0, 100.0
"""Milliseconds that a line may take on its own server, and on another one."""

_CROWD = 200
"""How many other logs are followed meanwhile, in the row that says so."""


def measure_tails(databases: Databases, scale: Scale) -> list[Result]:
    """Measure from sending a line to its being heard, the commit included."""
    url = databases.new()
    with ExitStack() as stack:
        one = stack.enter_context(plain_interlock_server(url))
        results = [_measured(databases, scale, "one server", one, one)]
        if databases.many_servers:
            other = stack.enter_context(plain_interlock_server(url))
            results.append(_measured(databases, scale, "two servers", one, other))
            where = f"two servers, {_CROWD} more tails"
            results.append(_measured(databases, scale, where, one, other, _CROWD))
    return results


def _measured(
    databases: Databases, scale: Scale, where: str, writing: Server, read: Server, others: int = 0
) -> Result:
    run_id, *other_ids = make_running_runs(writing, 1 + others)
    heard_after, answered_after = [], []
    with connected(writing.target) as stubs, connected(read.target) as reading:
        crowd = [_Tail(reading, id_) for id_ in other_ids]
        tail, producer = _Tail(reading, run_id), _Producer(stubs, run_id)
        for round_ in range(-1, scale.rounds):
            heard, answered = [], []
            for _ in range(scale.watched):
                sent = time.monotonic()
                producer.send()
                answered.append(producer.answered() - sent)
                heard.append(tail.heard() - sent)
                time.sleep(_PAUSE)
            if round_ >= 0:  # The first one warms up.
                heard_after.append(median(heard) * 1000)
                answered_after.append(median(answered) * 1000)
        for each in (tail, *crowd):
            each.end()
        producer.end()
    return Result(
        f"line -> tail, {where}",
        databases.dialect,
        "ms",
        Spread.of(heard_after),
        "acknowledged",
        Spread.of(answered_after),
        target=Target(_MOST_HERE if read is writing else _MOST_ELSEWHERE, "value", at_most=True),
    )


class _Tail:
    """A tail, and when it heard of lines, by `time.monotonic`."""

    def __init__(self, stubs: Stubs, run_id: str) -> None:
        self._call = stubs.logs.TailLogs(pb.TailLogsRequest(run_id=run_id))
        self._times: queue.Queue[float] = queue.Queue()
        threading.Thread(target=self._hear, name="tail", daemon=True).start()

    def _hear(self) -> None:
        try:
            for message in self._call:
                now = time.monotonic()
                for _ in message.records:
                    self._times.put(now)
        except grpc.RpcError:
            pass  # It was ended.

    def heard(self) -> float:
        """Answer when it heard of the next line; wait until it has."""
        try:
            return self._times.get(timeout=_PATIENCE)
        except queue.Empty:
            raise WorkMissing("A tail was not told of a line.") from None

    def end(self) -> None:
        """Follow no more."""
        self._call.cancel()


class _Producer:
    """A stream of batches of one line."""

    def __init__(self, stubs: Stubs, run_id: str) -> None:
        self._batches: queue.Queue[pb.AppendLogsRequest | None] = queue.Queue()
        self._run_id = run_id
        self._number = 0
        self._batches.put(pb.AppendLogsRequest(producer_id=uuid7()))
        self._answers = stubs.logs.AppendLogs(iter(self._batches.get, None))
        next(self._answers)

    def send(self) -> None:
        """Send a line."""
        self._number += 1
        records = pb.LogColumns(messages=["loaded 12 of 300 parts"])
        records.base_time.GetCurrentTime()
        self._batches.put(
            pb.AppendLogsRequest(number=self._number, run_id=self._run_id, records=records)
        )

    def answered(self) -> float:
        """Answer when all that was sent was acknowledged; wait until it is."""
        while next(self._answers).acknowledged < self._number:
            pass
        return time.monotonic()

    def end(self) -> None:
        """Send no more."""
        self._batches.put(None)
