"""SearchLogs over logs of which few lines match: lines a second of one core."""

from __future__ import annotations

from interlock import log_columns
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb

from benchmarks.clients import LogProducer, produce_logs
from benchmarks.content import make_running_runs
from benchmarks.databases import Databases
from benchmarks.measure_states import WorkMissing
from benchmarks.processes import interlock_server, together
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread
from benchmarks.usage import Usage
from tests.support.stubs import Stubs, connected

_RUNS, _BATCH = 4, 1000
_NEEDLES = 5
"""Lines that match, in each run."""

_LEAST_SECONDS = 1.0
"""Of processor time that a search is repeated for: the system counts it in hundredths."""

_PATTERNS = {
    "a substring": pb.TextPattern(substring="needle 471"),
    "a regex": pb.TextPattern(regex=r"n[aeiou]+dle \d+ of [a-z]+"),
    "a substring, ignoring case": pb.TextPattern(substring="Needle 471", ignore_case=True),
}


def measure_search(databases: Databases, scale: Scale) -> list[Result]:
    """Measure the processor time of searches in runs with some hundred thousand lines."""
    results = []
    with interlock_server(databases.new()) as server, connected(server.target) as stubs:
        run_ids = make_running_runs(server, _RUNS)
        each = scale.lines // _RUNS // _BATCH
        jobs = [
            LogProducer(server.target, run_id, 1000 * place, each, _BATCH)
            for place, run_id in enumerate(run_ids)
        ]
        together(produce_logs, jobs)
        for run_id in run_ids:
            lines = [log_columns.Line(1, message=f"needle 471{n} of hay") for n in range(_NEEDLES)]
            records = log_columns.pack(lines)
            request = pb.WriteLogsRequest(id=uuid7(), run_id=run_id, records=records)
            stubs.logs.WriteLogs(request)
        expected = _RUNS * (each * _BATCH + _NEEDLES)
        for name, pattern in _PATTERNS.items():
            usage, rates = Usage(server), []
            for round_ in range(-1, scale.rounds):
                scanned, before = 0, usage.total("cpu")
                while usage.total("cpu") - before < _LEAST_SECONDS:
                    with usage.window():
                        scanned += _search(stubs, pattern, run_ids, expected)
                if round_ >= 0:  # The first one warms up.
                    rates.append(scanned / (usage.total("cpu") - before))
            results.append(
                Result(
                    f"SearchLogs for {name}",
                    databases.dialect,
                    "lines/s of a core",
                    Spread.of(rates),
                    target=Target(2_000_000, "value"),
                )
            )
    return results


def _search(stubs: Stubs, pattern: pb.TextPattern, run_ids: list[str], expected: int) -> int:
    """Search everything, and answer how many lines were looked at."""
    request = pb.SearchLogsRequest(run_ids=run_ids, filter=pb.LogFilter(text=pattern))
    *_, last = stubs.logs.SearchLogs(request)
    if (last.scanned, last.matches) != (expected, _RUNS * _NEEDLES):
        raise WorkMissing(f"{last.matches} found in {last.scanned} of {expected} lines.")
    return last.scanned
