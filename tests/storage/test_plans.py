"""How lists are read: no common filter has the database look through a whole table.

Databases choose their plans by guesses, and for few rows any plan will do: so there are many here,
and each statement that a list makes is explained as it is made.
"""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from interlock_server.storage import queries
from interlock_server.storage.dialects import open_database
from interlock_server.storage.filters import (
    EVERYTHING,
    AllOf,
    Condition,
    NameContains,
    OneOf,
    Order,
    Query,
    Tagged,
    Within,
)
from interlock_server.storage.records import RunKind
from sqlalchemy import event

from tests.support.many_runs import RARE, RUNNING, SECOND, START, fill, id_of
from tests.support.servers import sqlite_url

COUNT = 200_000

FAILED, RUNS = OneOf("state_type", ("FAILED",)), OneOf("state_type", ("RUNNING",))
FLOW = OneOf("flow_id", (id_of(17),))
HOUR = Within("expected_start_time", START + 90_000 * SECOND, START + 93_600 * SECOND)

FILTERS: dict[str, tuple[Condition, int]] = {
    "all": (EVERYTHING, 50),
    "a common state": (FAILED, 50),
    "a rare state": (RUNS, RUNNING),
    "two states": (OneOf("state_type", ("FAILED", "RUNNING")), 50),
    "a flow": (FLOW, 50),
    "a flow and a state": (AllOf((FLOW, RUNS)), RUNNING),
    "a flow and a state that it has not": (AllOf((FLOW, OneOf("state_type", ("CRASHED",)))), 0),
    "a common tag": (Tagged(("nightly",)), 50),
    "a rare tag": (Tagged(("rare",)), RARE),
    "any of some tags": (Tagged(("rare", "team-3")), 50),
    "all of some tags": (Tagged(("nightly", "team-5"), all=True), 50),
    "a part of most names": (NameContains("order"), 50),
    "an hour": (HOUR, 50),
    "an hour and a state": (AllOf((HOUR, FAILED)), 50),
    "a name": (OneOf("name", ("load orders 77",)), 1),
    "ids": (OneOf("id", (id_of(1), id_of(2))), 2),
}
ORDERS = [
    Order("id", True),
    Order("expected_start_time", True),
    Order("expected_start_time", False),
]

_WHOLE_TABLE = re.compile(
    # SQLite scans a part of an index where a LIMIT is; PostgreSQL has its own name for that.
    r"SCAN (TABLE )?flow_run(_name|_tag)?\b(?! USING)|Seq Scan on flow_run(_name|_tag)?\b"
)


class Explained:
    """A database of which each statement is explained before it is executed."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        database: Any = open_database(url)
        self._database = database
        self._runner = runner
        self.plans: list[str] = []
        event.listen(database._engine.sync_engine, "before_cursor_execute", self._explain)

    def read(self, query: Query) -> int:
        """Read a page of flow runs, and answer how many it has."""
        self.plans.clear()
        runs, _ = self._runner.run(queries.list_runs(self._database, RunKind.FLOW_RUN, query))
        return len(runs)

    def _explain(self, _: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        words = "EXPLAIN QUERY PLAN" if self._database.dialect == "sqlite" else "EXPLAIN"
        cursor.execute(f"{words} {statement}", parameters)
        self.plans.append("\n".join(str(line[-1]) for line in cursor.fetchall()))

    def close(self) -> None:
        self._runner.run(self._database.close())


@pytest.fixture(scope="module", params=["sqlite_file", "postgresql_18"])
def explained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Explained]:
    """A database of each dialect with many runs."""
    if request.param == "sqlite_file":
        yield from _explained(sqlite_url(tmp_path_factory.mktemp("plans") / "interlock.db"))
        return
    with request.getfixturevalue(request.param).database() as url:
        yield from _explained(url)


def _explained(url: str) -> Iterator[Explained]:
    fill(url, COUNT)
    with asyncio.Runner() as runner:
        explained = Explained(url, runner)
        yield explained
        explained.close()


@pytest.mark.parametrize("name", FILTERS)
def test_no_common_filter_looks_through_a_whole_table(explained: Explained, name: str) -> None:
    condition, expected = FILTERS[name]
    for order in ORDERS:
        assert explained.read(Query(condition, order, limit=50)) == expected
        assert 1 <= len(explained.plans) <= 3
        for plan in explained.plans:
            assert not _WHOLE_TABLE.search(plan), (order, plan)


@pytest.mark.parametrize("name", ["all", "a common state", "a rare state", "a part of most names"])
def test_names_are_sorted_by_their_index(explained: Explained, name: str) -> None:
    condition, expected = FILTERS[name]
    assert explained.read(Query(condition, Order("name", False), limit=50)) == expected
    for plan in explained.plans:
        assert not _WHOLE_TABLE.search(plan), plan


def test_a_part_of_few_names_is_found_by_its_trigrams_where_there_are_any(
    explained: Explained,
) -> None:
    assert explained.read(Query(NameContains("needle"), limit=50)) == RARE
    plans = "\n".join(explained.plans)
    # SQLite has no such index: it looks through the names, and through nothing else.
    assert not _WHOLE_TABLE.search(plans.replace("flow_run_name", "names")), plans
    assert "ix_flow_run_name__folded_name" in plans or "SCAN flow_run_name" in plans


def test_a_list_that_looks_through_a_whole_table_would_be_noticed(explained: Explained) -> None:
    assert explained.read(Query(OneOf("state_name", ("Nobody",)), limit=50)) == 0
    in_order = re.compile(r"SCAN (TABLE )?flow_run USING|Index Scan Backward")
    assert _WHOLE_TABLE.search(explained.plans[-1]) or in_order.search(explained.plans[-1])
