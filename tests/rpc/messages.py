"""Messages at random, made from their descriptors: nonsense, but likely to get far.

A field mostly gets what its name and type ask for: an id of something that is there, JSON text, the
path of a mask. So most calls pass the first checks, and meet the last ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from hypothesis import strategies as st
from interlock.admin.v1 import maintenance_pb2, migration_pb2
from interlock.ids import uuid7
from interlock.v1 import (
    deployment_pb2,
    flow_pb2,
    flow_run_pb2,
    log_pb2,
    run_event_pb2,
    run_heartbeat_pb2,
    server_pb2,
    task_run_pb2,
)

FILES = [
    flow_pb2,
    deployment_pb2,
    flow_run_pb2,
    task_run_pb2,
    run_heartbeat_pb2,
    log_pb2,
    run_event_pb2,
    server_pb2,
    migration_pb2,
    maintenance_pb2,
]
METHODS: list[MethodDescriptor] = [
    method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]

_DEPTH = 4

_RARELY = 40
"""One value in so many is wild, the others are what a client might send: a request with one wild
value tells more than one in which the first check finds something."""


@dataclass(frozen=True)
class Values:
    """What a field may be set to."""

    tame: Sequence[Any]
    wild: Sequence[Any]

    def drawn(self) -> st.SearchStrategy[Any]:
        tame, wild = st.sampled_from(self.tame), st.sampled_from(self.wild)
        return st.integers(1, _RARELY).flatmap(lambda dice: wild if dice == 1 else tame)


_NUMBERS = Values([0, 0, 1, 2, 3, 50], [100, 101, 10_001, -1, 2**31 - 1, -(2**31)])
_LARGE_NUMBERS = Values(
    [0, 1, 2, 3, 60], [1_700_000_000, -1, 2**53 + 1, 2**63 - 1, -(2**63), 10**12]
)
_UNSIGNED = Values([0, 0, 1, 2, 50], [101, 2**31, 2**32 - 1])
_DOUBLES = Values([0.0, 0.5, 10.0], [-1.0, 10.1, 1e308, float("inf"), float("nan")])
_ENUMS = Values(range(4), [0, 9, 10, 99, -1, 2**31 - 1])
_TEXTS = Values(
    ["a", "b", "é", "\U0010ffff", "'; --", "%s :x $1"],
    ["", "\0", "\ufffe", "x" * 501, "x" * 2001, "x" * 70_000],
)
_JSON = Values(
    ["", "{}", "[1, 1.0, 1e999]", '"\\ud800"', '{"b": 1, "a": "\\u0000"}'],
    ['{"a": 1, "a": 2}', "NaN", "[" * 200, "\0", "1 2", '"', "\ufeff{}"],
)
_TOKENS = Values([""], ["WyJhIiwxXQ==", "é", "bnVsbA==", "W10=", "e30="])
_ETAGS = Values(["", "", "1"], ["0", "9" * 30, "٣", "-1", "x"])
_PATHS = Values(["name", "tags", "labels"], ["parameters_json", "id", "state.name", "", "*", "\0"])
_NO_IDS = ["", "x", "\0", "00000000-0000-0000-0000-000000000000", "{}", "A" * 36]
_REVISIONS = Values(["", "head", "0001"], ["base", "-1", "+1", "0001:", "\0", "x"])

message_class = message_factory.GetMessageClass


@dataclass(frozen=True)
class Known:
    """Ids of things that are there, to be put into requests."""

    flows: list[str]
    deployments: list[str]
    flow_runs: list[str]
    task_runs: list[str]


def path_of(method: MethodDescriptor) -> str:
    """The method as gRPC calls it."""
    return f"/{method.containing_service.full_name}/{method.name}"


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, known: Known, depth: int = _DEPTH) -> Any:
    """Messages of a type."""
    message = message_class(descriptor)()
    for field in descriptor.fields:
        if field.message_type is not None and depth == 0:
            continue
        # Most of what is there counts: few calls ask for nothing.
        if draw(st.integers(0, 5)) > 0:
            _fill(draw, message, field, known, depth)
    return message


def _fill(draw: st.DrawFn, message: Any, field: FieldDescriptor, known: Known, depth: int) -> None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        for _ in range(draw(st.integers(0, 2))):
            getattr(message, field.name)[draw(_TEXTS.drawn())] = draw(_TEXTS.drawn())
        return
    values = _scalars(field, known) if kind is None else messages(kind, known, depth - 1)
    if field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(values, min_size=1, max_size=2)))
    elif kind is not None:
        getattr(message, field.name).CopyFrom(draw(values))
    else:
        setattr(message, field.name, draw(values))


def _scalars(field: FieldDescriptor, known: Known) -> st.SearchStrategy[Any]:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return _strings(field, known)
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return _DOUBLES.drawn()
        case FieldDescriptor.CPPTYPE_ENUM:
            return _ENUMS.drawn()
        case FieldDescriptor.CPPTYPE_INT64:
            return _LARGE_NUMBERS.drawn()
        case FieldDescriptor.CPPTYPE_UINT32:
            return _UNSIGNED.drawn()
        case FieldDescriptor.CPPTYPE_INT32:
            return _NUMBERS.drawn()
    raise NotImplementedError(f"a field of {field.cpp_type}: {field.full_name}")


def _strings(field: FieldDescriptor, known: Known) -> st.SearchStrategy[str]:
    match field.name:
        case "page_token" | "resume_token":
            return _TOKENS.drawn()
        case "etag":
            return _ETAGS.drawn()
        case "paths":
            return _PATHS.drawn()
        case "revision":
            return _REVISIONS.drawn()
        case name if name.endswith("_json"):
            return _JSON.drawn()
        case name if name == "id" or name.endswith(("_id", "ids")):
            return Values(_ids(field, known), _NO_IDS).drawn()
        case _:
            return _TEXTS.drawn()


def _ids(field: FieldDescriptor, known: Known) -> list[str]:
    """Ids of what the field, or else its message, is named after; new ones too where it is made."""
    assert field.containing_type is not None
    message = field.containing_type.name
    words = message if field.name in ("id", "ids") else field.name.title().replace("_", "")
    new = [uuid7()] if message.startswith("Create") or "roducer" in words else []
    if message == "Proposal" and field.name == "id":
        return [*new, uuid7()]
    if "TaskRun" in words:
        return known.task_runs + new
    if "FlowRun" in words or words.startswith("Run"):
        return known.flow_runs + new
    if "Deployment" in words:
        return known.deployments + new
    if "Flow" in words:
        return known.flows + new
    return [uuid7()]
