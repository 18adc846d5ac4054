"""Filters and orders as clients use them, on every dialect."""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import flow_pb2

from tests.storage.test_pages import all_flows, all_pages, due, family
from tests.support.refusals import refused
from tests.support.runs import (
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
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


def time(seconds: int, micros: int = 0) -> dict[str, int]:
    return {"seconds": seconds, "nanos": micros * 1000}


class Family:
    """Runs of one family, found by filters among just them."""

    def __init__(self, stubs: Stubs, runs: Runs) -> None:
        self._runs = runs
        self._parent, self._mine = family(stubs, runs)

    def make(self, **content: Any) -> str:
        return str(self._runs.make(**self._parent, **content).id)

    def meeting(self, **filter_: Any) -> set[str]:
        """The ids of those that meet a filter; the count has to be the same."""
        wanted = {"all_of": [self._mine, filter_]}
        found = {run.id for run in all_pages(self._runs, filter=wanted, page_size=3)}
        assert self._runs.count(**wanted) == len(found)
        return found

    def in_order(self, order_by: int) -> list[str]:
        """The ids of all of them in an order, in pages of two."""
        found = all_pages(self._runs, filter=self._mine, page_size=2, order_by=order_by)
        return [run.id for run in found]


@pytest.fixture
def mine(stubs: Stubs, runs: Runs) -> Family:
    """A family of each kind of runs, without any yet."""
    return Family(stubs, runs)


def test_a_part_of_a_name_is_found_whatever_its_case(mine: Family) -> None:
    street = mine.make(name="Große Straße 5%")
    other = mine.make(name="grosse_strasse")
    wild = mine.make(name="a_b%c/d")
    assert mine.meeting(name_contains="GROSSE ") == {street}
    assert mine.meeting(name_contains="straße") == {street, other}
    assert mine.meeting(name_contains="ÄSS") == set()
    assert mine.meeting(name_contains="%") == {street, wild}
    assert mine.meeting(name_contains="_B%C/") == {wild}
    assert mine.meeting(name_contains="a%c") == set()
    assert mine.meeting(name_contains="x" * 500) == set()


def test_tags_are_found_all_any_or_none(mine: Family) -> None:
    both, one, none = mine.make(tags=["a", "b"]), mine.make(tags=["b"]), mine.make()
    everyone = {both, one, none}
    assert mine.meeting(tags={"all": ["a", "b", "a"]}) == {both}
    assert mine.meeting(tags={"any": ["a", "b", "x"]}) == {both, one}
    assert mine.meeting(tags={"none": ["a", "x"]}) == {one, none}
    assert mine.meeting(tags={"has_any": True}) == {both, one}
    assert mine.meeting(tags={"has_any": False}) == {none}
    assert mine.meeting(tags={"all": ["b"], "none": ["a"], "has_any": True}) == {one}
    assert mine.meeting(tags={"any": ["A"]}) == set()
    assert mine.meeting(tags={}) == everyone
    assert mine.meeting(none_of=[{"tags": {"all": ["a", "b"]}}]) == {one, none}


def test_what_was_edited_is_found_by_what_it_is_now(runs: Runs) -> None:
    run = runs.make(name=unique("Before"), tags=["old", "kept"])
    before = run.name
    run.name = unique("AFTER")
    del run.tags[:]
    run.tags.extend([unique("new"), "kept"])
    new = run.tags[0]
    runs.update(run, "name", "tags")
    assert runs.count(ids=[run.id], tags={"all": [new, "kept"], "none": ["old"]}) == 1
    assert runs.count(tags={"any": [new]}) == 1
    assert runs.count(name_contains=run.name.lower()) == runs.count(names=[run.name]) == 1
    assert runs.count(name_contains=before.lower()) == runs.count(names=[before]) == 0


def test_what_was_deleted_is_found_by_nothing(runs: Runs) -> None:
    name, tag = unique("run"), unique("tag")
    runs.delete(runs.make(name=name, tags=[tag]).id)
    for filter_ in ({"name_contains": name}, {"names": [name]}, {"tags": {"any": [tag]}}):
        assert runs.count(**filter_) == 0
        assert runs.page(filter=filter_)[0] == []


def test_times_are_within_bounds_on_both_sides_included(mine: Family) -> None:
    early, late = mine.make(state=due(100)), mine.make(state=due(200, 1))
    waits_no_more = mine.make(state={"type": RUNNING})
    at = "expected_start_time"
    assert mine.meeting(**{at: {"after": time(100), "before": time(200, 1)}}) == {early, late}
    assert mine.meeting(**{at: {"after": time(100, 1), "before": time(200)}}) == set()
    assert mine.meeting(**{at: {"before": time(100)}}) == {early}
    assert mine.meeting(**{at: {"after": time(300), "before": time(50)}}) == set()
    assert mine.meeting(next_scheduled_start_time={"is_set": False}) == {waits_no_more}
    assert mine.meeting(start_time={"is_set": True}) == {waits_no_more}
    # A time that is not set is neither before nor after any other.
    assert mine.meeting(start_time={"before": time(4_000_000_000)}) == {waits_no_more}
    assert mine.meeting(none_of=[{"start_time": {"after": time(0)}}]) == {early, late}
    assert mine.meeting(end_time={"is_set": True, "before": time(0)}) == set()


def test_groups_are_met_by_all_any_or_none_of_their_filters(mine: Family) -> None:
    one = mine.make(name="one", tags=["x"])
    two = mine.make(name="two", tags=["x"], state={"type": FAILED})
    three = mine.make(name="three", state={"type": FAILED})
    failed, tagged = {"state_types": [FAILED]}, {"tags": {"any": ["x"]}}
    assert mine.meeting(all_of=[failed, tagged]) == {two}
    assert mine.meeting(any_of=[{"names": ["one"]}, {"names": ["three"]}]) == {one, three}
    assert mine.meeting(none_of=[failed, {"names": ["two"]}]) == {one}
    assert mine.meeting(none_of=[{"all_of": [failed, tagged]}]) == {one, three}
    assert mine.meeting(any_of=[{"none_of": [failed]}, {"all_of": [failed, tagged]}]) == {one, two}
    # A filter without conditions is met by all.
    assert mine.meeting(any_of=[{}]) == {one, two, three}
    assert mine.meeting(none_of=[{}]) == set()


def test_a_filter_that_contradicts_itself_finds_nothing(mine: Family) -> None:
    run = mine.make(tags=["a"], state={"type": FAILED})
    for filter_ in (
        {"tags": {"all": ["a"], "none": ["a"]}},
        {"tags": {"any": ["a"], "has_any": False}},
        {"state_types": [FAILED], "none_of": [{"state_types": [FAILED]}]},
        {"ids": [run], "none_of": [{"ids": [run]}]},
        {"start_time": {"is_set": False, "after": time(0)}},
        {"names": ["x"], "all_of": [{"names": ["y"]}]},
    ):
        assert mine.meeting(**filter_) == set()


def nested(depth: int) -> dict[str, Any]:
    filter_: dict[str, Any] = {"names": ["x"]}
    for group in ("any_of", "none_of", "all_of", "any_of")[:depth]:
        filter_ = {group: [filter_]}
    return filter_


def test_a_filter_that_is_too_large_is_refused_with_the_place(runs: Runs) -> None:
    runs.count(**nested(3))
    where = "filter.any_of[0].all_of[0].none_of[0].any_of"
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", where):
        runs.count(**nested(4))
    runs.count(any_of=[{"names": ["x"]}] * 49, names=["x"])
    too_many: list[dict[str, Any]] = [{"any_of": [{"names": ["x"]}] * 51}, {"none_of": [{}] * 51}]
    for filter_ in too_many:
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "filter"):
            runs.count(**filter_)
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "filter"):
            runs.page(filter=filter_)


