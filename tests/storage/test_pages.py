"""Lists: pages that are complete and stable, orders, filters."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import flow_pb2, flow_run_pb2

from tests.support.refusals import refused
from tests.support.runs import (
    COMPLETED,
    PENDING,
    RUNNING,
    SCHEDULED,
    FlowRuns,
    Runs,
    TaskRuns,
    make_flow,
    make_flow_run,
    make_task_run,
    proposal,
    unique,
)
from tests.support.stubs import Stubs


def family(stubs: Stubs, runs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What makes runs of one family, and the filter that finds just them."""
    if isinstance(runs, FlowRuns):
        flow = make_flow(stubs)
        return {"flow_id": flow.id}, {"flow_ids": [flow.id]}
    flow_run = make_flow_run(stubs)
    return {"flow_run_id": flow_run.id}, {"flow_run_ids": [flow_run.id]}


def all_pages(runs: Runs, **request: Any) -> list[Any]:
    found, token = runs.page(**request)
    while token:
        more, token = runs.page(**request, page_token=token)
        found += more
    return found


def all_flows(stubs: Stubs, **request: Any) -> list[flow_pb2.Flow]:
    found: list[flow_pb2.Flow] = []
    token = ""
    while True:
        page = stubs.flows.ListFlows(flow_pb2.ListFlowsRequest(**request, page_token=token))
        found += page.flows
        token = page.next_page_token
        if not token:
            return found


def due(seconds: int, micros: int = 0) -> dict[str, Any]:
    time = {"seconds": seconds, "nanos": micros * 1000}
    return {"type": SCHEDULED, "details": {"scheduled_time": time}}


def test_pages_hold_each_run_once_and_the_last_one_says_so(stubs: Stubs, runs: Runs) -> None:
    parent, mine = family(stubs, runs)
    made = [runs.make(**parent).id for _ in range(10)]
    for size in (1, 3, 5, 10, 11):
        found = all_pages(runs, filter=mine, page_size=size)
        assert [run.id for run in found] == sorted(made, reverse=True)
    _, token = runs.page(filter=mine, page_size=10)
    assert token == ""
    assert runs.count(**mine) == 10


def test_runs_are_listed_by_when_they_are_due_and_ties_by_id(stubs: Stubs, runs: Runs) -> None:
    parent, mine = family(stubs, runs)
    states = [due(100), due(-62_135_596_800), due(100), due(100, 1), due(253_402_300_799, 999_999)]
    made = [runs.make(**parent, state=state) for state in states]
    ascending = sorted(made, key=lambda run: (run.expected_start_time.ToNanoseconds(), run.id))
    ids = [run.id for run in ascending]
    assert [run.id for run in all_pages(runs, filter=mine, page_size=2, order_by=2)] == ids
    assert [run.id for run in all_pages(runs, filter=mine, page_size=2, order_by=3)] == ids[::-1]


def test_filters_are_met_all_together(stubs: Stubs, runs: Runs) -> None:
    parent, mine = family(stubs, runs)
    name = unique("run")
    one = runs.make(**parent, name=name, state={"type": RUNNING, "name": "Special"})
    two = runs.make(**parent, name=name, state={"type": COMPLETED})
    three = runs.make(**parent)
    found = {
        "names": [one, two],
        "state_types": [one],
        "state_names": [one],
        "ids": [one, three],
    }
    filters: dict[str, list[Any]] = {
        "names": [name],
        "state_types": [RUNNING],
        "state_names": ["Special"],
        "ids": [one.id, three.id, uuid7()],
    }
    for field, values in filters.items():
        ids = {run.id for run in all_pages(runs, filter=mine | {field: values})}
        assert ids == {run.id for run in found[field]}
        assert runs.count(**mine, **{field: values}) == len(ids)
    assert [run.id for run in all_pages(runs, filter=mine | filters)] == [one.id]
    assert runs.count(**mine, state_types=[RUNNING, COMPLETED]) == 2
    assert runs.count(**mine, names=["nobody"]) == 0


def test_flow_runs_are_found_by_the_task_run_that_tracks_them(stubs: Stubs) -> None:
    tracker = make_task_run(stubs)
    child = make_flow_run(stubs, parent_task_run_id=tracker.id)
    found, _ = FlowRuns(stubs).page(filter={"parent_task_run_ids": [tracker.id]})
    assert [run.id for run in found] == [child.id]


