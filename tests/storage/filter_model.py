"""Filters and orders in plain Python: what the database has to answer, said once more."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from interlock.v1 import state_pb2

Run = Mapping[str, Any]
"""The values of a run's columns, with its tags as a set."""

_TIMES = ("expected_start_time", "next_scheduled_start_time", "start_time", "end_time")
_LISTS = {
    "ids": "id",
    "flow_ids": "flow_id",
    "flow_run_ids": "flow_run_id",
    "names": "name",
    "state_names": "state_name",
    "parent_task_run_ids": "parent_task_run_id",
    "deployment_ids": "deployment_id",
    "flow_versions": "flow_version",
    "idempotency_keys": "idempotency_key",
    "created_by": "created_by",
    "task_keys": "task_key",
}
_PRESENCE = {
    "has_parent": "parent_task_run_id",
    "has_deployment": "deployment_id",
    "has_flow_run": "flow_run_id",
}


@dataclass(frozen=True)
class World:
    """All runs there are, of both kinds."""

    flow_runs: list[Run]
    task_runs: list[Run]

    def meeting(self, runs: Iterable[Run], filter_: Any) -> list[Run]:
        """Those of some runs that meet a filter."""
        return [run for run in runs if self._meets(run, filter_)]

    def _meets(self, run: Run, filter_: Any) -> bool:
        return all(
            self._met(run, field.name, value, filter_) for field, value in filter_.ListFields()
        )

    def _met(self, run: Run, field: str, value: Any, filter_: Any) -> bool:
        if field in _LISTS:
            return bool(run[_LISTS[field]] in value)
        if field in _PRESENCE:
            return (run[_PRESENCE[field]] is not None) is bool(value)
        if field in _TIMES:
            return _time_met(run[field], value)
        match field:
            case "state_types":
                return run["state_type"] in map(_type_name, value)
            case "parent_flow_run_ids":
                return any(
                    task["id"] == run["parent_task_run_id"] and task["flow_run_id"] in value
                    for task in self.task_runs
                )
            case "has_subflow":
                tracked = {child["parent_task_run_id"] for child in self.flow_runs}
                return (run["id"] in tracked) is bool(value)
            case "name_contains":
                return bool(value.casefold() in run["name"].casefold())
            case "tags":
                return _tags_met(run["tags"], value)
            case "all_of":
                return all(self._meets(run, each) for each in value)
            case "any_of":
                return any(self._meets(run, each) for each in value)
            case "none_of":
                return not any(self._meets(run, each) for each in value)
        raise NotImplementedError(field)


def _type_name(number: Any) -> str:
    return state_pb2.StateType.Name(number).removeprefix("STATE_TYPE_")


def _time_met(time: int | None, given: Any) -> bool:
    bounded = given.HasField("after") or given.HasField("before")
    if given.HasField("is_set") and bool(given.is_set) != (time is not None):
        return False
    if time is None:
        return not bounded
    after, before = (given.after.ToMicroseconds(), given.before.ToMicroseconds())
    return bool(
        (not given.HasField("after") or time >= after)
        and (not given.HasField("before") or time <= before)
    )


def _tags_met(tags: set[str], given: Any) -> bool:
    return (
        set(given.all) <= tags
        and (not given.any or bool(set(given.any) & tags))
        and not set(given.none) & tags
        and (not given.HasField("has_any") or given.has_any == bool(tags))
    )


def in_order(runs: list[Run], order_by: int) -> list[str]:
    """Ids of runs in an order of the contract, by the number that both kinds have for it."""

    def key(field: str, otherwise: float) -> Any:
        return lambda run: (otherwise if run[field] is None else run[field], run["id"])

    last, first = float("inf"), float("-inf")
    keys: dict[int, tuple[Any, bool]] = {
        0: (lambda run: run["id"], True),
        1: (lambda run: run["id"], True),
        2: (key("expected_start_time", last), False),
        3: (key("expected_start_time", first), True),
        4: (lambda run: (_started(run), run["id"]), False),
        5: (lambda run: (_started(run), run["id"]), True),
        6: (key("end_time", first), True),
        7: (key("next_scheduled_start_time", last), False),
        8: (key("name", 0), False),
        9: (key("name", 0), True),
    }
    by, descending = keys[order_by]
    return [run["id"] for run in sorted(runs, key=by, reverse=descending)]


def _started(run: Run) -> int:
    started: int = run["expected_start_time"] if run["start_time"] is None else run["start_time"]
    return started
