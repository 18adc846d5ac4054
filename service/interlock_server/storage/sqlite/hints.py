"""Hints on SQLite: one server serves a database, so that there is nobody to tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from interlock_server.storage.hints import Heard


class NoHints:
    """Nothing is told and nothing heard."""

    def start(self) -> None:
        """See `Hints.start`."""

    async def stop(self) -> None:
        """See `Hints.stop`."""

    def tell(self, topic: str, about: Iterable[str] = ()) -> None:
        """See `Hints.tell`."""

    def asked(self, topic: str) -> bool:
        """See `Hints.asked`."""
        return False

    @contextmanager
    def listen(self, topic: str, heard: Heard) -> Iterator[None]:
        """See `Hints.listen`."""
        yield