def test_task_runs_are_found_by_their_key(stubs: Stubs) -> None:
    task = make_task_run(stubs)
    found, _ = TaskRuns(stubs).page(filter={"task_keys": [task.task_key]})
    assert [run.id for run in found] == [task.id]


def test_a_filter_may_be_as_large_as_it_gets(runs: Runs) -> None:
    # The oldest SQLite takes 999 variables in a statement, and a million bytes.
    run = runs.make(name=unique("run"))
    ids = [*(uuid7() for _ in range(499)), run.id]
    names = [*(unique("nobody") for _ in range(499)), run.name]
    assert runs.count(ids=ids) == 1
    assert runs.count(names=names) == 1
    full = {"ids": ids, "names": names, "state_types": [PENDING] * 500}
    assert runs.count(**full) == 1
    many = {"ids": ids, "any_of": [full, *({"ids": ids} for _ in range(8))]}
    assert runs.count(**many) == 1
    found, _ = runs.page(filter=many, page_size=1)
    assert [each.id for each in found] == [run.id]
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "filter.any_of[0].state_types"):
        runs.count(any_of=[{"state_types": [PENDING] * 501}])
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "filter"):
        runs.count(any_of=[{"ids": ids} for _ in range(15)])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_pages_are_complete_while_runs_are_made(stubs: Stubs, runs: Runs, order: int) -> None:
    parent, mine = family(stubs, runs)
    before = {runs.make(**parent).id for _ in range(30)}
    with ThreadPoolExecutor(4) as writers:
        making = [writers.submit(runs.make, **parent) for _ in range(60)]
        found = all_pages(runs, filter=mine, page_size=7, order_by=order)
        made_meanwhile = {run.result().id for run in making}

    ids = [run.id for run in found]
    assert len(ids) == len(set(ids))
    assert before <= set(ids) <= before | made_meanwhile


def test_a_page_token_holds_only_for_its_request(stubs: Stubs, runs: Runs) -> None:
    parent, mine = family(stubs, runs)
    for _ in range(3):
        runs.make(**parent)
    _, token = runs.page(filter=mine, page_size=1)
    more, _ = runs.page(filter=mine, page_size=2, page_token=token)
    assert len(more) == 2
    for request in ({}, {"filter": mine | {"names": ["x"]}}, {"filter": mine, "order_by": 2}):
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "page_token"):
            runs.page(**request, page_token=token)
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "page_token"):
        stubs.flows.ListFlows(flow_pb2.ListFlowsRequest(page_token=token))


def test_a_historys_token_holds_only_for_its_run(stubs: Stubs) -> None:
    runs = FlowRuns(stubs)
    one, other = runs.make(), runs.make()
    for run in (one, other):
        runs.propose(proposal(run.id, RUNNING))
    request = flow_run_pb2.FlowRunServiceListStatesRequest(flow_run_id=one.id, page_size=1)
    request.page_token = stubs.flow_runs.ListStates(request).next_page_token
    assert len(stubs.flow_runs.ListStates(request).transitions) == 1
    request.flow_run_id = other.id
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "page_token"):
        stubs.flow_runs.ListStates(request)


@pytest.mark.parametrize(
    "words",
    [
        ["B", "a", "Z", "z", "_", "-", "1", "10", "2", "a b", "ab", "A"],
        ["é", "e", "f", "ä", "z", "ß", "ss", "日本", "😀", "\ue000", "\uffff"],
    ],
    ids=["ascii", "beyond"],
)
def test_names_sort_by_code_point_and_differ_by_case(stubs: Stubs, words: list[str]) -> None:
    # Databases differ exactly here: one sorts by language, another by byte.
    prefix = unique("flow")
    names = [f"{prefix} {word}" for word in words]
    for name in names:
        assert make_flow(stubs, name).name == name
    named = flow_pb2.FlowFilter(names=names)
    found = all_flows(stubs, filter=named, order_by=flow_pb2.FLOW_ORDER_NAME_ASC, page_size=4)
    assert [flow.name for flow in found] == sorted(names)


def test_flows_are_listed_newest_first(stubs: Stubs) -> None:
    made = [make_flow(stubs) for _ in range(5)]
    these = flow_pb2.FlowFilter(ids=[flow.id for flow in made])
    assert all_flows(stubs, filter=these, page_size=2) == made[::-1]


def test_a_page_is_never_larger_than_the_limit(stubs: Stubs) -> None:
    request = flow_pb2.ListFlowsRequest(page_size=2**31 - 1)
    assert len(stubs.flows.ListFlows(request).flows) <= 1000
