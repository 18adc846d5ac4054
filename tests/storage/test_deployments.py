"""Deployments, on every dialect."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import deployment_pb2 as pb
from interlock.v1.flow_pb2 import DeleteFlowRequest
from interlock.v1.state_pb2 import VERDICT_ABORT, VERDICT_ACCEPT
from interlock_server.storage import migrations
from interlock_server.storage.database import Database
from interlock_server.storage.dialects import open_database
from interlock_server.storage.facts import Needs
from interlock_server.storage.records import RunKind

from tests.support.refusals import refused
from tests.support.runs import (
    COMPLETED,
    SCHEDULED,
    FlowRuns,
    make_deployment,
    make_flow,
    make_flow_run,
    proposal,
    unique,
)
from tests.support.stored import Rows, ago
from tests.support.stubs import Stubs


@pytest_asyncio.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A database with an empty schema."""
    opened = open_database(url)
    await opened.check()
    await migrations.upgrade(opened)
    yield opened
    await opened.close()


async def test_a_batch_knows_the_deployments_it_asks_for_and_those_of_its_runs(
    database: Database,
) -> None:
    rows = Rows()
    flow = rows.flow()
    of_run, asked, by_name, other = (
        rows.deployment(flow, name) for name in ("of a run", "asked", "by name", "other")
    )
    deleted = uuid7()
    run, orphan, bare = (
        rows.run("flow_run", ago(1), flow_id=flow, deployment_id=id_)
        for id_ in (of_run, deleted, None)
    )
    await rows.put(database)
    needs = Needs()
    needs.runs_to_write[RunKind.FLOW_RUN] = {run, orphan, bare}
    needs.deployments_to_read = {asked}
    needs.deployment_keys = {(flow, "by name"), (flow, "nowhere"), (uuid7(), "other")}

    writer = await database.open_writer()
    facts = await writer.begin(needs)
    await writer.rollback()
    await writer.close()

    assert facts.deployments.keys() == {of_run, asked, by_name}
    assert facts.deployments[of_run].name == "of a run"
    assert facts.deployment_ids_by_key[flow, "by name"] == by_name
    runs = facts.runs[RunKind.FLOW_RUN]
    assert [runs[id_].deployment_id for id_ in (run, orphan, bare)] == [of_run, deleted, None]
    assert deleted not in facts.deployments
    assert other not in facts.deployments


# --- the service ----------------------------------------------------------------------------------


def get(stubs: Stubs, **key: Any) -> pb.Deployment:
    return stubs.deployments.GetDeployment(pb.GetDeploymentRequest(**key)).deployment


def count(stubs: Stubs, **filter_: Any) -> int:
    request = pb.CountDeploymentsRequest(filter=pb.DeploymentFilter(**filter_))
    return stubs.deployments.CountDeployments(request).count


def listed(stubs: Stubs, **request: Any) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    token = ""
    while True:
        asked = pb.ListDeploymentsRequest(**request, page_token=token)
        page = stubs.deployments.ListDeployments(asked)
        assert not asked.page_size or len(page.deployments) <= asked.page_size
        found += [deployment.id for deployment in page.deployments]
        token = page.next_page_token
        if not token:
            return found


def test_a_deployment_is_made_once_and_found_by_flow_and_name_from_then_on(stubs: Stubs) -> None:
    flow = make_flow(stubs)
    name = unique("deployment")
    request = pb.CreateDeploymentRequest(
        flow_id=flow.id, name=name, tags=["b", "a", "b"], labels={"team": "x"}, created_by="ada"
    )
    made = stubs.deployments.CreateDeployment(request)
    again = stubs.deployments.CreateDeployment(
        pb.CreateDeploymentRequest(flow_id=flow.id, name=name, tags=["ignored"])
    )

    assert made.created
    assert not again.created
    assert again.deployment == made.deployment
    assert (made.deployment.flow_id, made.deployment.name) == (flow.id, name)
    assert list(made.deployment.tags) == ["a", "b"]
    assert dict(made.deployment.labels) == {"team": "x"}
    assert made.deployment.created_by == "ada"
    assert made.deployment.create_time == made.deployment.update_time
    by_name = get(stubs, name={"flow_id": flow.id, "name": name})
    assert get(stubs, id=made.deployment.id) == by_name == made.deployment


def test_a_name_is_free_for_each_flow(stubs: Stubs) -> None:
    name = unique("deployment")
    one, other = make_deployment(stubs, name=name), make_deployment(stubs, name=name)
    assert one.id != other.id
    assert count(stubs, names=[name]) == 2


