"""Any filter, in any order, from any window: the database answers what plain Python does."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from interlock.ids import uuid7
from interlock.v1 import filter_pb2, flow_run_pb2, task_run_pb2
from interlock_server.rpc import filters as readers
from interlock_server.rpc.run_calls import ORDERS
from interlock_server.storage import listing, migrations, queries
from interlock_server.storage.dialects import open_database
from interlock_server.storage.filters import Query
from interlock_server.storage.records import RunKind
from interlock_server.storage.rows import json_text

from tests.storage.filter_model import World, in_order
from tests.support.servers import sqlite_url
from tests.support.stored import Rows

NAMES = [
    "Straße 1",
    "STRASSE 1",
    "äpfel",
    "ÄPFEL%",
    "a_b",
    "aXb",
    "100%",
    "a/b",
    "'",
    "ab",
    "İ",
    "",
]
PARTS = ["strasse", "SS", "Ä", "%", "_", "/", "b", "'", "x", "i̇", "nothing", "1"]
TAGS = ["a", "b", "B", "ä", "a,b", '"']
STATES = ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED"]
TIMES = [1_000_000 * second for second in range(-2, 6)]
WORDS = ["", "one", "two", "Two"]
UNKNOWN = uuid7()
GROUPS = ["all_of", "any_of", "none_of"]

PAGE_SIZES = st.sampled_from([7, 20, 100])
WINDOWS = st.sampled_from([(2, 3), (2, 20), (10, 1), (30, 5), (2_000, 10_000)])
"""How many rows are walked and counted at most: so few that each way to a page is taken."""

FILTERS: dict[RunKind, tuple[Any, Any]] = {
    RunKind.FLOW_RUN: (flow_run_pb2.FlowRunFilter, readers.FLOW_RUNS),
    RunKind.TASK_RUN: (task_run_pb2.TaskRunFilter, readers.TASK_RUNS),
}


def some_world() -> tuple[World, dict[str, list[str]]]:
    """Some dozens of runs that share their few values, and the ids that they refer to."""
    dice = random.Random(4)
    ids = {
        "flow": [uuid7() for _ in range(3)],
        "flow_run": [uuid7() for _ in range(45)],
        "task_run": [uuid7() for _ in range(45)],
        "deployment": [uuid7(), uuid7()],
    }

    def shared(id_: str) -> dict[str, Any]:
        state = dice.choice(STATES)
        return {
            "id": id_,
            "name": dice.choice(NAMES),
            "tags": {tag for tag in TAGS if dice.random() < 0.3},
            "state_type": state,
            "state_name": dice.choice([state.capitalize(), "Special"]),
            "expected_start_time": dice.choice(TIMES),
            "next_scheduled_start_time": dice.choice([*TIMES, None]),
            "start_time": dice.choice([*TIMES, None]),
            "end_time": dice.choice([*TIMES, None, None]),
        }

    flow_runs = [
        shared(id_)
        | {
            "flow_id": dice.choice(ids["flow"]),
            "deployment_id": dice.choice([*ids["deployment"], None]),
            "parent_task_run_id": dice.choice([*ids["task_run"][:4], None, None]),
            "flow_version": dice.choice(WORDS),
            "created_by": dice.choice(WORDS),
            "idempotency_key": dice.choice([None, id_]),
        }
        for id_ in ids["flow_run"]
    ]
    task_runs = [
        shared(id_)
        | {
            "flow_run_id": dice.choice([*ids["flow_run"][:4], None]),
            "task_key": dice.choice(WORDS),
            "dynamic_key": id_,
        }
        for id_ in ids["task_run"]
    ]
    return World(flow_runs, task_runs), ids  # type: ignore[arg-type]


WORLD, IDS = some_world()


def rows_of_the_world() -> Rows:
    rows = Rows()
    for id_ in IDS["flow"]:
        rows.add("flow", id=id_, name=id_, tags="[]", labels="{}")
    for kind, runs in (("flow_run", WORLD.flow_runs), ("task_run", WORLD.task_runs)):
        for run in runs:
            values = {**run, "tags": json_text(sorted(run["tags"]))}
            rows.add(kind, labels="{}", **values)
            rows.findable(kind, run["id"], run["name"], run["tags"])
    return rows


class Reading:
    """A database with the world in it."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self._database = open_database(url)
        self._run = runner.run

    def fill(self) -> None:
        self._run(self._database.check())
        self._run(migrations.upgrade(self._database))
        self._run(rows_of_the_world().put(self._database))

    def pages(self, kind: RunKind, query: Query) -> list[list[str]]:
        """The ids on all pages of a list."""
        pages: list[list[str]] = []
        after: Any = None
        while after is not None or not pages:
            page = replace(query, after=after)
            runs, after = self._run(queries.list_runs(self._database, kind, page))
            pages.append([run.id for run in runs])
        return pages

    def count(self, kind: RunKind, query: Query) -> int:
        return self._run(queries.count_runs(self._database, kind, query.filter))

    def close(self) -> None:
        self._run(self._database.close())


