"""Hints on SQLite: one server serves a database, so that there is nobody to tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class NoHints:
    """Nothing is told and nothing heard."""

    def start(self) -> None:
        """See `Hints.start`."""

    async def stop(self) -> None:
        """See `Hints.stop`."""

    def tell(self, topic: str) -> None:
        """See `Hints.tell`."""

    @contextmanager
    def listen(self, topic: str, heard: Callable[[], None]) -> Iterator[None]:
        """See `Hints.listen`."""
        yield
