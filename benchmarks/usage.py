"""What a server does and spends while it is measured, by its own counts and clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.processes import Server


class Usage:
    """What a server did and spent in the windows of a measure."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._last: dict[str, float] = {}

    @contextmanager
    def window(self) -> Iterator[None]:
        """Add what is done and spent within the context."""
        before = self._read()
        yield
        self._last = {name: number - before[name] for name, number in self._read().items()}
        for name, number in self._last.items():
            self._sums[name] += number

    def _read(self) -> dict[str, float]:
        return self._server.counts() | {"cpu": self._server.cpu_seconds()}

    def rate(self, name: str) -> float:
        """Answer how much of a count the last window had in a second."""
        return self._last[name] / self._last["time"]

    def total(self, name: str) -> float:
        """Answer how much of a count all windows had."""
        return self._sums[name]

    def cpu_us_per(self, items: float) -> float:
        """Answer the microseconds of processor time for each of `items` that were done."""
        return self._sums["cpu"] / items * 1e6

    def per(self, items: float, word: str) -> dict[str, float]:
        """Answer all for each of `items` that were done, called by `word`."""
        sums = self._sums
        return {
            f"server CPU us per {word}": self.cpu_us_per(items),
            f"commits per 1,000 {word}s": sums["commits"] / items * 1000,
            f"{word}s per commit": items / max(1, sums["commits"]),
            "ms per batch": sums["commit_seconds"] / max(1, sums["batches"]) * 1000,
        }