@pytest.fixture(scope="module", params=["sqlite_file", "postgresql_18"])
def reading(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reading]:
    """A database of each dialect with the world in it."""
    with ExitStack() as stack:
        if request.param == "sqlite_file":
            url = sqlite_url(tmp_path_factory.mktemp("filters") / "interlock.db")
        else:
            server = request.getfixturevalue(request.param)
            url = stack.enter_context(server.database())
        reading = Reading(url, stack.enter_context(asyncio.Runner()))
        stack.callback(reading.close)
        reading.fill()
        yield reading


# --- filters at random ----------------------------------------------------------------------------


def some_of(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3)


def times() -> st.SearchStrategy[Any]:
    def made(after: int | None, before: int | None, is_set: bool | None) -> Any:
        given = filter_pb2.TimeFilter(is_set=is_set)
        if after is not None:
            given.after.FromMicroseconds(after)
        if before is not None:
            given.before.FromMicroseconds(before)
        return given

    bound = st.sampled_from([None, *TIMES])
    return st.builds(made, bound, bound, st.sampled_from([None, None, True, False]))


def tags() -> st.SearchStrategy[Any]:
    words = st.one_of(st.just([]), some_of([*TAGS, "c"]))
    return st.builds(
        filter_pb2.TagFilter,
        all=words,
        any=words,
        none=words,
        has_any=st.sampled_from([None, None, True, False]),
    )


def values_of(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    match field.name:
        case "names":
            return some_of(NAMES)
        case "name_contains":
            return st.sampled_from(PARTS)
        case "state_types":
            return some_of([1, 2, 3, 7, 8, 9])
        case "state_names":
            return some_of(["Special", "Running", "Completed"])
        case "tags":
            return tags()
        case "ids":
            kind = "task_run" if "Task" in field.full_name else "flow_run"
            return st.lists(st.sampled_from(IDS[kind]), min_size=1, max_size=30)
        case name if name.endswith("_time"):
            return times()
        case name if name.startswith("has_"):
            return st.booleans()
        case "idempotency_keys":
            return some_of([*IDS["flow_run"], "x"])
        case name if name.endswith("_ids"):
            of = next(
                each for each in ("task_run", "flow_run", "flow", "deployment") if each in name
            )
            return some_of([*IDS[of][:5], UNKNOWN])
    return some_of(WORDS)


@st.composite
def filters(draw: st.DrawFn, message: type[Any], depth: int = 2) -> Any:
    """Filters of a few conditions, with groups of such filters."""
    made = message()
    fields = [field for field in message.DESCRIPTOR.fields if field.name not in GROUPS]
    if depth:
        for group in draw(st.lists(st.sampled_from(GROUPS), max_size=2, unique=True)):
            members = st.lists(filters(message, depth - 1), min_size=1, max_size=2)
            getattr(made, group).extend(draw(members))
    for field in draw(st.lists(st.sampled_from(fields), max_size=2, unique_by=lambda f: f.name)):
        value = draw(values_of(field))
        if field.is_repeated:
            getattr(made, field.name).extend(value)
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(value)
        else:
            setattr(made, field.name, value)
    return made


@pytest.mark.parametrize("kind", RunKind)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_list_is_what_plain_python_finds_in_pages_and_in_order(
    reading: Reading, kind: RunKind, data: st.DataObject
) -> None:
    message, known = FILTERS[kind]
    given = data.draw(filters(message))
    order_by = data.draw(st.sampled_from(sorted(ORDERS)))
    query = Query(readers.read(given, known), ORDERS[order_by], limit=data.draw(PAGE_SIZES))
    runs = WORLD.flow_runs if kind is RunKind.FLOW_RUN else WORLD.task_runs
    expected = in_order(WORLD.meeting(runs, given), order_by)
    walk, rare = data.draw(WINDOWS)
    with patch.object(listing, "WALK", walk), patch.object(listing, "RARE", rare):
        pages = reading.pages(kind, query)
    assert [id_ for page in pages for id_ in page] == expected
    assert all(len(page) == query.limit for page in pages[:-1])
    assert reading.count(kind, query) == len(expected)


@pytest.mark.parametrize("kind", RunKind)
def test_each_field_of_a_filter_is_read(kind: RunKind) -> None:
    message, known = FILTERS[kind]
    fields = {field.name for field in message.DESCRIPTOR.fields}
    assert fields == known.keys() | set(GROUPS)
