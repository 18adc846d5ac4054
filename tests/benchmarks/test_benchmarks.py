"""The benchmarks measure what they say: their proofs hold at the smallest scale."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.databases import SqliteDatabases
from benchmarks.log_layout import compare
from benchmarks.log_lines import LogLines
from benchmarks.measure_lists import measure_lists
from benchmarks.measure_live_logs import measure_live_logs
from benchmarks.measure_logs import measure_append_logs
from benchmarks.measure_memory import measure_memory
from benchmarks.measure_states import measure_batch_set_states, measure_set_state
from benchmarks.measure_tails import measure_tails
from benchmarks.measure_watch import measure_watch
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread

TINY = Scale(
    rounds=1, warm_up=0.3, seconds=0.3, transitions=80, lines=2_000, raw_lines=1_000, starts=1
)


@pytest.fixture
def databases(tmp_path: Path) -> SqliteDatabases:
    return SqliteDatabases(tmp_path)


def test_unary_calls_are_counted_and_proven(databases: SqliteDatabases) -> None:
    result = measure_set_state(databases, TINY, 4, Target(0, "errors", at_most=True))
    assert result.met
    assert result.value.median > 0
    # Each call is a transition: at least a run is read and moved, and a row of history written.
    assert result.details["statements per 1,000 calls"] > 1000


def test_batches_write_the_same_rows_as_the_driver_alone(databases: SqliteDatabases) -> None:
    result = measure_batch_set_states(databases, TINY, 10)
    assert result.details["transitions per commit"] >= 10
    assert result.ratio is not None
    assert result.ratio.median > 0


def test_a_watcher_hears_of_each_commit(databases: SqliteDatabases) -> None:
    (result,) = measure_watch(databases, TINY)
    assert result.yardstick_value is not None
    assert result.value.median > 0
    assert result.yardstick_value.median > 0


def test_a_tail_hears_of_each_line(databases: SqliteDatabases) -> None:
    (result,) = measure_tails(databases, TINY)
    assert result.yardstick_value is not None
    assert result.value.median > 0
    assert result.yardstick_value.median > 0


def test_lists_and_histories_find_what_is_there(databases: SqliteDatabases) -> None:
    *lists, _, everything = measure_lists(databases, replace(TINY, runs=20_000))
    assert all(result.value.median > 0 for result in lists)
    assert everything.ratio is not None
    assert everything.ratio.median > 0


def test_chunks_are_smaller_than_rows(databases: SqliteDatabases) -> None:
    result = measure_append_logs(databases, TINY, 2)
    assert 0 < result.details["bytes on disk per line"] < result.details["as a row a line"]


def test_memory_is_watched_under_producers_and_readers(databases: SqliteDatabases) -> None:
    producers, readers = measure_memory(databases, replace(TINY, lines=8_000))
    assert producers.value.median > 0
    assert readers.value.median > 0


def test_columns_take_the_fewest_bytes() -> None:
    measured, _ = compare(rounds=1)
    assert measured["columns"].stored_bytes < measured["rows"].stored_bytes


def test_lines_are_fresh_each_time() -> None:
    lines = LogLines(seed=3)
    first, second = lines.take(500), lines.take(500)
    assert first != second


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(0.5, "ratio"), True),
        (Target(0.6, "ratio"), False),
        (Target(0, "errors", at_most=True), False),
        (Target(11, "value", at_most=True), True),
    ],
)
def test_a_target_is_met_or_not(target: Target, met: bool) -> None:
    one = Spread.of([10.0])
    result = Result(
        "x", "sqlite", "s", one, ratio=Spread.of_ratios([5.0], [10.0]), target=target, errors=1
    )
    assert result.met is met


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was half as fast in the second round.
    assert Spread.of_ratios([100.0, 50.0], [200.0, 100.0]) == Spread(0.5, 0.5, 0.5)


def test_logs_of_live_runs_are_smaller_when_they_are_merged(databases: SqliteDatabases) -> None:
    result = measure_live_logs(databases, TINY)
    assert result.ratio is not None
    assert result.ratio.median < 1
    assert result.details["logs that wait at the end"] == 0
