"""Which small chunks of a log are merged, so that records are written again only a few times.

A log is a sequence of chunks. While it grows, its youngest chunks are merged in levels: FAN_OUT
neighbours of one level become one of the next, so that what is written again grows with the
logarithm of a chunk's records. Once a log is quiet (it rests, or its producers are done),
neighbours are merged into chunks of the target size, as long as what is old is not much more than
what is new.

A chunk that is large enough is never touched again. Behind it others may come; what is before it
will not change any more and is sealed, so that the part of a log that has to be looked at stays
short, however long the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from interlock_server.rules.states import Micros

FAN_OUT = 16
"""How many chunks of a level become one of the next. Also how many bytes may be written again for
each new one when a log is quiet."""

LARGE_BYTES = 64 * 1024
"""A chunk of so many bytes, not compressed, stays as it is: larger ones save little more."""

LARGE_RECORDS = 1000
"""A chunk of so many records stays as it is."""

TARGET_BYTES = 256 * 1024
"""Up to about this size chunks are merged into one: small enough to be read for a few records."""

TARGET_RECORDS = 4096
"""Up to about so many records are merged into one chunk."""

REST: Micros = 300_000_000
"""How long nothing must have come to a log that counts as quiet."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk, as far as it matters for merging."""

    first_ordinal: int
    last_ordinal: int
    raw_bytes: int
    level: int
    fixed: bool = False
    """Whether it can not be merged: it is damaged."""

    @property
    def records(self) -> int:
        """How many records it has."""
        return self.last_ordinal - self.first_ordinal + 1

    @property
    def stays(self) -> bool:
        """Whether it stays as it is."""
        return self.fixed or is_large(self.raw_bytes, self.records)


@dataclass(frozen=True, slots=True)
class Merge:
    """Neighbours that become one chunk."""

    pieces: tuple[Piece, ...]
    level: int
    """The level of the new chunk."""

    @property
    def raw_bytes(self) -> int:
        """How many bytes are written again, about, before they are compressed."""
        return sum(piece.raw_bytes for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to merge in one log now, and what is left then."""

    merges: tuple[Merge, ...]
    sealed_ordinal: int
    """What is before it never changes again, once this is done."""
    chunks: int
    """How many chunks are behind `sealed_ordinal` then."""
    small_chunks: int
    """How many of them count towards the next merge: the youngest ones of level 0, and one for all
    that is before them."""
    unfinished: bool = False
    """Whether there is more to merge at once."""


def is_large(raw_bytes: int, records: int) -> bool:
    """Answer whether a chunk is so large that it stays as it is."""
    return raw_bytes >= LARGE_BYTES or records >= LARGE_RECORDS


def merge_is_due(small_chunks: int) -> bool:
    """Answer whether a log has so many small chunks that some should be merged at once."""
    # One of them stands for what the last merge has left.
    return small_chunks > FAN_OUT


def plan(
    pieces: Sequence[Piece], sealed_ordinal: int, *, quiet: bool, complete: bool, max_bytes: int
) -> Plan:
    """Plan the merging of a log, of which the chunks behind `sealed_ordinal` are given in order.

    `complete` tells whether these are all of them, or just the first ones. No more than about
    `max_bytes` are to be merged.
    """
    closed, open_ = _split(pieces)
    wanted = [merge for segment in closed for merge in _groups(segment)]
    sealed = closed[-1][-1].last_ordinal + 1 if closed else sealed_ordinal
    if not complete:
        wanted += _groups(open_)
    elif quiet:
        wanted += _groups(open_[_quiet_start(open_) :])
    else:
        start, level = _live_start(open_)
        wanted += _groups(open_[start:], level)
    merges = tuple(_within(wanted, max_bytes))
    if len(merges) < len(wanted):
        sealed = min(sealed, wanted[len(merges)].pieces[0].first_ordinal)
    after = [piece for piece in _after(pieces, merges) if piece.first_ordinal >= sealed]
    # What has become large seals what is before it, too.
    large = [place for place, piece in enumerate(after) if piece.stays]
    if large and len(merges) == len(wanted):
        sealed = after[large[-1]].last_ordinal + 1
        after = after[large[-1] + 1 :]
    young = 0
    while young < len(after) and after[-1 - young].level == 0:
        young += 1
    older = len(after) > young
    unfinished = len(merges) < len(wanted) or not complete
    if quiet and not unfinished:
        # All that is left counts as one: it is looked at again when something comes to it.
        return Plan(merges, sealed, len(after), min(1, len(after)))
    return Plan(merges, sealed, len(after), young + older, unfinished)


def _split(pieces: Sequence[Piece]) -> tuple[list[list[Piece]], list[Piece]]:
    """Cut a log behind each chunk that stays; nothing can come to the parts but for the last."""
    closed: list[list[Piece]] = []
    open_: list[Piece] = []
    for piece in pieces:
        open_.append(piece)
        if piece.stays:
            closed.append(open_)
            open_ = []
    return closed, open_


def _live_start(pieces: Sequence[Piece]) -> tuple[int, int]:
    """Answer from where on chunks are merged while the log grows, and the level that they reach.

    Where a merge makes the next level full, both are done at once.
    """
    start, reached = len(pieces), 0
    merged = 0
    for level in range(max((piece.level for piece in pieces), default=0) + 1):
        begin = len(pieces)
        while begin > 0 and pieces[begin - 1].level <= level:
            begin -= 1
        of_level = sum(piece.level == level for piece in pieces[begin:start])
        if of_level + merged >= FAN_OUT:
            start, reached, merged = begin, level + 1, 1
        else:
            merged = 0
    return start, reached


def _quiet_start(pieces: Sequence[Piece]) -> int:
    """Answer from where on chunks are merged when nothing more comes for a while.

    What is old is written again only for enough that is new: those that are left shrink quickly.
    """
    start, new = len(pieces), 0
    for place in range(len(pieces) - 1, -1, -1):
        if pieces[place].raw_bytes <= FAN_OUT * new:
            start = place
        new += pieces[place].raw_bytes
    return start


def _groups(pieces: Sequence[Piece], level: int = 1) -> Iterator[Merge]:
    """Put neighbours together, each group up to the target size, at this level or above."""
    rest = [piece for piece in pieces if not piece.stays]
    level = max([level, *(piece.level for piece in rest)])
    while rest:
        size = records = count = 0
        for piece in rest:
            size, records, count = size + piece.raw_bytes, records + piece.records, count + 1
            if size >= TARGET_BYTES or records >= TARGET_RECORDS:
                break
        if count > 1:
            yield Merge(tuple(rest[:count]), level)
        del rest[:count]


def _within(merges: Sequence[Merge], max_bytes: int) -> Iterator[Merge]:
    """Answer the first merges that fit, but at least one."""
    size = 0
    for place, merge in enumerate(merges):
        size += merge.raw_bytes
        if place and size > max_bytes:
            return
        yield merge


def _after(pieces: Sequence[Piece], merges: Sequence[Merge]) -> list[Piece]:
    """Answer the chunks of a log when some are merged; their bytes are about those merged."""
    become = {
        merge.pieces[0].first_ordinal: Piece(
            merge.pieces[0].first_ordinal,
            merge.pieces[-1].last_ordinal,
            merge.raw_bytes,
            merge.level,
        )
        for merge in merges
    }
    gone = {piece.first_ordinal for merge in merges for piece in merge.pieces}
    return sorted(
        [*become.values(), *(piece for piece in pieces if piece.first_ordinal not in gone)],
        key=lambda piece: piece.first_ordinal,
    )
