import json
from typing import Any

import pytest
from interlock_server.replay import TraceError
from interlock_server.replay.wfformat import parse


def instance() -> dict[str, Any]:
    """Two tasks, b after a."""
    return {
        "name": "small",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {"id": "a", "name": "first", "parents": [], "children": ["b"]},
                    {"id": "b", "name": "second", "parents": ["a"], "children": []},
                ]
            },
            "execution": {
                "makespanInSeconds": 7,
                "tasks": [
                    {"id": "b", "runtimeInSeconds": 2.5, "machines": ["m1", "m2"]},
                    {"id": "a", "runtimeInSeconds": 4},
                ],
            },
        },
    }


def flat(version: str, *tasks: dict[str, Any]) -> str:
    return json.dumps(
        {
            "name": "old",
            "schemaVersion": version,
            "workflow": {"makespan": 3, "tasks": list(tasks)},
        }
    )


def put(root: dict[str, Any], path: str, value: object) -> str:
    """The instance as text, with another value at the path; `...` removes what is there."""
    *way, last = path.split(".")
    place: Any = root
    for step in way:
        place = place[int(step)] if step.isdecimal() else place[step]
    key: Any = int(last) if last.isdecimal() else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return json.dumps(root)


SPECIFIED = "workflow.specification.tasks"
RUN = "workflow.execution.tasks"


def test_specification_and_execution_are_joined_by_id() -> None:
    trace = parse(json.dumps(instance()), "x.json")
    assert (trace.name, trace.source_format, trace.makespan) == ("small", "WfFormat 1.5", 7)
    first, second = trace.tasks
    assert (first.id, first.name, first.parents) == ("a", "first", ())
    assert (second.id, second.parents) == ("b", ("a",))
    assert (first.attempts[0].duration, first.attempts[0].host) == (4, None)
    assert (second.attempts[0].duration, second.attempts[0].host) == (2.5, "m1")


@pytest.mark.parametrize(("version", "key"), [("1.3", "runtime"), ("1.4", "runtimeInSeconds")])
def test_older_versions_refer_by_name(version: str, key: str) -> None:
    text = flat(
        version,
        {"name": "a_1", "id": "ID1", "children": ["b_2"], key: 1, "machine": "m"},
        {"name": "b_2", "id": "ID2", "parents": ["ID1"], key: 2},
        {"name": "c", "parents": ["b_2"], key: 3},
    )
    trace = parse(text, "x.json")
    assert trace.source_format == f"WfFormat {version}"
    assert [(t.id, t.parents) for t in trace.tasks] == [
        ("ID1", ()),
        ("ID2", ("ID1",)),
        ("c", ("ID2",)),
    ]
    assert [t.attempts[0].duration for t in trace.tasks] == [1, 2, 3]
    assert trace.tasks[0].attempts[0].host == "m"


def test_a_name_that_several_tasks_have_is_no_reference() -> None:
    text = flat(
        "1.4",
        {"name": "n", "id": "1", "runtime": 1},
        {"name": "n", "id": "2", "runtime": 1},
        {"name": "m", "id": "3", "runtime": 1, "parents": ["n"]},
    )
    with pytest.raises(TraceError, match=r"x: workflow.tasks\[2\].parents\[0\]: 'n' is no task"):
        parse(text, "x")


@pytest.mark.parametrize(
    ("path", "value", "where", "problem"),
    [
        ("name", ..., "(top)", "has no 'name'"),
        ("schemaVersion", ..., "(top)", "has no 'schemaVersion'"),
        ("schemaVersion", "1.1", "schemaVersion", "WfFormat 1.1 is not known"),
        ("schemaVersion", 1.5, "schemaVersion", "is not a string with something in it"),
        ("workflow", [], "workflow", "is not a JSON object"),
        ("workflow.execution", ..., "workflow", "has no 'execution'"),
        (SPECIFIED, {}, SPECIFIED, "is not a JSON array"),
        (f"{SPECIFIED}.1.id", "a", f"{SPECIFIED}[1]", "repeats the id 'a'"),
        (f"{SPECIFIED}.1.id", "c", f"{RUN}[0]", "task 'b' is not in workflow.specification.tasks"),
        (f"{SPECIFIED}.1.id", "\ud800", f"{SPECIFIED}[1].id", "has half of a surrogate pair"),
        (f"{SPECIFIED}.1.parents", ["z"], f"{SPECIFIED}[1].parents[0]", "'z' is no task of this"),
        (f"{SPECIFIED}.0.children", ["z"], f"{SPECIFIED}[0].children[0]", "'z' is no task of this"),
        (f"{RUN}.0", ..., f"{SPECIFIED}[1]", "task 'b' is not in workflow.execution.tasks"),
        (f"{RUN}.0.id", "a", f"{RUN}[1]", "repeats the id 'a'"),
        (f"{RUN}.0.runtimeInSeconds", ..., f"{RUN}[0]", "has no 'runtimeInSeconds'"),
        (f"{RUN}.0.runtimeInSeconds", -2, f"{RUN}[0].runtimeInSeconds", "is -2.0 seconds"),
        (f"{RUN}.0.runtimeInSeconds", float("nan"), f"{RUN}[0].runtimeInSeconds", "is nan"),
        (f"{RUN}.0.runtimeInSeconds", 10**400, f"{RUN}[0].runtimeInSeconds", "is inf"),
        (f"{RUN}.0.runtimeInSeconds", True, f"{RUN}[0].runtimeInSeconds", "is not a number"),
        (f"{RUN}.0.runtimeInSeconds", "2", f"{RUN}[0].runtimeInSeconds", "is not a number"),
        ("workflow.execution.makespanInSeconds", ..., "workflow.execution", "has no 'makespan"),
    ],
)
def test_an_error_names_the_path(path: str, value: object, where: str, problem: str) -> None:
    with pytest.raises(TraceError) as raised:
        parse(put(instance(), path, value), "x.json")
    assert raised.value.where == f"x.json: {where}"
    assert raised.value.problem.startswith(problem)


def test_a_cycle_is_refused() -> None:
    text = put(instance(), f"{SPECIFIED}.0.parents", ["b"])
    with pytest.raises(TraceError, match=r"x\.json: tasks wait for each other in a cycle: "):
        parse(text, "x.json")


def test_a_trace_without_tasks_is_refused() -> None:
    empty = instance()
    empty["workflow"]["specification"]["tasks"] = []
    empty["workflow"]["execution"]["tasks"] = []
    with pytest.raises(TraceError, match=r"x\.json: this WfFormat 1\.5 trace has no tasks"):
        parse(json.dumps(empty), "x.json")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (json.dumps(instance(), indent=1)[:200], "x.json:14"),
        ("[" * 100_000, "x.json"),
        ("9" * 5000, "x.json"),
        ("[]", "x.json: (top)"),
    ],
)
def test_what_is_no_json_object_is_refused(text: str, where: str) -> None:
    with pytest.raises(TraceError) as raised:
        parse(text, "x.json")
    assert raised.value.where == where
