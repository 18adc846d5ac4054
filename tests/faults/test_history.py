"""The checker finds what it is there to find: each test breaks one promise."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.history import Answer, History, StoredLine, StoredRun, StoredTransition

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def entry(id_: str, type_: str, second: int) -> StoredTransition:
    return StoredTransition(id_, "ACCEPT", id_, type_, NOON + timedelta(seconds=second))


RUN = StoredRun("run", 1, "b", [entry("a", "PENDING", 0), entry("b", "RUNNING", 1)])


def recorded() -> History:
    history = History()
    history.proposed("client", "b", "run")
    history.answered("b", Answer("ACCEPT", "b"))
    for lines in (["1", "2"], ["3"]):
        history.appended("p", "run", lines)
    history.acknowledged("p", "run", 1)
    return history


def lines(*messages: str) -> dict[str, Sequence[StoredLine]]:
    return {"run": [StoredLine(i, message) for i, message in enumerate(messages)]}


LOG = lines("1", "2")


def test_what_agrees_has_no_problems() -> None:
    assert recorded().problems([RUN], LOG) == []


def test_an_unacknowledged_batch_may_be_there_or_not_but_whole() -> None:
    assert recorded().problems([RUN], lines("1", "2", "3")) == []
    assert recorded().problems([RUN], lines("1", "2", "4"))


def test_an_unanswered_proposal_may_be_there_or_not() -> None:
    history = recorded()
    history.proposed("client", "c", "run")
    assert history.problems([RUN], LOG) == []
    longer = replace(RUN, state_id="c", transitions=[*RUN.transitions, entry("c", "COMPLETED", 2)])
    assert history.problems([longer], LOG) == []
    assert history.unanswered == {"c"}


def test_progress_counts_answers_and_acknowledged_batches() -> None:
    assert recorded().progress == 2


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (replace(RUN, id="other"), "not read back"),
        (replace(RUN, run_count=0, state_id="a", transitions=RUN.transitions[:1]), "not stored"),
        (replace(RUN, run_count=2), "run_count"),
        (replace(RUN, run_count=2, transitions=[*RUN.transitions, RUN.transitions[1]]), "2 times"),
        (replace(RUN, transitions=[RUN.transitions[0], entry("b", "RUNNING", 0)]), "not grow"),
        (replace(RUN, state_id="a"), "history ends"),
        (
            replace(
                RUN, transitions=[RUN.transitions[0], replace(RUN.transitions[1], verdict="REJECT")]
            ),
            "stored is REJECT",
        ),
        (
            replace(
                RUN,
                state_id="x",
                transitions=[RUN.transitions[0], replace(RUN.transitions[1], state_id="x")],
            ),
            "another state",
        ),
    ],
)
def test_a_run_that_disagrees_is_found(run: StoredRun, problem: str) -> None:
    assert any(problem in found for found in recorded().problems([run], LOG))


def test_a_proposal_answered_twice_must_be_answered_the_same() -> None:
    history = recorded()
    history.answered("b", Answer("WAIT", "a"))
    history.answered("b", Answer("ACCEPT", "b"))
    assert history.problems([RUN], LOG) == []
    history.answered("b", Answer("ABORT", "a"))
    assert any("differently" in found for found in history.problems([RUN], LOG))


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ({}, "not read back"),
        (lines("1"), "in order"),
        (lines("2", "1"), "in order"),
        (lines("1", "2", "2"), "in order"),
        (lines("1", "2", "x"), "nobody sent"),
        ({"run": [StoredLine(0, "1"), StoredLine(2, "2")]}, "ordinals"),
    ],
)
def test_a_log_that_disagrees_is_found(log: dict[str, Sequence[StoredLine]], problem: str) -> None:
    assert any(problem in found for found in recorded().problems([RUN], log))