NO_ID = "00000000-0000-7000-8000-000000000000"
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("filter.ids[1]", {"ids": [NO_ID, "x"]}),
    ("filter.any_of[1].ids[0]", {"any_of": [{}, {"ids": [""]}]}),
    ("filter.state_types[0]", {"state_types": [99]}),
    ("filter.name_contains", {"name_contains": "x" * 501}),
    ("filter.none_of[0].tags.all[0]", {"none_of": [{"tags": {"all": ["\0"]}}]}),
    ("filter.tags.any", {"tags": {"any": ["x"] * 501}}),
    ("filter.end_time.before", {"end_time": {"before": {"nanos": -1}}}),
]


@pytest.mark.parametrize(("field", "filter_"), WRONG, ids=[field for field, _ in WRONG])
def test_a_value_that_can_not_be_is_refused_with_its_place(
    runs: Runs, field: str, filter_: dict[str, Any]
) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field):
        runs.count(**filter_)


def test_runs_are_listed_in_every_order_those_without_a_time_last(mine: Family, runs: Runs) -> None:
    scheduled = [mine.make(name=name, state=due(at)) for name, at in (("b", 300), ("C", 100))]
    ended = [mine.make(name=name, state={"type": COMPLETED}) for name in ("a", "é")]
    started = mine.make(name="c", state={"type": RUNNING})
    waiting = mine.make(name="", state={"type": PENDING})
    names = {id_: runs.get(id_).name for id_ in [*scheduled, *ended, started, waiting]}
    by_name = sorted(names, key=lambda id_: names[id_])
    assert mine.in_order(8) == by_name
    assert mine.in_order(9) == by_name[::-1]
    not_ended = sorted([*scheduled, started, waiting], reverse=True)
    assert mine.in_order(6) == [*ended[::-1], *not_ended]
    others = sorted([*ended, started, waiting])
    assert mine.in_order(7) == [scheduled[1], scheduled[0], *others]
    # Those that have not started go by when they are due.
    by_start = [scheduled[1], scheduled[0], *ended, started, waiting]
    assert mine.in_order(4) == by_start
    assert mine.in_order(5) == by_start[::-1]
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "order_by"):
        runs.page(order_by=10)


