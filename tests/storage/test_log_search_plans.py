"""How the chunks of a search are read: nothing looks through a whole table.

There are many logs, each with some chunks; one of them is long.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from interlock_server.storage import log_search_queries as queries
from interlock_server.storage import tables
from interlock_server.storage.dialects import open_database
from interlock_server.storage.log_queries import ANY_RECORD, RecordConditions
from interlock_server.storage.log_search_queries import ChunkPlace
from sqlalchemy import Connection, insert, text

from tests.support.explained import ExplainedStatements
from tests.support.many_runs import SECOND, START, fill, id_of
from tests.support.servers import sqlite_url

RUNS, EACH, LONG = 2_000, 3, 2_500
"""Runs, chunks of each, chunks of the first one besides."""

SOME = [id_of(number) for number in range(100, 300)]
ERRORS = RecordConditions(min_level=40)
LATE = RecordConditions(since=START + (RUNS - 20) * SECOND)
LONG_AGO = RecordConditions(since=START)
OF_TASKS = RecordConditions(task_run_ids=(id_of(7), id_of(9)))

Read = Callable[[Any], Awaitable[Any]]
READS: dict[str, tuple[Read, int]] = {
    "runs since a short time": (lambda it: queries.find_runs(it, LATE), 20),
    "runs of task runs": (lambda it: queries.find_runs(it, OF_TASKS), 2),
    "sizes of some logs": (lambda it: queries.get_log_sizes(it, SOME), 200),
    "chunks of some logs": (lambda it: queries.list_places(it, SOME, ANY_RECORD), 600),
    "chunks with errors": (lambda it: queries.list_places(it, SOME, ERRORS), 0),
    "chunks of some logs since a time": (lambda it: queries.list_places(it, SOME, LONG_AGO), 600),
    "chunks of task runs": (
        lambda it: queries.list_places(it, [id_of(n) for n in range(100)], OF_TASKS),
        2,
    ),
    "chunks of a long log": (
        lambda it: queries.list_places_from(it, id_of(0), 15_000, ANY_RECORD),
        queries.PLACES_AT_ONCE,
    ),
    "a piece of a long log": (
        lambda it: queries.read_chunks(
            it, [ChunkPlace(id_of(0), 10 * n, 10 * n + 9, 1) for n in range(200, 240)]
        ),
        40,
    ),
    "chunks of many logs": (
        lambda it: queries.read_chunks(it, [ChunkPlace(run_id, 0, 9, 1) for run_id in SOME]),
        200,
    ),
    "what is near a match": (lambda it: queries.read_range(it, id_of(0), 15_000, 15_025), 3),
}

_WHOLE_TABLE = re.compile(
    r"SCAN (TABLE )?(log_|flow_run|task_run)\w*(?! AS)\b(?! USING)|Seq Scan on (log_|flow_run)"
)


def _put_logs(connection: Connection) -> None:
    counts = dict.fromkeys(("trace", "debug", "warning", "error", "critical"), 0) | {"info": 10}
    same = {f"{level}_count": count for level, count in counts.items()}
    chunks = [
        same
        | {
            "run_id": id_of(n),
            "first_ordinal": 10 * c,
            "last_ordinal": 10 * c + 9,
            "first_time": START + n * SECOND,
            "last_time": START + n * SECOND,
            "raw_bytes": 1,
            "data": b"x" * 500,
        }
        for n in range(RUNS)
        for c in range(EACH if n else EACH + LONG)
    ]
    connection.execute(insert(tables.log_chunk), chunks)
    heads = [
        {"run_id": id_of(n), "next_ordinal": 10 * (EACH + (0 if n else LONG)), "appended": 0}
        for n in range(RUNS)
    ]
    connection.execute(insert(tables.log_head), heads)
    named = [{"task_run_id": id_of(n), "run_id": id_of(n), "first_ordinal": 0} for n in range(RUNS)]
    connection.execute(insert(tables.log_chunk_task_run), named)
    connection.execute(text("ANALYZE"))
    connection.commit()


@pytest.fixture(scope="module", params=["sqlite_file", "postgresql_18"])
def explained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExplainedStatements]:
    """A database of each dialect with many logs."""
    if request.param == "sqlite_file":
        yield from _explained(sqlite_url(tmp_path_factory.mktemp("plans") / "interlock.db"))
        return
    with request.getfixturevalue(request.param).database() as url:
        yield from _explained(url)


async def _filled(url: str) -> None:
    database = open_database(url)
    await database.migrate(_put_logs)
    await database.close()


def _explained(url: str) -> Iterator[ExplainedStatements]:
    fill(url, RUNS)
    with asyncio.Runner() as runner:
        runner.run(_filled(url))
        explained = ExplainedStatements(url, runner)
        yield explained
        explained.close()


@pytest.mark.parametrize("name", READS)
def test_no_read_of_a_search_looks_through_a_whole_table(
    explained: ExplainedStatements, name: str
) -> None:
    read, expected = READS[name]
    assert len(explained.read(read)) == expected
    assert explained.plans
    for plan in explained.plans:
        assert not _WHOLE_TABLE.search(plan), plan


def test_all_logs_are_walked_in_the_order_of_their_ids(explained: ExplainedStatements) -> None:
    page, after = explained.read(lambda it: queries.list_log_sizes(it, id_of(1000), True))
    assert [log.run_id for log in page] == [id_of(1000 - n) for n in range(1, 201)]
    assert after == id_of(800)
    assert not any("Seq Scan on log_head" in plan or "SORT" in plan for plan in explained.plans)


def test_runs_since_long_ago_are_too_many_to_be_found_by_it(
    explained: ExplainedStatements, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(explained.read(lambda it: queries.find_runs(it, LONG_AGO))) == RUNS
    monkeypatch.setattr(queries, "_RECENT_CHUNKS", RUNS)
    assert explained.read(lambda it: queries.find_runs(it, LONG_AGO)) is None
    assert len(explained.read(lambda it: queries.find_runs(it, LATE))) == 20
