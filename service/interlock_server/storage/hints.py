"""Hints between the servers of one database: something is new, look.

A hint may come late, twice, or never; who relies on it looks now and then all the same. Servers
send them only while another one has asked, so that they cost nothing where nobody listens. A hint
may name what it is about, so that who hears it looks only where it follows something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

Heard = Callable[[frozenset[str]], None]
"""Is called for each hint, with the names of what it is about; none: it may be about anything."""


class Hints(Protocol):
    """Hints to and from other servers, by topic: a word of small letters."""

    def start(self) -> None:
        """Begin to send and to hear. May be called twice."""

    async def stop(self) -> None:
        """Say no more. May be called twice."""

    def tell(self, topic: str, about: Iterable[str] = ()) -> None:
        """Tell others, soon, that there is news on a topic. Never waits; many in a row are one.

        `about` names what the news is about, in words without spaces; none: it may be anything.
        """

    def asked(self, topic: str) -> bool:
        """Whether another server asks for hints on a topic: else naming things is for nothing."""

    def listen(self, topic: str, heard: Heard) -> AbstractContextManager[None]:
        """Ask for hints on a topic within the context."""
