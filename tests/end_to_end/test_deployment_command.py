"""`interlock deployment`, as an operator types it."""

import json

import pytest
from interlock import Client
from interlock.ids import uuid7
from interlock.v1.deployment_pb2 import DeploymentFilter

from tests.end_to_end.commands import Ended, interlock
from tests.support.servers import ServerProcess


@pytest.fixture
def server(interlock_on_sqlite_file: ServerProcess) -> ServerProcess:
    return interlock_on_sqlite_file


def deployment(server: ServerProcess, *words: str) -> Ended:
    return interlock("deployment", *words, "--server", server.target)


def succeed(server: ServerProcess, *words: str) -> str:
    done = deployment(server, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_deployment_is_made_looked_at_and_deleted(server: ServerProcess) -> None:
    flow = f"etl-{uuid7()}"
    with Client(server.target) as client:
        flow_id = client.create_flow(flow).id
    new = ("create", flow, "nightly")
    shown = succeed(server, *new, "--tag", "b", "--tag", "a", "--label", "team=data=x")
    for part in ("nightly", flow, "a, b", "team=data=x"):
        assert part in shown
    again = deployment(server, *new, "--json")
    made = json.loads(again.stdout)
    assert (made["flow_id"], made["labels"]) == (flow_id, {"team": "data=x"})
    again = deployment(server, *new)
    assert "already" in again.stderr

    heading, line = succeed(server, "ls", "--flow", flow).splitlines()
    assert heading.split() == ["ID", "FLOW", "NAME", "TAGS", "CREATED"]
    assert line.split()[:5] == [made["id"], flow, "nightly", "a,", "b"]
    assert json.loads(succeed(server, "ls", "--flow", flow, "--json")) == made
    for name in (made["id"], f"{flow}/nightly"):
        found = json.loads(succeed(server, "inspect", name, "--json"))
        assert found.pop("flow")["name"] == flow
        assert found == made
    assert "nightly" in succeed(server, "inspect", made["id"])

    asked = deployment(server, "delete", f"{flow}/nightly")
    assert asked.returncode == 2
    assert "Its runs stay" in asked.stderr
    assert succeed(server, "delete", made["id"], "-y") == f"Deleted {made['id']}.\n"
    gone = deployment(server, "inspect", f"{flow}/nightly")
    assert gone.returncode == 1
    assert "There is no deployment nightly" in gone.stderr
    neither = deployment(server, "inspect", "nightly")
    assert (neither.returncode, neither.stderr) == (
        1,
        "Error: 'nightly' is neither an id nor FLOW/NAME.\n",
    )
    none = deployment(server, "ls", "--flow", flow)
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "No such deployments.\n")


def test_the_client_makes_finds_and_deletes_them_and_runs_belong_to_them(
    server: ServerProcess,
) -> None:
    with Client(server.target) as client:
        flow = client.create_flow(f"etl-{uuid7()}")
        nightly = client.create_deployment(flow, "nightly", tags=["a"])
        weekly = client.create_deployment(flow.id, "weekly")
        assert client.get_deployment(nightly.id) == nightly
        assert client.get_deployment(flow=flow, name="weekly") == weekly
        mine = DeploymentFilter(flow_ids=[flow.id])
        assert list(client.list_deployments(mine, page_size=1)) == [weekly, nightly]
        with client.flow_run(flow, deployment=nightly) as run:
            pass
        assert client.get_flow_run(run.id).deployment_id == nightly.id
        client.delete_deployment(nightly, etag=nightly.etag)
        client.delete_deployment(weekly.id)
        assert client.count_deployments(mine) == 0


def test_what_makes_no_sense_is_said(server: ServerProcess) -> None:
    label = deployment(server, "create", "flow", "name", "--label", "x")
    assert label.returncode == 2
    assert "'x' is not KEY=VALUE" in label.stderr
    flow = deployment(server, "create", f"nobody-{uuid7()}", "name")
    assert flow.returncode == 1
    assert "There is no flow nobody-" in flow.stderr
