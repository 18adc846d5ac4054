"""Numbers of several rounds: the middle one, and how far the others lie from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds, between the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up the values of at least one round."""
        return cls(median(values), min(values), max(values))

    @classmethod
    def of_ratios(cls, values: Sequence[float], yardsticks: Sequence[float]) -> Spread:
        """Sum up the ratios of rounds that were taken in turns, each to its own yardstick.

        What slows the machine for a while slows both of a pair, so their ratio is steadier than the
        ratio of two medians.
        """
        return cls.of([value / yard for value, yard in zip(values, yardsticks, strict=True)])
