"""Whatever is sent, to whichever method: the answer is one of the contract's."""

import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from grpc import StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interlock.ids import uuid7

from tests.rpc.messages import METHODS, Known, message_class, messages, path_of
from tests.support.logs import append, record_batch
from tests.support.refusals import DOMAIN, refusal_of
from tests.support.runs import COMPLETED, make_deployment, make_flow, make_flow_run, make_task_run
from tests.support.servers import ServerProcess
from tests.support.stubs import Stubs

FORESEEN = {
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.ALREADY_EXISTS,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.ABORTED,
    StatusCode.OUT_OF_RANGE,
    StatusCode.RESOURCE_EXHAUSTED,
}

SCHEMA_CHANGED = "SCHEMA_CHANGED"
"""What random operators are told whose database another of them has reset."""

TAIL_PATIENCE = 0.3
"""Seconds after which a tail that has nothing more to say yet is left."""

# The same examples in each run: a run that fails can be run again.
few = settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# What a dialect may make of odd input, it makes of it alike in its other versions.
pytestmark = pytest.mark.parametrize(
    "dialect_server", ["sqlite_324", "postgresql_18"], indirect=True, scope="session"
)
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)


@pytest.fixture
def known(stubs: Stubs) -> Known:
    """What fuzzed requests may find, change and delete."""
    known = Known([], [], [], [])
    for _ in range(4):
        flow = make_flow(stubs)
        flow_run = make_flow_run(stubs, flow.id, state={"type": COMPLETED})
        task_run = make_task_run(stubs, flow_run_id=flow_run.id)
        alone = make_task_run(stubs)
        append(stubs, uuid7(), [record_batch(flow_run.id, "x", number=1, end_of_run=True)])
        known.flows.append(flow.id)
        known.deployments.append(make_deployment(stubs, flow.id).id)
        known.flow_runs.append(flow_run.id)
        known.task_runs.extend([task_run.id, alone.id])
    return known


@pytest.fixture(scope="module")
def expendable_server(
    dialect_server: ServerProcess, request: pytest.FixtureRequest
) -> Iterator[ServerProcess]:
    """A server of the same dialect for random operators, who may reset its database."""
    if dialect_server.database_url.startswith("sqlite"):
        with ServerProcess(environment=request.getfixturevalue("sqlite_324_environment")) as server:
            yield server
        return
    with request.getfixturevalue("postgresql_18").database() as url, ServerProcess(url) as server:
        yield server


@pytest.fixture(scope="module")
def channels(
    dialect_server: ServerProcess, expendable_server: ServerProcess
) -> Iterator[dict[str, grpc.Channel]]:
    """A channel to each listener, by the package that it serves."""
    with (
        grpc.insecure_channel(dialect_server.target) as data,
        grpc.insecure_channel(expendable_server.admin_target) as admin,
    ):
        yield {"interlock.v1": data, "interlock.admin.v1": admin}


def send(channel: grpc.Channel, method: MethodDescriptor, requests: list[bytes]) -> list[Any]:
    """Call a method with what may be no messages. Raises RpcError unless it ends well."""
    decode = message_class(method.output_type).FromString
    path = path_of(method)
    if method.client_streaming:
        both = channel.stream_stream(path, response_deserializer=decode)  # type: ignore[var-annotated]
        return list(both(iter(requests), timeout=30))
    if method.server_streaming:
        stream = channel.unary_stream(path, response_deserializer=decode)  # type: ignore[var-annotated]
        answers = []
        try:
            call = stream(requests[0], timeout=TAIL_PATIENCE)
            for answer in call:
                answers.append(answer)
                if method.name.startswith("Watch"):
                    call.cancel()  # It has no end, and its first word comes at once.
                    return answers
        except grpc.RpcError as error:
            if refusal_of(error).code is not StatusCode.DEADLINE_EXCEEDED:
                raise
        return answers
    unary = channel.unary_unary(path, response_deserializer=decode)  # type: ignore[var-annotated]
    return [unary(requests[0], timeout=30)]


def check(channel: grpc.Channel, method: MethodDescriptor, requests: list[bytes]) -> None:
    try:
        send(channel, method, requests)
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        assert refusal.code in FORESEEN or (
            refusal.reason == SCHEMA_CHANGED and "admin" in method.full_name
        ), refusal
        assert refusal.domain == DOMAIN
        assert re.fullmatch("[A-Z][A-Z_]+", refusal.reason)
        if refusal.code is StatusCode.INVALID_ARGUMENT and refusal.reason != "UNDECODABLE":
            (field,) = refusal.fields
            assert has_field(method.input_type, field), f"{field} is no field of the request"


def has_field(descriptor: Descriptor | None, path: str) -> bool:
    for step in re.sub(r"\[.*?\]| key", "", path, flags=re.DOTALL).split("."):
        if descriptor is None or step not in descriptor.fields_by_name:
            return False
        descriptor = descriptor.fields_by_name[step].message_type
    return True


@every_method
def test_random_messages_are_taken_or_refused(
    method: MethodDescriptor, channels: dict[str, grpc.Channel], known: Known
) -> None:
    channel = channels[method.containing_service.file.package]
    one = messages(method.input_type, known)
    some = st.lists(one, min_size=1, max_size=4 if method.client_streaming else 1)

    @few
    @given(some)
    def fuzz(requests: list[Any]) -> None:
        check(channel, method, [request.SerializeToString() for request in requests])

    fuzz()


@every_method
def test_random_bytes_are_taken_or_refused(
    method: MethodDescriptor, channels: dict[str, grpc.Channel], known: Known
) -> None:
    channel = channels[method.containing_service.file.package]
    valid = messages(method.input_type, known).map(lambda m: m.SerializeToString())

    @st.composite
    def damaged(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(valid))
        for _ in range(draw(st.integers(1, 4))):
            if data:
                data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return bytes(data[: draw(st.integers(0, len(data)))])

    @few
    @given(st.one_of(damaged(), st.binary(max_size=100)))
    def fuzz(data: bytes) -> None:
        check(channel, method, [data])

    fuzz()
