"""What a server spends while it is measured: processor time, batches, commits, statements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.processes import Server


class Usage:
    """What Interlock spent over all rounds of a measure."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cpu = 0.0
        self._counts: Counter[str] = Counter()

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add what is spent within the context."""
        cpu, counts = self._server.cpu_seconds(), self._server.counts()
        yield
        self._cpu += self._server.cpu_seconds() - cpu
        for name, number in self._server.counts().items():
            self._counts[name] += number - counts[name]  # type: ignore[assignment]

    def per(self, items: int, word: str) -> dict[str, float]:
        """Answer it for each of `items` that were done, called by `word`."""
        counts = self._counts
        return {
            f"server CPU us per {word}": self._cpu / items * 1e6,
            f"commits per 1,000 {word}s": counts["commits"] / items * 1000,
            f"{word}s per commit": items / max(1, counts["commits"]),
            "ms per batch": counts["commit_seconds"] / max(1, counts["batches"]) * 1000,
        }

    def statements_per_thousand(self, items: int) -> float:
        """Answer how many statements 1,000 items took; only of a server that counts them."""
        return self._counts["statements"] / items * 1000
