import json
import math
import pickle
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock_server.replay import (
    Attempt,
    Outcome,
    Trace,
    TraceError,
    TraceTask,
    topological_order,
    validate,
    with_synthetic_starts,
)
from interlock_server.replay.wfformat import parse


def task(task_id: str, *parents: str, durations: tuple[float, ...] = (1.0,)) -> TraceTask:
    outcomes = [Outcome.FAILED] * (len(durations) - 1) + [Outcome.COMPLETED]
    attempts = [
        Attempt(outcome=outcome, duration=duration)
        for outcome, duration in zip(outcomes, durations, strict=False)
    ]
    return TraceTask(id=task_id, name=task_id, parents=parents, attempts=tuple(attempts))


def trace(*tasks: TraceTask) -> Trace:
    return Trace(name="t", source_format="test", tasks=tasks, makespan=0.0)


durations = st.floats(min_value=0, max_value=1e6)


@st.composite
def traces(draw: st.DrawFn, *, max_attempts: int = 3) -> Trace:
    """Any graph: edges go from earlier to later names; then the tasks are shuffled."""
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True))
    tasks = []
    for position, name in enumerate(names):
        parents: list[str] = []
        if position:
            earlier = st.sampled_from(names[:position])
            parents = draw(st.lists(earlier, unique=True, max_size=4))
        times = draw(st.lists(durations, min_size=max_attempts == 1, max_size=max_attempts))
        tasks.append(task(name, *parents, durations=tuple(times)))
    return trace(*draw(st.permutations(tasks)))


@given(traces())
def test_topological_order_has_every_task_once_and_parents_first(any_trace: Trace) -> None:
    order = topological_order(any_trace)
    assert sorted(order, key=lambda t: t.id) == sorted(any_trace.tasks, key=lambda t: t.id)
    place = {t.id: position for position, t in enumerate(order)}
    assert all(place[parent] < place[t.id] for t in order for parent in t.parents)
    assert topological_order(any_trace) == order


@given(traces())
def test_synthetic_starts_come_after_the_parents_ends(any_trace: Trace) -> None:
    timed = with_synthetic_starts(any_trace)
    ran = {t.id: t for t in timed.tasks if t.attempts}
    assert timed.starts_are_synthetic is bool(ran)
    assert [t.id for t in timed.tasks] == [t.id for t in any_trace.tasks]
    for t in ran.values():
        previous_end = 0.0
        for attempt in t.attempts:
            assert attempt.started is not None
            assert attempt.ended == attempt.started + attempt.duration
            assert attempt.started >= previous_end
            previous_end = attempt.ended
        for parent in t.parents:
            if parent in ran:
                parent_end = ran[parent].attempts[-1].ended
                assert parent_end is not None
                assert t.attempts[0].started is not None
                assert parent_end <= t.attempts[0].started
    assert with_synthetic_starts(timed) is timed


def test_a_start_waits_for_grandparents_through_a_parent_that_never_ran() -> None:
    timed = with_synthetic_starts(
        trace(task("c", "b"), task("b", "a", durations=()), task("a", durations=(2.0, 3.0)))
    )
    assert timed.tasks[0].attempts[0].started == 5.0


def test_recorded_times_are_kept() -> None:
    real = TraceTask(
        id="b",
        name="b",
        parents=("a",),
        attempts=(Attempt(outcome=Outcome.COMPLETED, duration=1.0, started=9.0, ended=10.0),),
    )
    timed = with_synthetic_starts(trace(task("a"), real, task("c", "b")))
    assert timed.tasks[1] is real
    assert timed.tasks[2].attempts[0].started == 10.0


def test_an_unfinished_attempt_gets_a_start_and_no_end() -> None:
    open_ended = TraceTask(
        id="a", name="a", attempts=(Attempt(outcome=Outcome.UNFINISHED, duration=4.0),)
    )
    attempt = with_synthetic_starts(trace(open_ended)).tasks[0].attempts[0]
    assert (attempt.started, attempt.ended) == (0.0, None)


