"""WfFormat, the JSON format of WfCommons (https://github.com/wfcommons/WfFormat), 1.3 to 1.6.

From 1.5 on, `workflow.specification.tasks` says what depends on what and
`workflow.execution.tasks` how long it ran, joined by id. In 1.3 and 1.4, `workflow.tasks` has
both, and tasks refer to each other by name.

The format records no start, no status and no retry: every task becomes one attempt that completed,
with a duration and without times. Dependencies are the union of `parents` and `children`, since
files are found that fill in only one of them.
"""

import json
import math
from dataclasses import dataclass

from interlock_server.replay.graph import validate
from interlock_server.replay.trace import Attempt, Outcome, Trace, TraceError, TraceTask

_JOINED_VERSIONS = ("1.5", "1.6")
_FLAT_VERSIONS = ("1.3", "1.4")


def parse(text: str, source: str) -> Trace:
    """Read a WfFormat instance.

    Args:
        text: the whole file.
        source: the file's name, for errors.

    Raises:
        TraceError: naming the line (no JSON) or the JSON path (no WfFormat, or unsound).
    """
    root = _Node(_load(text, source), "", source)
    version = root.member("schemaVersion").text()
    workflow = root.member("workflow")
    if version in _JOINED_VERSIONS:
        tasks, timed = _joined(workflow)
    elif version in _FLAT_VERSIONS:
        tasks, timed = _flat(workflow)
    else:
        raise root.member("schemaVersion").error(
            f"WfFormat {version} is not known",
            f"give one of {', '.join(_FLAT_VERSIONS + _JOINED_VERSIONS)} (WfCommons has a tool "
            "that migrates older ones)",
        )
    trace = Trace(
        name=root.member("name").text(),
        source_format=f"WfFormat {version}",
        tasks=tuple(tasks),
        makespan=timed.seconds("makespanInSeconds", "makespan"),
        notes=(
            "WfFormat records no start, status or retry: each task is one attempt that completed",
        ),
    )
    return validate(trace, source)


@dataclass(frozen=True, slots=True)
class _Node:
    """A JSON value that knows where it stands, so that errors can say it."""

    value: object
    path: str
    source: str

    def error(self, problem: str, remedy: str) -> TraceError:
        return TraceError(f"{self.source}: {self.path or '(top)'}", problem, remedy)

    def optional(self, key: str) -> "_Node | None":
        if not isinstance(self.value, dict):
            raise self.error("is not a JSON object", "give a WfFormat instance")
        if key not in self.value:
            return None
        path = f"{self.path}.{key}" if self.path else key
        return _Node(self.value[key], path, self.source)

    def member(self, key: str) -> "_Node":
        found = self.optional(key)
        if found is None:
            raise self.error(f"has no {key!r}", f"add {key!r}, as WfFormat requires")
        return found

    def items(self) -> "list[_Node]":
        if not isinstance(self.value, list):
            raise self.error("is not a JSON array", "give an array here")
        return [_Node(v, f"{self.path}[{i}]", self.source) for i, v in enumerate(self.value)]

    def optional_items(self, key: str) -> "list[_Node]":
        found = self.optional(key)
        return [] if found is None or found.value is None else found.items()

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            raise self.error("is not a string with something in it", "give a string here")
        if any("\ud800" <= letter <= "\udfff" for letter in self.value):
            raise self.error("has half of a surrogate pair", "give well-formed Unicode")
        return self.value

    def seconds(self, *keys: str) -> float:
        """The number under the first of the keys that is there: finite, not negative."""
        node = next((n for key in keys if (n := self.optional(key)) is not None), None)
        if node is None:
            raise self.error(f"has no {keys[0]!r}", "replay needs it: add it, in seconds")
        number = node.value
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise node.error("is not a number", "give seconds as a JSON number")
        try:
            seconds = float(number)
        except OverflowError:
            seconds = math.inf
        if not math.isfinite(seconds) or seconds < 0:
            raise node.error(
                f"is {seconds} seconds", "a run time must be finite and not negative: correct it"
            )
        return seconds


