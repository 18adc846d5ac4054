"""Hints between the servers of one database: something is new, look.

A hint may come late, twice, or never; who relies on it looks now and then all the same. Servers
send them only while another one has asked, so that they cost nothing where nobody listens.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Hints(Protocol):
    """Hints to and from other servers, by topic: a word of small letters."""

    def start(self) -> None:
        """Begin to send and to hear. May be called twice."""

    async def stop(self) -> None:
        """Say no more. May be called twice."""

    def tell(self, topic: str) -> None:
        """Tell others, soon, that there is news on a topic. Never waits; many in a row are one."""

    def listen(self, topic: str, heard: Callable[[], None]) -> AbstractContextManager[None]:
        """Ask for hints on a topic within the context: `heard` is called for each."""
