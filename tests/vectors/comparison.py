"""Interlock's answers beside the peer's: where they differ, and whether that is as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.model.rules import QUIRKS
from tests.model.wire import differing
from tests.vectors import expected
from tests.vectors.player import Played
from tests.vectors.recorded import Scenario

_TOLERANCE = 2.0
"""Seconds by which recorded times may be off: they were rounded, and read a moment later."""


@dataclass(slots=True)
class Comparison:
    """What came of comparing all that was played.

    A difference is a step that Interlock answers otherwise than the peer did. It is explained if
    Interlock answers as the model does, and the peer as the model does with the peer's quirks.
    """

    scenarios: int = 0
    steps: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    """How many steps differ, by the quirk of the peer's that explains it."""
    unlisted: list[str] = field(default_factory=list)
    """What nothing explains, in words."""

    def add(self, played: Played) -> None:
        """Compare what was played with what the peer answered."""
        scenario = played.scenario
        self.scenarios += 1
        self.steps += sum(bool(step.answer) for step in scenario.steps)
        right, peers = expected.answers(scenario), expected.answers(scenario, QUIRKS)
        for i, (step, ours) in enumerate(zip(scenario.steps, played.answers, strict=True)):
            where, within = f"{scenario.name}, step {i + 1}", _TOLERANCE + played.seconds[i]
            wrong = [
                f"{where}: {key} should be {right[i][key]!r} and is {ours[key]!r}"
                for key in differing(right[i], ours, within)
            ] + [
                f"{where}: {key} was {step.answer[key]!r} at the peer, which no quirk explains"
                for key in differing(step.answer, peers[i], _TOLERANCE)
            ]
            self.unlisted += wrong
            if not wrong and differing(step.answer, ours, within):
                self.differences[_reason(scenario, i)] += 1


def _reason(scenario: Scenario, number: int) -> str:
    """Answer the quirk that by itself makes the model answer a step as the peer did."""
    for quirk in sorted(QUIRKS):
        answered = expected.answers(scenario, {quirk})[number]
        if not differing(scenario.steps[number].answer, answered, _TOLERANCE):
            return quirk
    return "several quirks together"
