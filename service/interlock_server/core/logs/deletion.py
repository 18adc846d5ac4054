"""Deleting logs from their front, in transactions that are all short.

A log is cut under the lock of its head, as it is appended to and merged: whoever does those sees
either what was there before the cut, or what is left. What is left keeps its ordinals, and what
comes goes on with the next one, so that no token and no tail learns of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from itertools import takewhile

from interlock_server.core.logs.appends import check_owner
from interlock_server.core.turns import take_turn
from interlock_server.rules.states import Id, Micros
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.pipeline import Pipeline
from interlock_server.storage.records import ChunkOutline

_CHUNKS = 500
"""How many chunks one transaction deletes at the most: small ones take some ten milliseconds."""

_RAW_BYTES = 32 * 1024 * 1024
"""How many bytes, before they were compressed, the chunks may have that one transaction deletes."""

_TASK_RUNS = 2_000
"""How many task runs may lead to them: each has a row."""

_COMMAND_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Cut:
    """What one transaction has deleted of a log, and what it has left."""

    records: int = 0
    chunks: int = 0
    first_ordinal: int = 0
    """That of the oldest record that is left, or of the next one to come."""
    next_ordinal: int = 0
    more: bool = False
    """Whether there may be more to delete."""


class CutLog:
    """Deletes the oldest chunks of a log, no more than a short transaction can."""

    command_class = CommandClass.REST
    replayable = True
    exclusive = True
    weight = 1
    size = _COMMAND_BYTES

    def __init__(self, run_id: Id, before: Micros | None, until: int | None = None) -> None:
        """`before`: only what came before this time; `until`: only what ends before this ordinal.

        A chunk that was merged meanwhile may have records on both sides: it is left.

        Deciding it twice deletes no more than what was asked for.
        """
        self._run_id = run_id
        self._before = before
        self._until = until

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.logs.add(self._run_id)
        needs.first_log_chunks[self._run_id] = _CHUNKS

    def decide(self, facts: Facts) -> Cut:
        """Delete them. Raises CallError where there is no such log."""
        head = facts.log_heads.get(self._run_id)
        if head is None:
            check_owner(self._run_id, facts)
            return Cut()
        front = facts.first_log_chunks[self._run_id]
        old = list(takewhile(self._is_meant, front))
        gone = old[: _as_many_as_fit(old)]
        if not gone:
            return Cut(0, 0, head.first_ordinal, head.next_ordinal)
        first = gone[-1].last_ordinal + 1
        head = replace(head, first_ordinal=first, sealed_ordinal=max(head.sealed_ordinal, first))
        if first == head.next_ordinal:
            head = replace(head, small_chunks=0)
        facts.cut_log(head)
        return Cut(
            sum(chunk.records for chunk in gone),
            len(gone),
            first,
            head.next_ordinal,
            more=len(gone) < len(old) or len(old) == _CHUNKS,
        )

    def _is_meant(self, chunk: ChunkOutline) -> bool:
        if self._until is not None and chunk.last_ordinal >= self._until:
            return False
        return self._before is None or chunk.came_before(self._before)


def _as_many_as_fit(chunks: list[ChunkOutline]) -> int:
    """Answer how many of the first chunks one transaction may delete: one at least."""
    raw_bytes = task_runs = 0
    for place, chunk in enumerate(chunks):
        raw_bytes += chunk.raw_bytes
        task_runs += chunk.task_runs
        if place and (raw_bytes > _RAW_BYTES or task_runs > _TASK_RUNS):
            return place
    return len(chunks)


async def delete_log(
    pipeline: Pipeline, run_id: Id, before: Micros | None, timeout: float | None = None
) -> AsyncGenerator[Cut]:
    """Delete what a log has now, or the part of it that came before a time; at least one answer.

    `timeout` is how long, in seconds, a transaction may wait until it begins. Raises CallError
    where there is no such log. Broken off it leaves a log that is shorter.
    """
    cut = await take_turn(pipeline, CutLog(run_id, before), timeout)
    yield cut
    # What comes meanwhile is not meant: who deletes must not run after who appends.
    until = cut.next_ordinal
    while cut.more:
        cut = await take_turn(pipeline, CutLog(run_id, before, until), timeout)
        yield cut
