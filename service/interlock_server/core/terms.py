"""Terms: which of several servers does what only one of them has to do.

A term is a row that its holder renews with each tick, by the database's clock. Who finds that it
was not renewed for a tick and a half takes it over. What is done by the holder's word alone must do
no harm when it is done twice: a holder that was away learns by its next tick that it is none now.

The ticks also show whether the clock can be trusted. Between two of them lies about a tick; where
it is more than two, or less than nothing, nobody was there to listen, or the clock was set. Then
all runs that are watched by heartbeats get one more timeout, since they had no fair chance;
likewise when a term is taken over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from interlock.ids import uuid7

from interlock_server.rules.states import Id, Micros
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.records import Term

LOOPS = "loops"
"""The term of the server whose loops run."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The answer to a tick."""

    held: bool
    """Whether the term is the asker's."""
    now: Micros
    """The database's clock."""
    began_again: bool
    """Whether time was lost, so that what is watched got more of it."""


@dataclass(frozen=True, slots=True)
class Session:
    """One server's claim to the term of the loops."""

    holder: Id
    tick: Micros

    @classmethod
    def begin(cls, tick: Micros) -> Session:
        """Make the session of a server that starts."""
        return cls(uuid7(), tick)

    def may_act(self, facts: Facts) -> bool:
        """Answer whether the term is this session's, and time went evenly since its last tick."""
        term = facts.terms.get(LOOPS)
        return term is not None and term.holder == self.holder and self.is_even(term, facts.now)

    def is_even(self, term: Term, now: Micros) -> bool:
        """Answer whether no more time than two ticks has passed since the last one, nor less than
        nothing: clocks that are steered may go back a little."""
        return -self.tick < now - term.renewed <= 2 * self.tick


class _TermCommand:
    command_class = CommandClass.URGENT
    replayable = True
    exclusive = False
    weight = 1
    size = 500

    def __init__(self, session: Session) -> None:
        self._session = session

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.terms.add(LOOPS)


class EndTerm(_TermCommand):
    """Gives up the term of the loops, if it is the session's: others need not wait for its end."""

    def decide(self, facts: Facts) -> None:
        """Let the term have ended long ago."""
        term = facts.terms.get(LOOPS)
        if term is not None and term.holder == self._session.holder:
            facts.renew_term(replace(term, renewed=0))


class KeepTerm(_TermCommand):
    """Takes or renews the term of the loops, if it is the session's or free."""

    def decide(self, facts: Facts) -> Turn:
        """Renew the term; with a gap behind it, let the watched runs begin again."""
        session, now = self._session, facts.now
        term = facts.terms.get(LOOPS)
        even = term is not None and session.is_even(term, now)
        if term is not None and term.holder != session.holder:
            if even and now - term.renewed <= session.tick * 3 // 2:
                return Turn(False, now, False)
            even = False
        began_again = not even
        if began_again:
            facts.begin_heartbeats_again()
        facts.renew_term(Term(LOOPS, session.holder, now))
        return Turn(True, now, began_again)
