"""How long and how often each thing is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Rounds, seconds and amounts; amounts are of one round."""

    rounds: int
    seconds: float
    """Of each round of unary calls."""
    transitions: int
    """In batches."""
    lines: int
    """For Interlock."""
    raw_lines: int
    starts: int


FULL = Scale(5, 3.0, 40_000, 800_000, 60_000, 5)
QUICK = Scale(2, 1.0, 10_000, 160_000, 20_000, 3)
