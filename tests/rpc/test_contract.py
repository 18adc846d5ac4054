"""The contract as a whole: roles, limits that hold, health, reflection, the operators' services."""

import re
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from interlock.admin.v1.migration_pb2 import GetStatusRequest, UpgradeRequest
from interlock.admin.v1.migration_pb2_grpc import MigrationServiceStub
from interlock.ids import uuid7
from interlock.v1 import options_pb2
from interlock.v1.log_pb2 import ListLogsRequest
from interlock.v1.server_pb2 import GetServerInfoRequest, Limits

from tests.rpc.messages import METHODS
from tests.support.logs import append, record_batch
from tests.support.refusals import refused
from tests.support.runs import (
    RUNNING,
    FlowRuns,
    make_flow,
    make_flow_run,
    make_task_run,
    proposal,
    unique,
)
from tests.support.servers import ServerProcess
from tests.support.stubs import Stubs

SERVICES = {method.containing_service.full_name for method in METHODS}
DATA_SERVICES = {name for name in SERVICES if name.startswith("interlock.v1.")}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_every_method_declares_the_role_it_needs(method: MethodDescriptor) -> None:
    role = method.GetOptions().Extensions[options_pb2.required_role]
    assert role in options_pb2.Role.values()
    assert role != options_pb2.ROLE_UNSPECIFIED
    if method.containing_service.full_name not in DATA_SERVICES:
        assert role == options_pb2.ROLE_ADMIN
    reads = method.name.startswith(("Get", "List", "Count", "Explain", "Tail", "Search", "Watch"))
    assert (role == options_pb2.ROLE_READER) == (reads and role != options_pb2.ROLE_ADMIN)


def test_every_service_of_the_contract_is_among_them() -> None:
    protos = Path(__file__).parents[2] / "protos"
    declared = {
        f"interlock.{'.'.join(file.relative_to(protos / 'interlock').parts[:-1])}.{name}"
        for file in protos.rglob("*.proto")
        for name in re.findall(r"^service (\w+)", file.read_text(), re.MULTILINE)
    }
    assert declared == SERVICES


def test_every_service_is_healthy(stubs: Stubs) -> None:
    for service in ("", *DATA_SERVICES):
        answer = stubs.health.Check(HealthCheckRequest(service=service))
        assert answer.status == HealthCheckResponse.SERVING, service
    with pytest.raises(grpc.RpcError) as caught:
        stubs.health.Check(HealthCheckRequest(service="nobody"))
    assert caught.value.code() is StatusCode.NOT_FOUND


def test_reflection_lists_all_services_and_their_files(stubs: Stubs) -> None:
    database = ProtoReflectionDescriptorDatabase(stubs.channel)
    assert set(database.get_services()) == {
        *DATA_SERVICES,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for service in DATA_SERVICES:
        file = database.FindFileContainingSymbol(service)
        assert service.rpartition(".")[2] in {found.name for found in file.service}


def test_operators_are_told_where_the_schema_stands(dialect_server: ServerProcess) -> None:
    with grpc.insecure_channel(dialect_server.admin_target) as channel:
        admin = MigrationServiceStub(channel)
        status = admin.GetStatus(GetStatusRequest())
        assert status.servable
        assert status.current_revision == status.head_revision
        assert not status.pending
        assert not status.advice
        assert dialect_server.database_url.startswith(status.dialect)
        password = dialect_server.database_url.rpartition("@")[0].rpartition(":")[2]
        assert not password or password not in status.database_url
        assert list(admin.Upgrade(UpgradeRequest())) == []
        with refused(StatusCode.NOT_FOUND, "REVISION_NOT_FOUND"):
            list(admin.Upgrade(UpgradeRequest(revision="nowhere")))
        with refused(StatusCode.NOT_FOUND, "REVISION_NOT_FOUND"):
            list(admin.Upgrade(UpgradeRequest(revision="base")))
    assert dialect_server.admin_socket.stat().st_mode & 0o777 == 0o600


# --- limits ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def limits(stubs: Stubs, dialect_server: ServerProcess) -> Limits:
    """The limits that the server tells."""
    info = stubs.server.GetServerInfo(GetServerInfoRequest())
    assert info.version
    assert dialect_server.database_url.startswith(info.database)
    return info.limits


def test_every_limit_is_told(limits: Limits) -> None:
    told = {field.name for field, _ in limits.ListFields()}
    assert told == set(Limits.DESCRIPTOR.fields_by_name)


def test_the_limit_of_names_holds(stubs: Stubs, limits: Limits) -> None:
    name = unique("flow").ljust(limits.max_name_bytes, "x")
    assert make_flow(stubs, name).name == name
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "name"):
        make_flow(stubs, name + "x")


def test_the_limits_of_json_hold(stubs: Stubs, limits: Limits) -> None:
    longest = f'"{"x" * (limits.max_json_bytes - 2)}"'
    deepest = "[" * limits.max_json_depth + "]" * limits.max_json_depth
    for text in (longest, deepest):
        make_task_run(stubs, inputs_json=text)
    for text in (f"{longest} ", f"[{deepest}]"):
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "inputs_json"):
            make_task_run(stubs, inputs_json=text)


def test_the_limit_of_tags_and_labels_holds(stubs: Stubs, limits: Limits) -> None:
    words = [str(i) for i in range(limits.max_tags)]
    make_task_run(stubs, tags=words, labels=dict.fromkeys(words, ""))
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "tags"):
        make_task_run(stubs, tags=[*words, "one more"])
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "labels"):
        make_task_run(stubs, labels=dict.fromkeys([*words, "one more"], ""))


def test_the_limit_of_batches_holds(stubs: Stubs, limits: Limits) -> None:
    run = make_flow_run(stubs)
    runs = FlowRuns(stubs)
    most = [proposal(run.id, RUNNING) for _ in range(limits.max_batch_items)]
    outcomes = runs.propose_all(most)
    assert outcomes[-1].decision.run_count == limits.max_batch_items
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "proposals"):
        runs.propose_all([*most, proposal(run.id, RUNNING)])


def test_the_limit_of_pages_holds(stubs: Stubs, limits: Limits) -> None:
    run = make_flow_run(stubs)
    # A log is the quickest to make that is longer than a page.
    batch = record_batch(run.id, *["x"] * (limits.max_page_size + 1), number=1)
    append(stubs, uuid7(), [batch])
    for size in (limits.max_page_size, 2**31 - 1):
        page = stubs.logs.ListLogs(ListLogsRequest(run_id=run.id, page_size=size))
        assert len(page.records) == limits.max_page_size
        assert page.next_page_token


def test_the_limits_of_log_batches_hold(stubs: Stubs, limits: Limits) -> None:
    run = make_flow_run(stubs)
    most, longest = limits.max_log_batch_records, limits.max_log_message_bytes
    batches = [
        record_batch(run.id, *["x"] * most, number=1),
        record_batch(run.id, *["x"] * (most + 1), number=2),
        record_batch(run.id, "x" * longest, number=3),
        record_batch(run.id, "x" * (longest + 1), number=4),
    ]
    appended = append(stubs, uuid7(), batches)
    assert [batch.number for batch in appended.refused] == [2, 4]


def test_the_limit_of_messages_holds(stubs: Stubs, limits: Limits) -> None:
    # A message that just fits is read, and refused for what is in it.
    name = "x" * (limits.max_message_bytes - 5)
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "name"):
        make_flow(stubs, name)
    with pytest.raises(grpc.RpcError) as caught:
        make_flow(stubs, name + "x")
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert str(limits.max_message_bytes) in (caught.value.details() or "")