def test_many_who_register_one_deployment_at_once_get_one(stubs: Stubs) -> None:
    flow, name = make_flow(stubs), unique("deployment")

    def register(_: int) -> pb.CreateDeploymentResponse:
        request = pb.CreateDeploymentRequest(flow_id=flow.id, name=name, id=uuid7())
        return stubs.deployments.CreateDeployment(request)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(register, range(64)))
    assert len({answer.deployment.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert count(stubs, flow_ids=[flow.id]) == 1


def test_a_creation_sent_again_answers_the_same_and_its_id_is_not_for_others(stubs: Stubs) -> None:
    flow = make_flow(stubs)
    request = pb.CreateDeploymentRequest(
        flow_id=flow.id, name="same", id=uuid7(), tags=["a"], labels={"k": "v"}, created_by="ada"
    )
    first = stubs.deployments.CreateDeployment(request)
    again = stubs.deployments.CreateDeployment(request)
    assert (first.created, again.created) == (True, False)
    assert first.deployment == again.deployment

    make_deployment(stubs, flow.id, "taken")
    changes: list[dict[str, Any]] = [
        {"name": "other"},
        {"name": "taken"},
        {"flow_id": make_flow(stubs).id},
        {"tags": ["b"]},
        {"labels": {"k": "w"}},
        {"created_by": "bob"},
    ]
    for change in changes:
        other = pb.CreateDeploymentRequest(**{**_content(request), **change})
        with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
            stubs.deployments.CreateDeployment(other)
    assert count(stubs, flow_ids=[flow.id]) == 2


def _content(request: pb.CreateDeploymentRequest) -> dict[str, Any]:
    return {
        "flow_id": request.flow_id,
        "name": request.name,
        "id": request.id,
        "tags": list(request.tags),
        "labels": dict(request.labels),
        "created_by": request.created_by,
    }


def test_what_is_not_there_is_not_found(stubs: Stubs) -> None:
    with refused(StatusCode.NOT_FOUND, "FLOW_NOT_FOUND"):
        make_deployment(stubs, uuid7())
    flow = make_flow(stubs)
    for key in ({"id": uuid7()}, {"name": {"flow_id": flow.id, "name": "nobody"}}):
        with refused(StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"):
            get(stubs, **key)
    with refused(StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"):
        stubs.deployments.DeleteDeployment(pb.DeleteDeploymentRequest(id=uuid7()))


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ({}, "id"),
        ({"id": "x"}, "id"),
        ({"name": {"name": "a"}}, "name.flow_id"),
        ({"name": {"flow_id": uuid7()}}, "name.name"),
    ],
    ids=["nothing", "no id", "no flow", "no name"],
)
def test_a_deployment_is_named_whole(stubs: Stubs, key: dict[str, Any], field: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field=field):
        get(stubs, **key)


def test_deployments_are_listed_by_time_or_name_in_pages_that_fit(stubs: Stubs) -> None:
    flow = make_flow(stubs)
    names = ["b", "a", "Z", "é", "c"]
    made = {name: make_deployment(stubs, flow.id, name).id for name in names}
    make_deployment(stubs)
    mine: dict[str, Any] = {"flow_ids": [flow.id]}
    newest_first = [made[name] for name in reversed(names)]
    by_name = [made[name] for name in sorted(names)]
    for size in (0, 1, 2, 5, 6):
        assert listed(stubs, filter=mine, page_size=size) == newest_first
        assert listed(stubs, filter=mine, page_size=size, order_by="DEPLOYMENT_ORDER_NAME_ASC") == (
            by_name
        )
    assert listed(stubs, filter=mine | {"names": ["a", "c"]}) == [made["c"], made["a"]]
    assert listed(stubs, filter={"ids": [made["b"], uuid7()]}) == [made["b"]]
    assert (
        listed(stubs, filter=mine, page_size=2, order_by="DEPLOYMENT_ORDER_NAME_DESC")
        == (by_name[::-1])
    )
    assert listed(stubs, filter=mine, page_size=2, order_by="DEPLOYMENT_ORDER_UPDATED_DESC") == (
        newest_first
    )
    assert count(stubs, **mine) == 5
    first = pb.ListDeploymentsRequest(filter=pb.DeploymentFilter(**mine), page_size=2)
    page = stubs.deployments.ListDeployments(first)
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="page_token"):
        stubs.deployments.ListDeployments(
            pb.ListDeploymentsRequest(page_size=2, page_token=page.next_page_token)
        )


def test_deployments_are_found_by_all_that_a_filter_says(stubs: Stubs) -> None:
    flow = make_flow(stubs)
    one = make_deployment(stubs, flow.id, "Nightly_1", tags=["a", "b"], created_by="ada")
    two = make_deployment(stubs, flow.id, "nightly 2", tags=["b"])
    three = make_deployment(stubs, flow.id, "weekly")
    finds: list[tuple[dict[str, Any], list[pb.Deployment]]] = [
        ({"name_contains": "NIGHT"}, [two, one]),
        ({"name_contains": "y_"}, [one]),
        ({"tags": {"all": ["a", "b"]}}, [one]),
        ({"tags": {"any": ["a", "b"]}}, [two, one]),
        ({"tags": {"none": ["a"]}}, [three, two]),
        ({"tags": {"has_any": False}}, [three]),
        ({"created_by": ["ada", "bob"]}, [one]),
        ({"create_time": {"after": two.create_time}}, [three, two]),
        ({"update_time": {"before": two.update_time}}, [two, one]),
        ({"any_of": [{"names": ["weekly"]}, {"tags": {"any": ["a"]}}]}, [three, one]),
        ({"none_of": [{"ids": [one.id]}], "all_of": [{"tags": {"any": ["b"]}}]}, [two]),
    ]
    for given, found in finds:
        mine = {"flow_ids": [flow.id], **given}
        assert listed(stubs, filter=mine, page_size=1) == [each.id for each in found], given
        assert count(stubs, **mine) == len(found), given


def test_a_deployment_is_deleted_as_it_was_seen_and_its_runs_keep_its_id(stubs: Stubs) -> None:
    deployment = make_deployment(stubs)
    run = make_flow_run(stubs, deployment.flow_id, deployment_id=deployment.id)
    with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
        stubs.deployments.DeleteDeployment(pb.DeleteDeploymentRequest(id=deployment.id, etag="7"))
    stubs.deployments.DeleteDeployment(
        pb.DeleteDeploymentRequest(id=deployment.id, etag=deployment.etag)
    )

    with refused(StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"):
        get(stubs, id=deployment.id)
    assert FlowRuns(stubs).get(run.id).deployment_id == deployment.id
    # Its name is free.
    assert make_deployment(stubs, deployment.flow_id, deployment.name).id != deployment.id


def test_a_runs_deployment_is_there_and_of_its_flow(stubs: Stubs) -> None:
    flow = make_flow(stubs)
    deployment, foreign = make_deployment(stubs, flow.id), make_deployment(stubs)
    request = FlowRuns(stubs).creation(flow_id=flow.id, deployment_id=deployment.id)
    made = FlowRuns(stubs).create(request).flow_run
    assert made.deployment_id == deployment.id
    with refused(StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"):
        make_flow_run(stubs, flow.id, deployment_id=uuid7())
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="deployment_id"):
        make_flow_run(stubs, flow.id, deployment_id=foreign.id)
    # A run that is there is answered, whatever became of its deployment.
    stubs.deployments.DeleteDeployment(pb.DeleteDeploymentRequest(id=deployment.id))
    assert FlowRuns(stubs).create(request).flow_run.id == made.id


def test_a_run_is_scheduled_again_only_so_long_as_its_deployment_is_there(stubs: Stubs) -> None:
    deployment = make_deployment(stubs)
    run = make_flow_run(
        stubs, deployment.flow_id, deployment_id=deployment.id, state={"type": COMPLETED}
    )
    decision = FlowRuns(stubs).propose(proposal(run.id, SCHEDULED))
    assert decision.verdict == VERDICT_ACCEPT
    FlowRuns(stubs).propose(proposal(run.id, COMPLETED))
    stubs.deployments.DeleteDeployment(pb.DeleteDeploymentRequest(id=deployment.id))
    decision = FlowRuns(stubs).propose(proposal(run.id, SCHEDULED))
    assert (decision.verdict, decision.reason) == (VERDICT_ABORT, "NO_DEPLOYMENT")


def test_deployments_go_with_their_flow(stubs: Stubs) -> None:
    deployment = make_deployment(stubs)
    stubs.flows.DeleteFlow(DeleteFlowRequest(id=deployment.flow_id))
    with refused(StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"):
        get(stubs, id=deployment.id)
