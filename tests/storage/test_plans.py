"""How lists are read: no common filter has the database look through a whole table.

Databases choose their plans by guesses, and for few rows any plan will do: so there are many here,
and each statement that a list makes is explained as it is made.
"""

import asyncio
import re
from collections.abc import Iterator

import pytest
from interlock_server.storage import queries
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

from tests.support.explained import ExplainedStatements
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


@pytest.fixture(scope="module", params=["sqlite_file", "postgresql_18"])
def explained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExplainedStatements]:
    """A database of each dialect with many runs."""
    if request.param == "sqlite_file":
        yield from _explained(sqlite_url(tmp_path_factory.mktemp("plans") / "interlock.db"))
        return
    with request.getfixturevalue(request.param).database() as url:
        yield from _explained(url)


def _explained(url: str) -> Iterator[ExplainedStatements]:
    fill(url, COUNT)
    with asyncio.Runner() as runner:
        explained = ExplainedStatements(url, runner)
        yield explained
        explained.close()


def read(explained: ExplainedStatements, query: Query) -> int:
    """Read a page of flow runs, and answer how many it has."""
    runs, _ = explained.read(lambda it: queries.list_runs(it, RunKind.FLOW_RUN, query))
    return len(runs)


@pytest.mark.parametrize("name", FILTERS)
def test_no_common_filter_looks_through_a_whole_table(
    explained: ExplainedStatements, name: str
) -> None:
    condition, expected = FILTERS[name]
    for order in ORDERS:
        assert read(explained, Query(condition, order, limit=50)) == expected
        assert 1 <= len(explained.plans) <= 3
        for plan in explained.plans:
            assert not _WHOLE_TABLE.search(plan), (order, plan)


@pytest.mark.parametrize("name", ["all", "a common state", "a rare state", "a part of most names"])
def test_names_are_sorted_by_their_index(explained: ExplainedStatements, name: str) -> None:
    condition, expected = FILTERS[name]
    assert read(explained, Query(condition, Order("name", False), limit=50)) == expected
    for plan in explained.plans:
        assert not _WHOLE_TABLE.search(plan), plan


def test_a_part_of_few_names_is_found_by_its_trigrams_where_there_are_any(
    explained: ExplainedStatements,
) -> None:
    assert read(explained, Query(NameContains("needle"), limit=50)) == RARE
    plans = "\n".join(explained.plans)
    # SQLite has no such index: it looks through the names, and through nothing else.
    assert not _WHOLE_TABLE.search(plans.replace("flow_run_name", "names")), plans
    assert "ix_flow_run_name__folded_name" in plans or "SCAN flow_run_name" in plans


def test_a_list_that_looks_through_a_whole_table_would_be_noticed(
    explained: ExplainedStatements,
) -> None:
    assert read(explained, Query(OneOf("state_name", ("Nobody",)), limit=50)) == 0
    in_order = re.compile(r"SCAN (TABLE )?flow_run USING|Index Scan Backward")
    assert _WHOLE_TABLE.search(explained.plans[-1]) or in_order.search(explained.plans[-1])