def test_pages_hold_once_what_stays_while_other_runs_change(mine: Family, runs: Runs) -> None:
    for order in range(1, 10):
        made = {mine.make(state=due(100 + number % 3)) for number in range(7)}
        wanted = {"ids": list(made)}
        found, token = runs.page(filter=wanted, page_size=3, order_by=order)
        moved, deleted, *rest = [run.id for run in found]
        # One may come again, behind where the reader is; one is gone.
        runs.propose(proposal(moved, RUNNING, force=True))
        runs.delete(deleted)
        while token:
            found, token = runs.page(filter=wanted, page_size=3, order_by=order, page_token=token)
            rest += [run.id for run in found]
        assert sorted(id_ for id_ in rest if id_ != moved) == sorted(made - {moved, deleted})


# --- what only one kind has -----------------------------------------------------------------------


def test_flow_runs_are_found_by_their_parents(stubs: Stubs) -> None:
    runs = FlowRuns(stubs)
    parent = make_flow_run(stubs)
    tracker = make_task_run(stubs, flow_run_id=parent.id)
    child = make_flow_run(stubs, parent_task_run_id=tracker.id)
    both = [parent.id, child.id]
    assert runs.count(parent_flow_run_ids=[parent.id]) == 1
    assert runs.page(filter={"parent_flow_run_ids": [parent.id]})[0][0].id == child.id
    assert runs.count(ids=both, has_parent=True) == 1
    assert runs.count(ids=both, has_parent=False) == 1
    # What has no parent at all has none of these, too.
    assert runs.count(ids=both, none_of=[{"parent_flow_run_ids": [parent.id]}]) == 1
    assert runs.count(ids=both, none_of=[{"parent_task_run_ids": [tracker.id]}]) == 1
    (other,), _ = runs.page(
        filter={"ids": both, "none_of": [{"parent_task_run_ids": [tracker.id]}]}
    )
    assert other.id == parent.id
    assert TaskRuns(stubs).count(flow_run_ids=[parent.id], has_subflow=True) == 1
    assert TaskRuns(stubs).count(flow_run_ids=[parent.id], has_subflow=False) == 0
    FlowRuns(stubs).delete(child.id)
    assert TaskRuns(stubs).count(flow_run_ids=[parent.id], has_subflow=True) == 0


