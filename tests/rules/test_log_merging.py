"""Which chunks of a log are merged: in order, all of them, seldom, and never for long."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from interlock_server.rules.log_merging import (
    FAN_OUT,
    LARGE_BYTES,
    LARGE_RECORDS,
    Piece,
    Plan,
    is_large,
    merge_is_due,
    plan,
)

NO_LIMIT = 2**40


@dataclass
class Log:
    """A log that is merged as it is by the service, in memory."""

    pieces: list[Piece] = field(default_factory=list)
    sealed: int = 0
    small: int = 0
    expected: bool = False
    """Whether it is to be looked at once it rests."""
    written: int = 0
    came: int = 0
    longest: int = 0
    """The most small chunks that had to be looked at."""

    def append(self, raw_bytes: int, records: int) -> None:
        first = self.pieces[-1].last_ordinal + 1 if self.pieces else 0
        self.pieces.append(Piece(first, first + records - 1, raw_bytes, 0))
        self.came += raw_bytes
        if not is_large(raw_bytes, records):
            self.small += 1
            self.expected = self.expected or self.small > 1
        elif self.small == 0:
            self.sealed = first + records
        while merge_is_due(self.small):
            self.merge(quiet=False)

    def rest(self) -> None:
        if self.expected:
            self.merge(quiet=True)

    def merge(self, *, quiet: bool, max_bytes: int = NO_LIMIT, complete: bool = True) -> Plan:
        unsealed = [piece for piece in self.pieces if piece.first_ordinal >= self.sealed]
        self.longest = max(self.longest, sum(not piece.stays for piece in unsealed))
        planned = plan(unsealed, self.sealed, quiet=quiet, complete=complete, max_bytes=max_bytes)
        for merge in planned.merges:
            start = self.pieces.index(merge.pieces[0])
            assert tuple(self.pieces[start : start + len(merge.pieces)]) == merge.pieces
            assert len(merge.pieces) > 1
            self.pieces[start : start + len(merge.pieces)] = [
                Piece(
                    merge.pieces[0].first_ordinal,
                    merge.pieces[-1].last_ordinal,
                    merge.raw_bytes,
                    merge.level,
                )
            ]
            self.written += merge.raw_bytes
        self.sealed, self.small = planned.sealed_ordinal, planned.small_chunks
        self.expected = planned.unfinished or (not quiet and planned.chunks > 1)
        behind = sum(piece.first_ordinal >= self.sealed for piece in self.pieces)
        assert behind == planned.chunks
        return planned

    def check(self) -> None:
        reached = 0
        for piece in self.pieces:
            assert piece.first_ordinal == reached
            reached = piece.last_ordinal + 1
        assert sum(piece.raw_bytes for piece in self.pieces) == self.came


Life = list[tuple[tuple[int, int] | None, int]]
"""Bytes and records of chunks, or a rest; and how many of them."""

CHUNKS = st.one_of(
    st.tuples(st.integers(10, 300), st.just(1)),
    st.tuples(st.integers(1_000, LARGE_BYTES * 2), st.integers(1, LARGE_RECORDS * 2)),
)
REST = st.none()
LIFE = st.lists(
    st.tuples(st.one_of(CHUNKS, CHUNKS, REST), st.integers(1, 40)), min_size=1, max_size=30
)


@given(LIFE)
@settings(deadline=None)
def test_a_log_keeps_its_records_in_order_whatever_comes_to_it(life: Life) -> None:
    log = lived(life)
    log.rest()
    log.check()
    # 16 for each of 4 levels at the very most, and what is waited for.
    assert log.longest <= 5 * FAN_OUT


@given(LIFE)
@settings(deadline=None)
def test_what_is_sealed_is_never_merged_and_what_is_large_stays(life: Life) -> None:
    log = Log()
    for chunk, times in life:
        for _ in range(times):
            before = [piece for piece in log.pieces if piece.stays]
            sealed = [piece for piece in log.pieces if piece.first_ordinal < log.sealed]
            step(log, chunk)
            assert all(piece in log.pieces for piece in before)
            assert log.pieces[: len(sealed)] == sealed


@given(LIFE)
@settings(deadline=None)
def test_a_log_that_rests_has_few_chunks(life: Life) -> None:
    log = lived(life)
    log.merge(quiet=True)
    left = [piece for piece in log.pieces if piece.first_ordinal >= log.sealed]
    assert not any(piece.stays for piece in left)
    assert len(left) <= 4
    for older, newer in pairwise(left):
        assert older.raw_bytes > FAN_OUT * newer.raw_bytes


@given(st.integers(1, 200), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_a_record_of_a_growing_log_is_written_again_once_a_level(
    raw_bytes: int, records: int, scale: int
) -> None:
    log = Log()
    for _ in range(1_000 * scale):
        log.append(raw_bytes, records)
    log.check()
    # Level 3 has 4,096 chunks as they came: larger than any that is merged.
    assert log.written <= 3 * log.came
    assert (
        len(log.pieces) <= 3 * FAN_OUT + log.came // LARGE_BYTES + records * 1_000 * scale // 1000
    )


@given(st.integers(20, 2_000))
@settings(max_examples=20, deadline=None)
def test_a_log_that_rests_after_each_chunk_writes_a_bounded_part_again(raw_bytes: int) -> None:
    log = Log()
    for _ in range(1_000):
        log.append(raw_bytes, 1)
        log.rest()
    log.check()
    assert log.written <= 3 * (FAN_OUT + 1) * log.came
    assert len(log.pieces) <= 2 * FAN_OUT + log.came // LARGE_BYTES + 1


@given(LIFE, st.integers(1, 4 * LARGE_BYTES))
@settings(deadline=None)
def test_a_backlog_is_worked_off_piece_by_piece(life: Life, max_bytes: int) -> None:
    whole, log = Log(), Log()
    for chunk, times in life:
        raw_bytes, records = chunk or (1, 1)
        for _ in range(times):
            place = whole.pieces[-1].last_ordinal + 1 if whole.pieces else 0
            whole.pieces.append(Piece(place, place + records - 1, raw_bytes, 0))
            whole.came += raw_bytes
    log = replace(whole, pieces=list(whole.pieces))
    looks = 0
    while log.merge(quiet=True, max_bytes=max_bytes).unfinished:
        looks += 1
        assert looks <= len(whole.pieces)
    log.check()


def test_what_is_damaged_stays_and_the_log_goes_on_behind_it() -> None:
    pieces = [Piece(place, place, 100, 0, fixed=place == 5) for place in range(20)]
    planned = plan(pieces, 0, quiet=True, complete=True, max_bytes=NO_LIMIT)
    merged = [[piece.first_ordinal for piece in merge.pieces] for merge in planned.merges]
    assert merged == [list(range(5)), list(range(6, 20))]
    assert planned.sealed_ordinal == 6


def test_sixteen_chunks_of_a_level_become_one_of_the_next() -> None:
    log = Log()
    for _ in range(FAN_OUT + 1):
        log.append(100, 1)
    assert [(piece.records, piece.level) for piece in log.pieces] == [(17, 1)]
    for _ in range(FAN_OUT * (FAN_OUT - 1)):
        log.append(100, 1)
    assert [(piece.records, piece.level) for piece in log.pieces] == [(17 + 240, 2)]


def lived(life: Life) -> Log:
    log = Log()
    for chunk, times in life:
        for _ in range(times):
            step(log, chunk)
    return log


def step(log: Log, chunk: tuple[int, int] | None) -> None:
    if chunk is None:
        log.rest()
    else:
        log.append(*chunk)
