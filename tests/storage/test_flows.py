"""Flows: made by name, read, listed, changed, deleted."""

from concurrent.futures import ThreadPoolExecutor

from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import flow_pb2 as pb
from interlock.v1 import log_pb2

from tests.support.logs import append, record_batch
from tests.support.refusals import refused
from tests.support.runs import (
    RUNNING,
    FlowRuns,
    TaskRuns,
    make_flow,
    make_flow_run,
    make_task_run,
    unique,
)
from tests.support.stubs import Stubs


def update(stubs: Stubs, flow: pb.Flow, *paths: str) -> pb.Flow:
    request = pb.UpdateFlowRequest(flow=flow)
    request.update_mask.paths.extend(paths)
    return stubs.flows.UpdateFlow(request).flow


def test_a_flow_is_made_once_and_found_by_name_from_then_on(stubs: Stubs) -> None:
    name = unique("flow")
    request = pb.CreateFlowRequest(name=name, tags=["b", "a", "b"], labels={"team": "data"})
    made = stubs.flows.CreateFlow(request)
    again = stubs.flows.CreateFlow(pb.CreateFlowRequest(name=name, tags=["ignored"]))

    assert made.created
    assert not again.created
    assert again.flow == made.flow
    assert list(made.flow.tags) == ["a", "b"]
    assert dict(made.flow.labels) == {"team": "data"}
    assert made.flow.create_time == made.flow.update_time
    by_id = stubs.flows.GetFlow(pb.GetFlowRequest(id=made.flow.id)).flow
    by_name = stubs.flows.GetFlow(pb.GetFlowRequest(name=name)).flow
    assert by_id == by_name == made.flow


def test_many_who_register_one_name_at_once_get_one_flow(stubs: Stubs) -> None:
    name = unique("flow")

    def register(_: int) -> pb.CreateFlowResponse:
        return stubs.flows.CreateFlow(pb.CreateFlowRequest(name=name, id=uuid7()))

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(register, range(64)))

    assert len({answer.flow.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    request = pb.CountFlowsRequest(filter=pb.FlowFilter(names=[name]))
    assert stubs.flows.CountFlows(request).count == 1


def test_an_id_is_not_given_to_a_second_name(stubs: Stubs) -> None:
    flow = make_flow(stubs, id=uuid7())
    with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
        make_flow(stubs, id=flow.id)


def test_a_flow_that_is_not_there_is_not_found(stubs: Stubs) -> None:
    for key in ({"id": uuid7()}, {"name": unique("nobody")}):
        with refused(StatusCode.NOT_FOUND, "FLOW_NOT_FOUND"):
            stubs.flows.GetFlow(pb.GetFlowRequest(**key))
    with refused(StatusCode.NOT_FOUND, "FLOW_NOT_FOUND"):
        update(stubs, pb.Flow(id=uuid7()), "tags")
    with refused(StatusCode.NOT_FOUND, "FLOW_NOT_FOUND"):
        stubs.flows.DeleteFlow(pb.DeleteFlowRequest(id=uuid7()))
    with refused(StatusCode.NOT_FOUND, "FLOW_NOT_FOUND"):
        stubs.flows.DeleteFlow(pb.DeleteFlowRequest(id=uuid7(), force=True))


def test_only_what_the_mask_names_is_changed(stubs: Stubs) -> None:
    flow = make_flow(stubs, tags=["old"], labels={"old": "1"})
    changed = update(stubs, pb.Flow(id=flow.id, tags=["new"], labels={"new": "2"}), "tags")

    assert list(changed.tags) == ["new"]
    assert dict(changed.labels) == {"old": "1"}
    assert changed.etag != flow.etag
    assert changed.update_time.ToNanoseconds() > flow.update_time.ToNanoseconds()
    assert stubs.flows.GetFlow(pb.GetFlowRequest(id=flow.id)).flow == changed


def test_a_flow_that_has_changed_since_is_neither_changed_nor_deleted(stubs: Stubs) -> None:
    seen = make_flow(stubs)
    update(stubs, pb.Flow(id=seen.id, tags=["other"]), "tags")

    with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
        update(stubs, pb.Flow(id=seen.id, etag=seen.etag, tags=["mine"]), "tags")
    for force in (False, True):
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            request = pb.DeleteFlowRequest(id=seen.id, etag=seen.etag, force=force)
            stubs.flows.DeleteFlow(request)

    now = stubs.flows.GetFlow(pb.GetFlowRequest(id=seen.id)).flow
    assert list(now.tags) == ["other"]
    stubs.flows.DeleteFlow(pb.DeleteFlowRequest(id=seen.id, etag=now.etag))
    with refused(StatusCode.NOT_FOUND, "FLOW_NOT_FOUND"):
        stubs.flows.GetFlow(pb.GetFlowRequest(id=seen.id))


def test_a_flow_with_runs_is_deleted_only_by_force_and_with_all_that_is_theirs(
    stubs: Stubs,
) -> None:
    flow = make_flow(stubs)
    runs = [make_flow_run(stubs, flow.id, state={"type": RUNNING}) for _ in range(3)]
    tasks = [make_task_run(stubs, flow_run_id=run.id) for run in runs]
    for run in runs:
        append(stubs, uuid7(), [record_batch(run.id, "a line", number=1)])

    with refused(StatusCode.FAILED_PRECONDITION, "FLOW_HAS_RUNS"):
        stubs.flows.DeleteFlow(pb.DeleteFlowRequest(id=flow.id))
    assert FlowRuns(stubs).count(flow_ids=[flow.id]) == 3

    stubs.flows.DeleteFlow(pb.DeleteFlowRequest(id=flow.id, force=True))

    assert FlowRuns(stubs).count(flow_ids=[flow.id]) == 0
    for run, task in zip(runs, tasks, strict=True):
        with refused(StatusCode.NOT_FOUND, "TASK_RUN_NOT_FOUND"):
            TaskRuns(stubs).get(task.id)
        with refused(StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
            stubs.logs.ListLogs(log_pb2.ListLogsRequest(run_id=run.id))
