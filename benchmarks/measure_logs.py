"""AppendLogs beside a row a line, in lines a second and in bytes on the disk."""

from __future__ import annotations

from benchmarks.clients import LogProducer, produce_logs
from benchmarks.content import count_lines, make_running_runs
from benchmarks.databases import Databases
from benchmarks.log_lines import LogLines
from benchmarks.measure_states import WorkMissing
from benchmarks.processes import interlock_server, together
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread
from benchmarks.usage import Usage

_BATCH = 1000
"""Lines in a batch."""


def measure_append_logs(databases: Databases, scale: Scale, producers: int) -> Result:
    """Measure AppendLogs with so many streams, in turns with inserting a row a line."""
    url = databases.new()
    with interlock_server(url) as server:
        run_ids = make_running_runs(server, producers * (scale.rounds + 1))
    row_url = databases.copy(url)
    empty = databases.bytes(url)
    driver = databases.raw(row_url)
    lines = LogLines(seed=0)
    rates, yardsticks, done = [], [], 0
    try:
        driver.make_log_table()
        empty_rows = driver.log_table_bytes()
        with interlock_server(url) as server:
            usage = Usage(server)
            for round_ in range(-1, scale.rounds):
                seconds = sum(
                    driver.append_lines(run_ids[0], lines.take(_BATCH))
                    for _ in range(scale.raw_lines // _BATCH)
                )
                own = run_ids[(round_ + 1) * producers : (round_ + 2) * producers]
                each = scale.lines // producers // _BATCH
                jobs = [
                    LogProducer(server.target, run_id, 1000 * round_ + place, each, _BATCH)
                    for place, run_id in enumerate(own)
                ]
                with usage.window():
                    acknowledged, taken = together(produce_logs, jobs)
                if count_lines(server, own) != sum(acknowledged) or not all(acknowledged):
                    raise WorkMissing("Lines that were acknowledged are not there.")
                done += sum(acknowledged)
                if round_ >= 0:  # The first one warms up.
                    yardsticks.append(scale.raw_lines / seconds)
                    rates.append(sum(acknowledged) / taken)
        grown = databases.bytes(url) - empty
        row_bytes = (driver.log_table_bytes() - empty_rows) / (scale.raw_lines * (scale.rounds + 1))
    finally:
        driver.close()
    return Result(
        f"AppendLogs, {producers} producer{'s' if producers > 1 else ''}",
        databases.dialect,
        "lines/s",
        Spread.of(rates),
        "row a line",
        Spread.of(yardsticks),
        Spread.of_ratios(rates, yardsticks),
        Target(150_000, "value"),
        details={
            "bytes on disk per line": grown / done,
            "as a row a line": row_bytes,
            **usage.per(done, "line"),
            "lines from": lines.source,
        },
    )
