"""What a search sends: each match and what is near it, once, in order, wherever it is resumed."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from interlock_server.core.logs.search_plan import BEYOND, Holdings, Place, Planner, Span

Sent = tuple[str, int, bool]
"""A run, an ordinal, whether it is a match."""


@dataclass(frozen=True)
class Log:
    """Records, where a run's chunks may end, and which records match."""

    run_id: str
    length: int
    borders: frozenset[int]
    hits: frozenset[int]

    def chunks(self, merged: bool, from_ordinal: int = 0) -> list[tuple[int, int]]:
        """The chunks that are read: those with matches, and some without."""
        firsts = [0, *sorted(border for border in self.borders if not merged and border)]
        chunks = [(a, b - 1) for a, b in zip(firsts, [*firsts[1:], self.length], strict=True)]
        return [
            (first, last)
            for first, last in chunks
            if last >= from_ordinal
            and (first % 2 or any(first <= hit <= last for hit in self.hits))
        ]


@st.composite
def logs(draw: st.DrawFn) -> list[Log]:
    made = []
    for run_id in "cba"[: draw(st.integers(1, 3))]:
        length = draw(st.integers(1, 16))
        inside = st.integers(0, length - 1)
        made.append(
            Log(
                run_id, length, draw(st.frozensets(inside)), draw(st.frozensets(inside, max_size=6))
            )
        )
    return made


def run(
    some: list[Log], place: Place, before: int, after: int, limit: int, merged: bool
) -> tuple[list[tuple[Sent, Place]], Planner]:
    """Search from a place on: what is sent, with the place behind it, and how it ended."""
    planner = Planner(place, before, after, limit)
    sizes = {log.run_id: log.length for log in some}
    for log in some:
        if place.run_id is not None and (
            log.run_id > place.run_id
            or (log.run_id == place.run_id and place.search_from >= BEYOND)
        ):
            continue
        begin = place.search_from if log.run_id == place.run_id else 0
        for first, last in log.chunks(merged, begin):
            hits = sorted(hit for hit in log.hits if max(first, begin) <= hit <= last)
            planner.chunk(log.run_id, last, hits, sizes)
            if planner.enough:
                break
        if not planner.enough:
            planner.pass_by(log.run_id, sizes)
        if planner.enough:
            break
    sent = [
        ((span.run_id, ordinal, span.is_match), span.place_behind(ordinal))
        for span in planner.take()
        for ordinal in range(span.first, span.last + 1)
    ]
    return sent, planner


def expected(some: list[Log], before: int, after: int) -> list[Sent]:
    return [
        (log.run_id, ordinal, ordinal in log.hits)
        for log in some
        for ordinal in range(log.length)
        if any(hit - before <= ordinal <= hit + after for hit in log.hits)
    ]


@settings(max_examples=200, deadline=None)
@given(logs(), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_it_is_the_same_when_it_is_resumed_behind_each_record(
    some: list[Log], before: int, after: int, merged: bool
) -> None:
    whole, _ = run(some, Place(), before, after, 100, merged=False)
    wanted = expected(some, before, after)
    assert [sent for sent, _ in whole] == wanted
    for number, (_, place) in enumerate(whole, 1):
        rest, _ = run(some, place, before, after, 100, merged)
        assert [sent for sent, _ in rest] == wanted[number:]


@settings(max_examples=200, deadline=None)
@given(logs(), st.integers(0, 4), st.integers(0, 4), st.integers(1, 3))
def test_it_ends_after_so_many_matches_and_goes_on_from_there(
    some: list[Log], before: int, after: int, limit: int
) -> None:
    found: list[Sent] = []
    place, planner = Place(), None
    while planner is None or planner.enough:
        part, planner = run(some, place, before, after, limit, merged=False)
        matches = sum(is_match for (*_, is_match), _ in part)
        assert matches == planner.matches
        assert matches == limit or not planner.enough
        found += [sent for sent, _ in part]
        place = planner.place
    assert found == expected(some, before, after)


def test_what_comes_after_the_last_match_is_sent_with_it() -> None:
    log = Log("a", 9, frozenset(), frozenset({2, 5}))
    part, planner = run([log], Place(), 0, 2, 1, merged=False)
    assert planner.enough
    assert [ordinal for (_, ordinal, _), _ in part] == [2, 3, 4]


@dataclass
class Piece:
    run_id: str
    first_ordinal: int
    last_ordinal: int


def test_records_that_are_not_at_hand_are_named_as_ranges() -> None:
    holdings = Holdings([Piece("a", 5, 9), Piece("a", 20, 29)])
    spans = [Span("a", 3, 24, False, 0), Span("b", 0, 1, False, 0), Span("a", 7, 8, True, 0)]
    assert holdings.missing(spans) == [("a", 3, 4), ("a", 10, 19), ("b", 0, 1)]
    assert holdings.get("a", 10) is None
    assert holdings.get("a", 4) is None
    assert holdings.get("a", 25) == Piece("a", 20, 29)
