"""In which order watchers are told what was committed.

Events are the rows that are there anyway: the lines of histories that wrote a state, and what is
remembered of deleted runs. Each has a **position**, which it shares with its batch, and an
**ordinal**, its place in there. How positions are made differs between the databases. On all of
them what is below the **horizon** is complete: no event with a lower position is yet to come. See
`docs/decisions/0009-watchers-read-below-the-horizon.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from interlock_server.rules.states import Micros

EPOCH_SPAN = 2**48
"""On PostgreSQL, how many transaction ids an epoch has room for: nine years of a million a second.
SQLite's positions are below it six times over, in microseconds, and know no epochs."""

MAX_ORDINAL = 2**31 - 1

KEPT: Micros = 7 * 24 * 60 * 60 * 1_000_000
"""How long deletions are remembered, and so how far back the order of events is complete."""


class Place(NamedTuple):
    """Where an event stands; as a place of a reader: behind which one it goes on."""

    position: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """A time during which positions are an order: it ends when the database is restored."""

    number: int
    began: Micros
    """Tells epochs of one number in two databases apart."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far the order of events is complete, as of one moment."""

    epoch: Epoch
    position: int
    """All events with a lower position are there; with this one or a higher some may be missing."""
    latest: int
    """The highest position that a reader may have seen so far."""
    held: bool
    """Whether a transaction that has begun to write, and has not ended, holds it where it is."""
    now: Micros
    """The database's clock."""

    @property
    def end(self) -> Place:
        """The place behind everything that is complete."""
        return Place(self.position - 1, MAX_ORDINAL)


class EventOrder(Protocol):
    """What a database says of the order of its events."""

    async def horizon(self) -> Horizon:
        """Read how far the order is complete; begin an epoch where this one's order is broken.

        Raises UnavailableError.
        """

    async def holder(self) -> str:
        """Say, for the operator, who holds the horizon where it is; empty: nobody, or not known.

        Raises UnavailableError.
        """
