"""How much memory a server takes under clients that would have it keep more than it can."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from interlock.ids import uuid7
from interlock.log_columns import pack
from interlock.v1 import log_pb2 as pb
from interlock_server.rpc.limits import LOG_WINDOW_BYTES

from benchmarks.clients import LogProducer, produce_logs
from benchmarks.content import count_lines, make_running_runs
from benchmarks.databases import Databases
from benchmarks.log_lines import LogLines
from benchmarks.measure_states import WorkMissing
from benchmarks.processes import Server, interlock_server, resident_bytes, together
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread
from tests.support.stubs import Stubs, connected

_PRODUCERS = 8
_READERS = 20
"""Of each kind."""
_BATCH = 1000
_COMMIT_DELAY = 0.1
"""Seconds for which each commit waits: a disk that is far slower than the producers."""
_LOOK = 0.05
_MIB = 1024 * 1024

_BOUND = 2 * _PRODUCERS * LOG_WINDOW_BYTES / _MIB
"""MiB. Each stream has a window of messages in memory, once more as what they are read into."""


def measure_memory(databases: Databases, scale: Scale) -> list[Result]:
    """Measure the most that a server has above what it has idle, by kinds of clients."""
    return [_producers(databases, scale), _readers(databases, scale)]


def _producers(databases: Databases, scale: Scale) -> Result:
    url = databases.new()
    databases.delay_commits(url, _COMMIT_DELAY)
    delay = _COMMIT_DELAY if databases.commit_delay_in_server else 0.0
    peaks: list[int] = []
    with interlock_server(url, commit_delay=delay) as server:
        run_ids = make_running_runs(server, _PRODUCERS * scale.rounds)
        idle = resident_bytes(server.pid)
        for round_ in range(scale.rounds):
            own = run_ids[round_ * _PRODUCERS : (round_ + 1) * _PRODUCERS]
            each = max(1, scale.lines // _PRODUCERS // _BATCH)
            jobs = [
                LogProducer(server.target, run_id, 1000 * round_ + place, each, _BATCH)
                for place, run_id in enumerate(own)
            ]
            with _watched(server, peaks):
                acknowledged, _ = together(produce_logs, jobs)
            if count_lines(server, own) != sum(acknowledged) or not all(acknowledged):
                raise WorkMissing("Lines that were acknowledged are not there.")
    return _result("memory, producers faster than the disk", databases, idle, peaks)


def _readers(databases: Databases, scale: Scale) -> Result:
    peaks: list[int] = []
    with interlock_server(databases.new()) as server, connected(server.target) as stubs:
        (run_id,) = make_running_runs(server, 1)
        lines = LogLines(seed=0)
        batches = [
            pb.AppendLogsRequest(number=n, run_id=run_id, records=pack(lines.take(_BATCH)))
            for n in range(1, max(1, scale.lines // _BATCH) + 1)
        ]
        _append(stubs, batches)
        idle = resident_bytes(server.pid)
        for _ in range(scale.rounds):
            with _watched(server, peaks), connected(server.target) as deaf:
                _leave_unread(deaf, run_id)
                # Others go on meanwhile.
                _append(stubs, batches[: len(batches) // 4])
    return _result("memory, readers that never read", databases, idle, peaks)


def _append(stubs: Stubs, batches: list[pb.AppendLogsRequest]) -> None:
    hello = pb.AppendLogsRequest(producer_id=uuid7())
    *_, last = stubs.logs.AppendLogs(iter([hello, *batches]))
    if last.acknowledged != len(batches):
        raise WorkMissing("Batches were not acknowledged.")


def _leave_unread(stubs: Stubs, run_id: str) -> None:
    """Make calls whose answers nobody asks for; they end with their channel."""
    page = pb.ListLogsRequest(run_id=run_id, page_size=1000).SerializeToString()
    list_logs = stubs.channel.unary_stream("/interlock.v1.LogService/ListLogs")  # type: ignore[var-annotated]
    for _ in range(_READERS):
        stubs.logs.TailLogs(pb.TailLogsRequest(run_id=run_id))
        list_logs(page)
        hello = pb.AppendLogsRequest(producer_id=uuid7())
        # Numbers alone: each is refused, and its refusal is what nobody reads.
        empty = (pb.AppendLogsRequest(number=n, run_id=run_id) for n in range(1, 2_001))
        stubs.logs.AppendLogs(iter([hello, *empty]))


@contextmanager
def _watched(server: Server, peaks: list[int]) -> Iterator[None]:
    """Add the most memory that the server has within the context, by looks at it."""
    over = threading.Event()
    seen: list[int] = []

    def look() -> None:
        while not over.wait(_LOOK):
            seen.append(resident_bytes(server.pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    peaks.append(max(seen, default=resident_bytes(server.pid)))


def _result(name: str, databases: Databases, idle: int, peaks: list[int]) -> Result:
    """Say what was seen. It is bounded where the last round takes no more than the first."""
    return Result(
        name,
        databases.dialect,
        "MiB over idle",
        Spread.of([(peak - idle) / _MIB for peak in peaks]),
        target=Target(_BOUND, "value", at_most=True),
        details={
            "MiB idle": idle / _MIB,
            "bounded: MiB from the first round's peak to the last's": (peaks[-1] - peaks[0]) / _MIB,
        },
    )
