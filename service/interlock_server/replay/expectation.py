"""What the server should tell after a replay, and where what it tells differs. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from interlock_server.replay.outcome import flow_run_states
from interlock_server.replay.script import Line, Script, StateName
from interlock_server.replay.trace import Trace
from interlock_server.rules.states import TERMINAL


@dataclass(frozen=True, slots=True)
class WrittenState:
    """A state as the server tells it, with its time in microseconds since 1970."""

    type: str
    name: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRunSeen:
    """What the server tells of one task run."""

    state: StateName
    """The current one."""
    run_count: int
    history: tuple[WrittenState, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the server tells of the whole replay."""

    flow_run: tuple[StateName, ...]
    task_runs: Mapping[str, TaskRunSeen]
    """By the ids of the trace's tasks."""
    state_counts: Mapping[str, int]
    """How many task runs are in a state of each type, as the server counts; none without any."""
    other_lines: tuple[Line, ...]
    """The lines of the flow run itself."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question that was asked of the server, and its answer."""

    what: str
    expected: str
    found: str
    differences: tuple[str, ...] = ()
    """Which task, and what; in the trace's order."""

    @property
    def agrees(self) -> bool:
        """Whether the server tells what the trace says."""
        return not self.differences


def compare(
    trace: Trace,
    scripts: Mapping[str, Script],
    seen: Seen,
    *,
    own_lines: tuple[Line, ...],
    logs: bool,
) -> list[Check]:
    """Compare what the server tells with what the trace says.

    Args:
        trace: what was played.
        scripts: of its tasks, by id.
        seen: what the server tells.
        own_lines: what was written to the log for the flow run itself.
        logs: whether logs were written at all.
    """
    checks = [
        _flow_run(trace, seen),
        _sequences(scripts, seen),
        _order(trace, seen),
        *_counts_by_state(scripts, seen),
        *_counts_by_runs(scripts, seen),
    ]
    if logs:
        checks.append(_lines(scripts, seen, own_lines))
    return checks


def _flow_run(trace: Trace, seen: Seen) -> Check:
    expected = flow_run_states(trace)
    return _equal("states of the flow run", _arrows(expected), _arrows(seen.flow_run))


def _sequences(scripts: Mapping[str, Script], seen: Seen) -> Check:
    wrong = []
    for task_id, script in scripts.items():
        run = seen.task_runs.get(task_id)
        found = tuple((each.type, each.name) for each in run.history) if run is not None else ()
        if found != script.states:
            wrong.append(
                f"{_named(task_id)}: expected {_arrows(script.states)}, found {_arrows(found)}"
            )
    total = len(scripts)
    good = total - len(wrong)
    return Check("exact sequences of states", str(total), str(good), tuple(wrong))


def _order(trace: Trace, seen: Seen) -> Check:
    ends = {task_id: _end(run) for task_id, run in seen.task_runs.items()}
    pairs, early = 0, []
    for task in trace.tasks:
        run = seen.task_runs.get(task.id)
        begun = _begin(run) if run is not None else None
        for parent in task.parents:
            end = ends.get(parent)
            if begun is None or end is None:
                continue
            pairs += 1
            if begun < end:
                early.append(
                    f"{_named(task.id)}: began {end - begun} µs before its parent {parent} ended"
                )
    in_order = pairs - len(early)
    return Check("children after their parents", str(pairs), str(in_order), tuple(early))


def _begin(run: TaskRunSeen) -> int | None:
    """When the task was submitted: the first state after the one that it was created with."""
    return run.history[1].time if len(run.history) > 1 else None


def _end(run: TaskRunSeen) -> int | None:
    last = run.history[-1] if run.history else None
    return last.time if last is not None and last.type in TERMINAL else None


def _counts_by_state(scripts: Mapping[str, Script], seen: Seen) -> Iterator[Check]:
    expected = Counter(script.states[-1] for script in scripts.values())
    found = Counter(run.state for run in seen.task_runs.values())
    for state in sorted(expected | found):
        yield _equal(f"task runs {_shown(state)}", str(expected[state]), str(found[state]))
    by_type = Counter(script.states[-1][0] for script in scripts.values())
    counted = {kind: count for kind, count in seen.state_counts.items() if count}
    yield _equal("task runs by type, as counted", _sums(by_type), _sums(counted))


def _counts_by_runs(scripts: Mapping[str, Script], seen: Seen) -> Iterator[Check]:
    expected = Counter(script.run_count for script in scripts.values())
    found = Counter(run.run_count for run in seen.task_runs.values())
    wrong = {
        task_id: (script.run_count, run.run_count)
        for task_id, script in scripts.items()
        if (run := seen.task_runs.get(task_id)) is not None and run.run_count != script.run_count
    }
    for count in sorted(expected | found):
        times = {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
        differences = [
            f"{_named(task_id)}: expected a run count of {counts[0]}, found {counts[1]}"
            for task_id, counts in wrong.items()
            if count in counts
        ]
        what = f"task runs that ran {times}"
        yield Check(what, str(expected[count]), str(found[count]), tuple(differences))


def _lines(scripts: Mapping[str, Script], seen: Seen, own_lines: tuple[Line, ...]) -> Check:
    wrong = []
    if seen.other_lines != own_lines:
        wrong.append(f"the flow run: {_first_difference(own_lines, seen.other_lines)}")
    for task_id, script in scripts.items():
        run = seen.task_runs.get(task_id)
        if run is not None and run.lines != script.lines:
            wrong.append(f"{_named(task_id)}: {_first_difference(script.lines, run.lines)}")
    expected = len(own_lines) + sum(len(script.lines) for script in scripts.values())
    found = len(seen.other_lines) + sum(len(run.lines) for run in seen.task_runs.values())
    return Check("log lines", str(expected), str(found), tuple(wrong))


def _first_difference(expected: tuple[Line, ...], found: tuple[Line, ...]) -> str:
    for number, (wanted, got) in enumerate(zip(expected, found, strict=False), 1):
        if wanted != got:
            return f"log line {number}: expected {wanted.text!r}, found {got.text!r}"
    return f"expected {len(expected)} log lines, found {len(found)}"


def _equal(what: str, expected: str, found: str) -> Check:
    differs = () if expected == found else (f"{what}: expected {expected}, found {found}",)
    return Check(what, expected, found, differs)


def _arrows(states: Iterable[StateName]) -> str:
    return " -> ".join(_shown(state) for state in states) or "nothing"


def _shown(state: StateName) -> str:
    """The name alone where it is the type's own word; else both."""
    kind, name = state
    return name if name.upper() == kind else f"{kind}/{name}"


def _sums(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {counts[kind]}" for kind in sorted(counts))


def _named(task_id: str) -> str:
    return f"task {task_id}"