def test_flow_runs_are_found_by_what_they_were_made_with(stubs: Stubs) -> None:
    runs = FlowRuns(stubs)
    key, version, creator = unique("key"), unique("version"), unique("me")
    flow = make_flow(stubs)
    run = make_flow_run(
        stubs, flow.id, idempotency_key=key, flow_version=version, created_by=creator
    )
    make_flow_run(stubs, flow.id)
    for filter_ in (
        {"idempotency_keys": [key]},
        {"flow_versions": [version, "x"]},
        {"created_by": [creator]},
        {"flow_ids": [flow.id], "none_of": [{"flow_versions": [""]}]},
    ):
        assert [found.id for found in runs.page(filter=filter_)[0]] == [run.id]
    assert runs.count(flow_ids=[flow.id], has_deployment=False) == 2
    assert runs.count(flow_ids=[flow.id], has_deployment=True) == 0
    assert runs.count(deployment_ids=[uuid7()]) == 0


def test_task_runs_are_found_by_whether_they_are_alone(stubs: Stubs) -> None:
    runs = TaskRuns(stubs)
    alone, within = make_task_run(stubs), make_task_run(stubs, flow_run_id=make_flow_run(stubs).id)
    both = [alone.id, within.id]
    for has, run in ((True, within), (False, alone)):
        assert [found.id for found in runs.page(filter={"ids": both, "has_flow_run": has})[0]] == [
            run.id
        ]


def test_flows_are_found_by_name_tags_and_times(stubs: Stubs) -> None:
    mark = unique("Größe")
    one = make_flow(stubs, f"{mark} 1", tags=["x", "y"])
    two = make_flow(stubs, f"{mark} 2", tags=["x"])
    three = make_flow(stubs, f"{mark} 3")

    def meeting(**filter_: Any) -> list[str]:
        wanted = flow_pb2.FlowFilter(name_contains=mark.upper(), **filter_)
        found = all_flows(stubs, filter=wanted, order_by=flow_pb2.FLOW_ORDER_NAME_DESC, page_size=2)
        count = stubs.flows.CountFlows(flow_pb2.CountFlowsRequest(filter=wanted)).count
        assert count == len(found)
        return [flow.id for flow in found]

    assert meeting() == [three.id, two.id, one.id]
    assert meeting(tags={"all": ["x"]}) == [two.id, one.id]
    assert meeting(tags={"any": ["x"], "none": ["y"]}) == [two.id]
    assert meeting(tags={"has_any": False}) == [three.id]
    assert meeting(none_of=[{"names": [one.name]}]) == [three.id, two.id]
    assert meeting(any_of=[{"ids": [one.id]}, {"ids": [three.id]}]) == [three.id, one.id]
    assert meeting(create_time={"after": three.create_time}) == [three.id]
    assert meeting(update_time={"before": one.update_time}) == [one.id]
    assert meeting(has_deployments=True) == []
    assert meeting(has_deployments=False) == [three.id, two.id, one.id]

    one.tags.append("z")
    request = flow_pb2.UpdateFlowRequest(flow=one, update_mask=FieldMask(paths=["tags"]))
    stubs.flows.UpdateFlow(request)
    assert meeting(tags={"all": ["z", "x"]}) == [one.id]
    latest = all_flows(
        stubs,
        filter=flow_pb2.FlowFilter(name_contains=mark),
        order_by=flow_pb2.FLOW_ORDER_UPDATED_DESC,
    )
    assert [flow.id for flow in latest] == [one.id, three.id, two.id]
