"""Reading filters: each field of a filter message is a condition, and groups hold filters again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf.message import Message

from interlock_server.core.errors import InvalidArgumentError
from interlock_server.rpc import fields, states
from interlock_server.rpc.limits import (
    MAX_FILTER_BYTES,
    MAX_FILTER_CONDITIONS,
    MAX_FILTER_DEPTH,
    MAX_FILTER_VALUES,
    MAX_KEY_BYTES,
    MAX_NAME_BYTES,
)
from interlock_server.storage.filters import (
    AllOf,
    AnyOf,
    Condition,
    HasTags,
    IsSet,
    NameContains,
    Not,
    OneOf,
    Tagged,
    Within,
)
from interlock_server.storage.rows import folded

Reader = Callable[[str, Any], list[Condition]]
"""Reads the value of a field, by its path, as conditions."""

_GROUPS = ("all_of", "any_of", "none_of")


def read(given: Message, readers: Mapping[str, Reader], field: str = "filter") -> Condition:
    """Read a request's filter. Raises InvalidArgumentError, with the path of what is wrong."""
    if (size := given.ByteSize()) > MAX_FILTER_BYTES:
        raise InvalidArgumentError(
            field, f"The filter has {size:,} bytes; at most {MAX_FILTER_BYTES:,} are taken."
        )
    condition = _read(field, given, readers, 0)
    if (count := sum(1 for _ in _leaves(condition))) > MAX_FILTER_CONDITIONS:
        raise InvalidArgumentError(
            field,
            f"The filter has {count:,} conditions in all; at most {MAX_FILTER_CONDITIONS} are "
            "taken. A list of values is one condition.",
        )
    return condition


def _read(path: str, given: Message, readers: Mapping[str, Reader], depth: int) -> AllOf:
    parts: list[Condition] = []
    for field, value in given.ListFields():
        within = f"{path}.{field.name}"
        if field.name not in _GROUPS:
            parts += readers[field.name](within, value)
            continue
        if depth == MAX_FILTER_DEPTH:
            raise InvalidArgumentError(
                within, f"Groups stand in groups more than {MAX_FILTER_DEPTH} deep here."
            )
        members = tuple(
            _read(f"{within}[{i}]", member, readers, depth + 1) for i, member in enumerate(value)
        )
        parts.append(_grouped(field.name, members))
    return AllOf(tuple(parts))


def _grouped(group: str, members: tuple[AllOf, ...]) -> Condition:
    match group:
        case "all_of":
            return AllOf(members)
        case "any_of":
            return AnyOf(members)
        case _:
            return Not(AnyOf(members))


def _leaves(condition: Condition) -> Iterator[Condition]:
    """Answer the conditions that a condition is made of; a group member without any counts, too."""
    match condition:
        case AllOf(parts) | AnyOf(parts) if parts:
            for part in parts:
                yield from _leaves(part)
        case Not(part):
            yield from _leaves(part)
        case _:
            yield condition


# --- the fields -----------------------------------------------------------------------------------


def _listed(path: str, values: Any) -> None:
    if len(values) > MAX_FILTER_VALUES:
        raise InvalidArgumentError(
            path, f"{len(values):,} values are given; at most {MAX_FILTER_VALUES} are taken."
        )


def _ids(field: str) -> Reader:
    def read_ids(path: str, values: Any) -> list[Condition]:
        _listed(path, values)
        return [OneOf(field, fields.ids(path, values))]

    return read_ids


def _texts(field: str, max_bytes: int = MAX_NAME_BYTES) -> Reader:
    def read_texts(path: str, values: Any) -> list[Condition]:
        return [OneOf(field, _words(path, values, max_bytes))]

    return read_texts


def _words(path: str, values: Any, max_bytes: int = MAX_NAME_BYTES) -> tuple[str, ...]:
    _listed(path, values)
    return fields.texts(path, values, max_bytes)


def _state_types(path: str, values: Any) -> list[Condition]:
    _listed(path, values)
    types = [type_.value for type_ in states.state_types(path, values)]
    return [OneOf("state_type", tuple(types))]


def _present(field: str) -> Reader:
    def read_present(path: str, value: bool) -> list[Condition]:
        return [_whether(IsSet(field), value)]

    return read_present


def _whether(condition: Condition, value: bool) -> Condition:
    return condition if value else Not(condition)


def _name_contains(path: str, value: str) -> list[Condition]:
    return [NameContains(folded(fields.text(path, value)))]


def _tags(path: str, given: Any) -> list[Condition]:
    found: list[Condition] = []
    if given.all:
        found.append(Tagged(_words(f"{path}.all", given.all), all=True))
    if given.any:
        found.append(Tagged(_words(f"{path}.any", given.any)))
    if given.none:
        found.append(Not(Tagged(_words(f"{path}.none", given.none))))
    if given.HasField("has_any"):
        found.append(_whether(HasTags(), given.has_any))
    return found


def _time(field: str) -> Reader:
    def read_time(path: str, given: Any) -> list[Condition]:
        found: list[Condition] = []
        after = fields.timestamp_or_none(path, given, "after")
        before = fields.timestamp_or_none(path, given, "before")
        if after is not None or before is not None:
            found.append(Within(field, after, before))
        if given.HasField("is_set"):
            found.append(_whether(IsSet(field), given.is_set))
        return found

    return read_time


# --- the filters ----------------------------------------------------------------------------------

_NAMED_AND_TAGGED: Mapping[str, Reader] = {
    "ids": _ids("id"),
    "names": _texts("name"),
    "name_contains": _name_contains,
    "tags": _tags,
}
_OF_RUNS: Mapping[str, Reader] = {
    **_NAMED_AND_TAGGED,
    "state_types": _state_types,
    "state_names": _texts("state_name"),
    "expected_start_time": _time("expected_start_time"),
    "next_scheduled_start_time": _time("next_scheduled_start_time"),
    "start_time": _time("start_time"),
    "end_time": _time("end_time"),
}

FLOWS: Mapping[str, Reader] = {
    **_NAMED_AND_TAGGED,
    "has_deployments": _present("deployment"),
    "create_time": _time("created"),
    "update_time": _time("updated"),
}
DEPLOYMENTS: Mapping[str, Reader] = {
    **_NAMED_AND_TAGGED,
    "flow_ids": _ids("flow_id"),
    "created_by": _texts("created_by"),
    "create_time": _time("created"),
    "update_time": _time("updated"),
}
FLOW_RUNS: Mapping[str, Reader] = {
    **_OF_RUNS,
    "flow_ids": _ids("flow_id"),
    "parent_task_run_ids": _ids("parent_task_run_id"),
    "parent_flow_run_ids": _ids("parent_flow_run_id"),
    "has_parent": _present("parent_task_run_id"),
    "deployment_ids": _ids("deployment_id"),
    "has_deployment": _present("deployment_id"),
    "flow_versions": _texts("flow_version"),
    "idempotency_keys": _texts("idempotency_key", MAX_KEY_BYTES),
    "created_by": _texts("created_by"),
}
TASK_RUNS: Mapping[str, Reader] = {
    **_OF_RUNS,
    "flow_run_ids": _ids("flow_run_id"),
    "has_flow_run": _present("flow_run_id"),
    "has_subflow": _present("subflow"),
    "task_keys": _texts("task_key", MAX_KEY_BYTES),
}
"""The readers of each field of a filter, its groups left out."""
