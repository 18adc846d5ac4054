"""The demo's check finds whatever is not as it was reported."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
from interlock_server.demo.check import compare
from interlock_server.demo.witness import Seen, SeenState


def state(number: int, name: str = "Running") -> SeenState:
    return SeenState(f"proposal-{number}", "ACCEPT", name.upper(), name, "", number)


@pytest.fixture
def reported() -> Seen:
    seen = Seen()
    seen.states["flow"] = [state(1, "Pending"), state(2)]
    seen.states["task"] = [state(3, "Pending"), state(4), state(5, "Completed")]
    for number in range(3):
        seen.log("task").add(number, 20, "demo", f"line {number}")
    return seen


def test_what_is_as_reported_passes(reported: Seen) -> None:
    found = compare(reported, copy.deepcopy(reported))
    assert (found.states, found.lines, found.differences) == (5, 3, ())


def lose_a_state(kept: Seen) -> None:
    del kept.states["task"][-1]


def lose_a_run(kept: Seen) -> None:
    del kept.states["task"]


def swap_states(kept: Seen) -> None:
    kept.states["flow"].reverse()


def add_a_state(kept: Seen) -> None:
    kept.states["flow"].append(state(9, "Completed"))


def rename_a_state(kept: Seen) -> None:
    kept.states["flow"][1] = replace(kept.states["flow"][1], name="Paused")


def change_a_message(kept: Seen) -> None:
    kept.states["flow"][1] = replace(kept.states["flow"][1], message="other")


def change_a_verdict(kept: Seen) -> None:
    kept.states["flow"][1] = replace(kept.states["flow"][1], verdict="REJECT")


def add_a_line(kept: Seen) -> None:
    kept.log("task").add(9, 20, "demo", "line 2")


def lose_the_log(kept: Seen) -> None:
    del kept.logs["task"]


def misattribute_the_log(kept: Seen) -> None:
    kept.logs["flow"] = kept.logs.pop("task")


def change_a_line(kept: Seen) -> None:
    del kept.logs["task"]
    for number, text in enumerate(["line 0", "line 1!", "line 2"]):
        kept.log("task").add(number, 20, "demo", text)


def swap_lines(kept: Seen) -> None:
    del kept.logs["task"]
    for number in (1, 0, 2):
        kept.log("task").add(number, 20, "demo", f"line {number}")


@pytest.mark.parametrize(
    ("tamper", "where"),
    [
        (lose_a_state, "run task, state 3"),
        (lose_a_run, "run task, state 1"),
        (swap_states, "run flow, state 1"),
        (add_a_state, "run flow, state 3"),
        (rename_a_state, "run flow, state 2"),
        (change_a_message, "run flow, state 2"),
        (change_a_verdict, "run flow, state 2"),
        (add_a_line, "run task: 3 log lines were reported, 4"),
        (lose_the_log, "run task: 3 log lines were reported, 0"),
        (misattribute_the_log, "run flow: 0 log lines were reported, 3"),
        (change_a_line, "run task: its 3 log lines"),
        (swap_lines, "run task: its 3 log lines"),
    ],
)
def test_what_was_tampered_with_is_named(
    reported: Seen, tamper: Callable[[Seen], None], where: str
) -> None:
    kept = copy.deepcopy(reported)
    tamper(kept)
    differences = compare(reported, kept).differences
    assert differences
    assert differences[0].startswith(where)


def test_a_run_is_reported_by_one_process_only(reported: Seen) -> None:
    with pytest.raises(ValueError, match="same run"):
        reported.merge([copy.deepcopy(reported)])
