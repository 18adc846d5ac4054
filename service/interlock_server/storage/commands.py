"""What a command of the commit pipeline is: the shape that every write of `core/` has."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol, TypeVar

from interlock_server.storage.facts import Facts, Needs

R_co = TypeVar("R_co", covariant=True)


class CommandClass(IntEnum):
    """The classes of commands, in the order in which a batch takes from them."""

    URGENT = 0
    """What frees or keeps: final states, renewals, releases."""
    TRANSITIONS = 1
    """Other transitions, and creations."""
    LOGS = 2
    """Log batches."""
    REST = 3
    """Changes and deletions by people and tools."""


class Command(Protocol[R_co]):
    """One write: it says what it needs to know, and decides when it knows it."""

    command_class: CommandClass
    weight: int
    """How many items it has: 1, or the size of a batch call."""
    size: int
    """Its bytes in memory, about."""
    replayable: bool
    """Whether deciding it again finds out that it was done: it has an id that is stored."""
    exclusive: bool
    """Whether it must have a batch of its own."""

    def add_needs(self, needs: Needs) -> None:
        """Add what must be known to decide."""

    def decide(self, facts: Facts) -> R_co:
        """Decide, change the facts accordingly, and answer the reply.

        An error that is the caller's must be raised before the first change.
        """


class CallerError(Exception):
    """The base of errors that a command raises because of what it was given."""
