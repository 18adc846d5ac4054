"""What a search sends of the logs that it looks through: matches, and what is near them.

It knows ordinals only: where matches are, and so which ranges of records are sent, in order, each
once. A **place** is all that a search has to know to go on later, with the next record.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from interlock_server.rules.states import Id

BEYOND = 2**62
"""An ordinal behind all others: of a log that is done."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a search has come."""

    run_id: Id | None = None
    """The log that it is in; None: it has not begun."""
    search_from: int = 0
    """Records before this ordinal were looked at."""
    send_from: int = 0
    """Records before this ordinal were sent, or are not to be."""
    context_until: int = 0
    """Records before this ordinal are sent, since they come after a match."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of records to be sent."""

    run_id: Id
    first: int
    last: int
    is_match: bool
    context_until: int
    """What a place in it has."""

    def place_behind(self, ordinal: int) -> Place:
        """Answer the place behind one of its records.

        What comes before a record that is sent was looked at: matches are sent in their order.
        """
        return Place(self.run_id, ordinal + 1, ordinal + 1, self.context_until)


class Planner:
    """Goes through chunks in their order, and collects the spans to be sent."""

    def __init__(self, place: Place, before: int, after: int, limit: int) -> None:
        self.place = place
        self.matches = 0
        self.enough = False
        """Whether there were so many matches as are wanted, and what comes after the last one."""
        self.spans: list[Span] = []
        """What is to be sent, and was not taken away yet."""
        self._before, self._after, self._limit = before, after, limit

    def take(self) -> list[Span]:
        """Take away the spans."""
        spans, self.spans = self.spans, []
        return spans

    def chunk(self, run_id: Id, last: int, hits: Iterable[int], sizes: Mapping[Id, int]) -> None:
        """Go through a chunk, in which there are matches from `search_from` on.

        `sizes`: the ordinals behind the logs' ends.
        """
        if run_id != self.place.run_id:
            self.leave(sizes)
            if self.enough:
                return
            self.place = Place(run_id)
        for hit in hits:
            self._context(hit)
            if self.matches == self._limit:
                # Of what comes after the last match the next one is no part.
                self._enough(hit)
                return
            self._add(max(self.place.send_from, hit - self._before), hit - 1)
            self._match(hit)
            if self.matches == self._limit and not self._after:
                self._enough(hit + 1)
                return
        self._context(last + 1)
        self.place = replace(self.place, search_from=max(self.place.search_from, last + 1))
        if self.matches == self._limit and self.place.send_from >= self.place.context_until:
            self._enough(self.place.search_from)

    def leave(self, sizes: Mapping[Id, int]) -> None:
        """Leave a log that is done, with what is owed of its end."""
        run_id = self.place.run_id
        if run_id is None:
            return
        self._context(sizes.get(run_id, 0))
        self.place = Place(run_id, BEYOND, BEYOND)
        self.enough = self.enough or self.matches == self._limit

    def pass_by(self, run_id: Id, sizes: Mapping[Id, int]) -> None:
        """Leave all logs up to that of a run."""
        self.leave(sizes)
        if not self.enough:
            self.place = Place(run_id, BEYOND, BEYOND)

    def _enough(self, search_from: int) -> None:
        self.place = replace(self.place, search_from=search_from)
        self.enough = True

    def _context(self, beyond: int) -> None:
        """Send what comes after the last match, up to an ordinal."""
        place = self.place
        self._add(place.send_from, min(place.context_until, beyond) - 1)

    def _match(self, hit: int) -> None:
        self.matches += 1
        self.place = replace(self.place, search_from=hit + 1, context_until=hit + 1 + self._after)
        self._add(hit, hit, is_match=True)

    def _add(self, first: int, last: int, is_match: bool = False) -> None:
        if first <= last:
            place = self.place
            assert place.run_id is not None
            self.spans.append(Span(place.run_id, first, last, is_match, place.context_until))
            self.place = replace(place, send_from=last + 1)


class Held(Protocol):
    """Records at hand."""

    @property
    def run_id(self) -> Id:
        """The log that they are in."""

    @property
    def first_ordinal(self) -> int:
        """That of the first one."""

    @property
    def last_ordinal(self) -> int:
        """That of the last one."""


H = TypeVar("H", bound=Held)


class Holdings(Generic[H]):
    """Finds records among those at hand."""

    def __init__(self, held: Iterable[H]) -> None:
        self._held: dict[Id, list[H]] = defaultdict(list)
        for each in sorted(held, key=lambda each: each.first_ordinal):
            self._held[each.run_id].append(each)
        self._firsts = {
            run_id: [each.first_ordinal for each in some] for run_id, some in self._held.items()
        }

    def get(self, run_id: Id, ordinal: int) -> H | None:
        """Answer what holds a record; None: nothing does."""
        if run_id not in self._held:
            return None
        place = bisect_right(self._firsts[run_id], ordinal) - 1
        if place < 0 or (found := self._held[run_id][place]).last_ordinal < ordinal:
            return None
        return found

    def missing(self, spans: Sequence[Span]) -> list[tuple[Id, int, int]]:
        """Answer which ranges of some spans are not at hand."""
        lacking: list[tuple[Id, int, int]] = []
        for span in spans:
            ordinal = span.first
            while ordinal <= span.last:
                found = self.get(span.run_id, ordinal)
                if found is not None:
                    ordinal = found.last_ordinal + 1
                    continue
                firsts = self._firsts.get(span.run_id, [])
                place = bisect_right(firsts, ordinal)
                beyond = min([span.last + 1, *firsts[place : place + 1]])
                lacking.append((span.run_id, ordinal, beyond - 1))
                ordinal = beyond
        return lacking