def wfformat(any_trace: Trace, *, by_children: bool) -> str:
    """The trace as a WfFormat 1.5 instance, with its edges written down at either end."""
    children = {t.id: [c.id for c in any_trace.tasks if t.id in c.parents] for t in any_trace.tasks}
    specified = [
        {
            "id": t.id,
            "name": t.name,
            "parents": [] if by_children else list(t.parents),
            "children": children[t.id] if by_children else [],
        }
        for t in any_trace.tasks
    ]
    run = [{"id": t.id, "runtimeInSeconds": t.attempts[0].duration} for t in any_trace.tasks]
    return json.dumps(
        {
            "name": any_trace.name,
            "schemaVersion": "1.5",
            "workflow": {
                "specification": {"tasks": specified},
                "execution": {"makespanInSeconds": any_trace.makespan, "tasks": run[::-1]},
            },
        }
    )


@given(traces(max_attempts=1), st.booleans())
def test_any_graph_survives_wfformat(any_trace: Trace, by_children: bool) -> None:
    read = parse(wfformat(any_trace, by_children=by_children), "x.json")
    found = {t.id: replace(t, parents=tuple(sorted(t.parents))) for t in read.tasks}
    expected = {t.id: replace(t, parents=tuple(sorted(t.parents))) for t in any_trace.tasks}
    assert found == expected
    assert [t.id for t in read.tasks] == [t.id for t in any_trace.tasks]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ((), "f: this test trace has no tasks; give one of a run that had"),
        ((task("a"), task("a")), "f: two tasks have the id 'a'; give each task its own id"),
        ((task(""),), "f: a task has an empty id; give every task an id"),
        (
            (task("a", "x"),),
            "f: task 'a' has the parent 'x', which is not in the trace; "
            "add that task or remove the dependency",
        ),
        (
            (task("a"), task("b", "a", "a")),
            "f: task 'b' names a parent twice; name each of its parents once",
        ),
        (
            (task("a", "a"),),
            "f: tasks wait for each other in a cycle: a -> a; remove one of these dependencies",
        ),
        (
            (task("a", durations=(-1.0,)),),
            "f: task 'a' has a duration of -1.0 seconds; durations must be finite and not negative",
        ),
        (
            (task("a", durations=(math.nan,)),),
            "f: task 'a' has a duration of nan seconds; durations must be finite and not negative",
        ),
    ],
)
def test_what_is_unsound_is_named(tasks: tuple[TraceTask, ...], message: str) -> None:
    with pytest.raises(TraceError) as raised:
        validate(trace(*tasks), "f")
    assert str(raised.value) == message


def test_a_time_without_end_is_refused() -> None:
    attempt = Attempt(outcome=Outcome.COMPLETED, duration=0.0, started=math.inf)
    with pytest.raises(TraceError, match="task 'a' has the time inf"):
        validate(trace(TraceTask(id="a", name="a", attempts=(attempt,))), "f")


def test_a_cycle_is_named_from_parent_to_child() -> None:
    with pytest.raises(TraceError) as raised:
        topological_order(trace(task("r"), task("a", "c", "r"), task("b", "a"), task("c", "b")))
    cycle = raised.value.problem.split(": ")[1].split(" -> ")
    assert cycle[0] == cycle[-1]
    assert set(pairwise(cycle)) == {("a", "b"), ("b", "c"), ("c", "a")}


def test_a_long_cycle_is_cut() -> None:
    ring = [task(str(i), str((i - 1) % 1000)) for i in range(1000)]
    with pytest.raises(TraceError, match=r"-> \(992 more\) -> \d+;"):
        topological_order(trace(*ring))


def test_a_chain_of_ten_thousand_needs_no_recursion() -> None:
    chain = [task("0"), *(task(str(i), str(i - 1)) for i in range(1, 10_000))]
    timed = with_synthetic_starts(validate(trace(*reversed(chain)), "f"))
    assert timed.tasks[0].attempts[0].ended == 10_000


def test_an_error_can_cross_a_process_boundary() -> None:
    error = TraceError("f:1", "is wrong", "mend it")
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.where) == ("f:1: is wrong; mend it", "f:1")


@pytest.mark.parametrize("outcome", Outcome)
def test_outcomes_map_to_terminal_states(outcome: Outcome) -> None:
    if outcome is Outcome.UNFINISHED:
        assert outcome.state is None
    else:
        assert outcome.state is not None
        assert outcome.state[0] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
