"""How long and how often each thing is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Rounds, seconds and amounts; amounts are of one round."""

    rounds: int
    warm_up: float
    seconds: float
    """Of each round of unary calls, before and while it counts."""
    transitions: int
    """In batches."""
    lines: int
    """For Interlock."""
    raw_lines: int
    starts: int
    watched: int = 20
    """Commits that a watcher hears of."""
    runs: int = 2_000
    """That lists are read from."""
    live_runs: int = 40
    """That write a line a second each."""
    live_seconds: int = 3


FULL = Scale(5, 1.0, 3.0, 40_000, 800_000, 60_000, 5, 200, 1_000_000, 1_000, 60)
QUICK = Scale(2, 0.5, 0.7, 8_000, 160_000, 20_000, 3, 50, 200_000, 500, 20)