def _load(text: str, source: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise TraceError(
            f"{source}:{error.lineno}",
            f"is not JSON at column {error.colno} ({error.msg})",
            "the file may be cut short: fetch it again",
        ) from None
    except (RecursionError, ValueError) as error:
        raise TraceError(
            source, f"is JSON that can not be read ({error})", "give a WfFormat instance"
        ) from None


def _joined(workflow: _Node) -> tuple[list[TraceTask], _Node]:
    """The tasks of the shape of 1.5, and the node with the makespan."""
    nodes = workflow.member("specification").member("tasks").items()
    execution = workflow.member("execution")
    ids = [node.member("id").text() for node in nodes]
    specified = _by_id(nodes, ids)
    run_nodes = execution.member("tasks").items()
    runs = _by_id(run_nodes, [node.member("id").text() for node in run_nodes])
    for task_id, run in runs.items():
        if task_id not in specified:
            raise run.error(
                f"task {task_id!r} is not in workflow.specification.tasks", "specify it there"
            )
    for task_id, node in specified.items():
        if task_id not in runs:
            raise node.error(
                f"task {task_id!r} is not in workflow.execution.tasks",
                "replay needs each task's run time: add it there",
            )
    parents = _parents(specified, {task_id: task_id for task_id in ids})
    tasks = [
        TraceTask(
            id=task_id,
            name=node.member("name").text(),
            parents=parents[task_id],
            attempts=(_attempt(runs[task_id], _first_machine(runs[task_id])),),
        )
        for task_id, node in specified.items()
    ]
    return tasks, execution


def _flat(workflow: _Node) -> tuple[list[TraceTask], _Node]:
    """The tasks of the shape of 1.3 and 1.4, and the node with the makespan."""
    nodes = workflow.member("tasks").items()
    ids: list[str] = []
    references: dict[str, str] = {}
    ambiguous: set[str] = set()
    for node in nodes:
        name = node.member("name").text()
        given = node.optional("id")
        # Ids are optional in these versions; names are what tasks refer to each other by.
        ids.append(name if given is None else given.text())
        if references.setdefault(name, ids[-1]) != ids[-1]:
            ambiguous.add(name)
    for task_id in ids:
        references[task_id] = task_id
        ambiguous.discard(task_id)
    for name in ambiguous:
        del references[name]
    nodes_by_id = _by_id(nodes, ids)
    parents = _parents(nodes_by_id, references)
    tasks = []
    for task_id, node in nodes_by_id.items():
        machine = node.optional("machine")
        host = machine.text() if machine is not None and machine.value is not None else None
        tasks.append(
            TraceTask(
                id=task_id,
                name=node.member("name").text(),
                parents=parents[task_id],
                attempts=(_attempt(node, host),),
            )
        )
    return tasks, workflow


def _by_id(nodes: list[_Node], ids: list[str]) -> dict[str, _Node]:
    """The nodes by their ids, which must differ, in the order of the file."""
    found: dict[str, _Node] = {}
    for node, task_id in zip(nodes, ids, strict=True):
        if found.setdefault(task_id, node) is not node:
            raise node.error(f"repeats the id {task_id!r}", "give each task its own id")
    return found


def _parents(nodes: dict[str, _Node], references: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Each task's parents, each once, in the order of the file."""
    parents: dict[str, dict[str, None]] = {task_id: {} for task_id in nodes}
    for task_id, node in nodes.items():
        for parent in node.optional_items("parents"):
            parents[task_id][_resolve(parent, references)] = None
        for child in node.optional_items("children"):
            parents[_resolve(child, references)][task_id] = None
    return {task_id: tuple(found) for task_id, found in parents.items()}


def _resolve(reference: _Node, references: dict[str, str]) -> str:
    name = reference.text()
    if name not in references:
        raise reference.error(
            f"{name!r} is no task of this workflow, or the name of several",
            "refer to a task that is there, by its id",
        )
    return references[name]


def _attempt(node: _Node, host: str | None) -> Attempt:
    duration = node.seconds("runtimeInSeconds", "runtime")
    return Attempt(outcome=Outcome.COMPLETED, duration=duration, host=host)


def _first_machine(run: _Node) -> str | None:
    machines = run.optional_items("machines")
    return machines[0].text() if machines else None
