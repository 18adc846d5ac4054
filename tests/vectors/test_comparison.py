"""A comparison that found nothing would prove nothing, unless it finds what is there."""

from dataclasses import replace
from typing import Any

from tests.model.rules import MARKS_RESUMING_AFTERWARDS, QUIRKS, State
from tests.vectors import expected, listed, report
from tests.vectors.comparison import Comparison
from tests.vectors.player import Played
from tests.vectors.recorded import Answer, Scenario, Setup, Step

_PAUSED = State("PAUSED", "Paused", pause_key="lunch", pause_timeout=600)
_RUNNING = State("RUNNING", "Running")
_RETRIED = (_RUNNING, State("FAILED", "Failed"))
_RESUMED = (_RUNNING, _PAUSED, _RUNNING)

_LISTED = listed.Listed(MARKS_RESUMING_AFTERWARDS, 1, "counts", "does not count")


def _scenario(*states: State) -> Scenario:
    """A scenario that the peer answered as it answers."""
    asked = Scenario(
        "a scenario",
        {"run": Setup("flow_run", retries=1, retry_delay=30)},
        tuple(Step("run", state) for state in states),
    )
    answers = expected.answers(asked, QUIRKS)
    steps = [
        replace(step, answer=answer) for step, answer in zip(asked.steps, answers, strict=True)
    ]
    return replace(asked, steps=tuple(steps))


def _compared(scenario: Scenario, answers: list[Answer], seconds: float = 0.0) -> Comparison:
    comparison = Comparison()
    comparison.add(Played(scenario, answers, [seconds] * len(answers)))
    return comparison


def _changed(answers: list[Answer], number: int, **changes: Any) -> list[Answer]:
    return [{**answer, **changes} if i == number else answer for i, answer in enumerate(answers)]


def test_the_same_answers_are_no_difference() -> None:
    scenario = _scenario(*_RETRIED)
    comparison = _compared(scenario, expected.answers(scenario))
    assert (comparison.scenarios, comparison.steps) == (1, 2)
    assert report.problems(comparison, []) == []


def test_another_answer_is_unlisted() -> None:
    scenario = _scenario(*_RETRIED)
    answers = _changed(expected.answers(scenario), 1, status="ACCEPT")
    (problem,) = report.problems(_compared(scenario, answers), [])
    assert problem == "a scenario, step 2: status should be 'REJECT' and is 'ACCEPT'"


def test_times_may_be_off_by_two_seconds_and_by_what_playing_took() -> None:
    scenario = _scenario(*_RETRIED)
    late = _changed(expected.answers(scenario), 1, decided_scheduled_in=33.5)
    assert len(report.problems(_compared(scenario, late), [])) == 1
    assert report.problems(_compared(scenario, late, seconds=2.0), []) == []


def test_a_listed_difference_is_counted() -> None:
    scenario = _scenario(*_RESUMED)
    comparison = _compared(scenario, expected.answers(scenario))
    assert comparison.differences == {MARKS_RESUMING_AFTERWARDS: 1}
    assert report.problems(comparison, [_LISTED]) == []
    assert "     1  answers differ" in "\n".join(report.lines("here", comparison, [_LISTED]))


def test_a_difference_that_is_explained_and_not_listed_is_a_problem() -> None:
    scenario = _scenario(*_RESUMED)
    assert len(report.problems(_compared(scenario, expected.answers(scenario)), [])) == 1


def test_a_listed_difference_that_does_not_occur_is_a_problem() -> None:
    scenario = _scenario(*_RETRIED)
    assert len(report.problems(_compared(scenario, expected.answers(scenario)), [_LISTED])) == 1


def test_answering_as_the_peer_where_it_is_wrong_is_a_problem() -> None:
    scenario = _scenario(*_RESUMED)
    problems = report.problems(_compared(scenario, expected.answers(scenario, QUIRKS)), [_LISTED])
    assert any("run.run_count should be 1 and is 2" in problem for problem in problems)


def test_a_recorded_answer_that_no_quirk_explains_is_a_problem() -> None:
    scenario = _scenario(*_RETRIED)
    strange = {**scenario.steps[1].answer, "status": "ABORT"}
    scenario = replace(
        scenario, steps=(scenario.steps[0], replace(scenario.steps[1], answer=strange))
    )
    (problem,) = report.problems(_compared(scenario, expected.answers(scenario)), [])
    assert "which no quirk explains" in problem


def test_the_table_lists_every_quirk_that_the_model_knows() -> None:
    assert {line.quirk for line in listed.read()} == QUIRKS
