"""Merging the small chunks of logs, also of those that grow.

What to merge is planned by `rules.log_merging`. Chunks are read, joined and compressed without any
lock, since they never change in place; a small command then sees that they are still there, and
puts the new ones in their place. Readers notice nothing: ordinals stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import structlog
import zstandard

from interlock_server.core.logs.chunks import compress_now, decompress_now
from interlock_server.rules.log_merging import REST, Merge, Piece, Plan, merge_is_due, plan
from interlock_server.rules.states import Id, Micros
from interlock_server.storage import log_merge_queries
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.database import Database
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.log_merge_queries import UnsealedLog
from interlock_server.storage.pipeline import Pipeline
from interlock_server.storage.records import LogChunk, LogHead

LOGS_AT_ONCE = 32
"""How many logs are merged at a time: with chunks of single lines some 20 ms of work."""

_LOG_BYTES = 2 * 1024 * 1024
"""How much of one log is merged at a time, about, before it is compressed."""

_BYTES_AT_ONCE = 8 * 1024 * 1024
"""How much of all logs is merged at a time, about: four times that is held in memory."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Joined:
    """The records of several chunks as those of one."""

    packed: bytes
    counts: tuple[int, ...]
    """How many records each of the chunks had."""
    task_run_ids: tuple[Id, ...]
    """Whose records there are."""


class DamagedError(ValueError):
    """The records of a chunk can not be read; `place` tells which of those given."""

    def __init__(self, place: int, words: str) -> None:
        super().__init__(words)
        self.place = place


Join = Callable[[Sequence[bytes]], Joined]
"""Joins the decompressed records of chunks that follow each other. Raises DamagedError."""


# --- the command ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A chunk, and those whose records it has."""

    chunk: LogChunk
    pieces: tuple[Piece, ...]


class MergeLog:
    """Puts chunks in the place of smaller ones, if all those are still there.

    Answers whether it was done. Otherwise the log is looked at again.
    """

    command_class = CommandClass.REST
    replayable = True
    exclusive = False
    weight = 1

    def __init__(self, read: LogHead, plan: Plan, rewritten: Sequence[Rewritten], quiet: bool):
        """`read` is the log's head when it was planned; `quiet`: that it was quiet then."""
        self._read = read
        self._plan = plan
        self._rewritten = rewritten
        self._quiet = quiet
        self._replaced = {
            (read.run_id, piece.first_ordinal): piece.last_ordinal
            for each in rewritten
            for piece in each.pieces
        }
        self.size = 500 + sum(len(each.chunk.data) for each in rewritten)

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.logs.add(self._read.run_id)
        needs.log_chunks.update(self._replaced)

    def decide(self, facts: Facts) -> bool:
        """Look at the log again, now that it is locked."""
        run_id = self._read.run_id
        head = facts.log_heads.get(run_id)
        if head is None:  # its run was deleted, or is being deleted
            facts.expect_log_merge(run_id, None)
            return False
        if any(facts.log_chunks.get(key) != last for key, last in self._replaced.items()):
            return False
        came = max(0, head.small_chunks - self._read.small_chunks)
        small = self._plan.small_chunks + came
        head = replace(
            head,
            small_chunks=small,
            sealed_ordinal=max(head.sealed_ordinal, self._plan.sealed_ordinal),
        )
        facts.merge_log(head, self._replaced, (each.chunk for each in self._rewritten))
        facts.expect_log_merge(run_id, self._next_due(head, facts.now))
        return True

    def _next_due(self, head: LogHead, now: Micros) -> Micros | None:
        """Answer when to look at the log again; None: when more comes."""
        grown = head.next_ordinal > self._read.next_ordinal
        if self._plan.unfinished or merge_is_due(head.small_chunks):
            return now
        if not grown and (self._quiet or self._plan.chunks < 2):
            return None
        return max(now, head.appended + REST)


class PutOff:
    """Lets a log that could not be merged be, for a while."""

    command_class = CommandClass.REST
    replayable = True
    exclusive = False
    weight = 1
    size = 500

    def __init__(self, run_id: Id) -> None:
        self._run_id = run_id

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.logs.add(self._run_id)

    def decide(self, facts: Facts) -> None:
        """Put it off; one that is gone is forgotten."""
        there = self._run_id in facts.log_heads
        facts.expect_log_merge(self._run_id, facts.now + REST if there else None)


# --- the work -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be done in one log."""

    log: UnsealedLog
    quiet: bool
    damaged: frozenset[int] = frozenset()
    """The first ordinals of chunks that can not be read."""

    def plan(self) -> Plan:
        return plan(
            [
                replace(piece, fixed=piece.first_ordinal in self.damaged)
                for piece in self.log.pieces
            ],
            self.log.head.sealed_ordinal,
            quiet=self.quiet,
            complete=self.log.complete,
            max_bytes=_LOG_BYTES,
        )


async def merge_logs(
    database: Database, pipeline: Pipeline, join: Join, run_ids: Sequence[Id], now: Micros
) -> int:
    """Merge what is to be merged in some logs, `LOGS_AT_ONCE` at most; answer in how many.

    Not all may have had their turn then, where much was to be merged.
    """
    logs = await log_merge_queries.list_unsealed_logs(database, run_ids)
    tasks: list[_Task] = []
    size = 0
    for each in logs:
        task = _Task(each, each.closed or each.head.appended + REST <= now)
        size += sum(merge.raw_bytes for merge in task.plan().merges)
        if tasks and size > _BYTES_AT_ONCE:
            break
        tasks.append(task)
    gone = set(run_ids) - {each.head.run_id for each in logs}
    commands: list[MergeLog | PutOff] = [PutOff(run_id) for run_id in gone]
    commands += await _rewrite_all(database, join, tasks)
    outcomes = await asyncio.gather(*map(pipeline.submit, commands))
    return sum(outcome is True for outcome in outcomes)


async def _rewrite_all(
    database: Database, join: Join, tasks: Sequence[_Task]
) -> list[MergeLog | PutOff]:
    commands: list[MergeLog | PutOff] = []
    while tasks:
        chunks = await _read_chunks(database, tasks)
        made = await asyncio.to_thread(_rewrite_each, tasks, chunks, join)
        commands += [each for each in made if isinstance(each, MergeLog | PutOff)]
        # Each time there are fewer, or more of their chunks are known to be damaged.
        tasks = [each for each in made if isinstance(each, _Task)]
    return commands


async def _read_chunks(
    database: Database, tasks: Sequence[_Task]
) -> dict[tuple[Id, int], LogChunk]:
    ranges = [
        (task.log.head.run_id, merge.pieces[0].first_ordinal, merge.pieces[-1].first_ordinal)
        for task in tasks
        for merge in task.plan().merges
    ]
    chunks: dict[tuple[Id, int], LogChunk] = {}
    for start in range(0, len(ranges), LOGS_AT_ONCE):
        part = ranges[start : start + LOGS_AT_ONCE]
        chunks |= await log_merge_queries.list_chunks_in(database, part)
    return chunks


def _rewrite_each(
    tasks: Sequence[_Task], chunks: dict[tuple[Id, int], LogChunk], join: Join
) -> list[MergeLog | PutOff | _Task | None]:
    return [_rewrite(task, chunks, join) for task in tasks]


def _rewrite(
    task: _Task, chunks: dict[tuple[Id, int], LogChunk], join: Join
) -> MergeLog | PutOff | _Task | None:
    """Make what one log is to become; None: it has changed since it was planned.

    Where a chunk is damaged, the answer is what is to be done instead.
    """
    head = task.log.head
    planned = task.plan()
    try:
        rewritten = [
            Rewritten(_merged(merge, found, join), merge.pieces)
            for merge in planned.merges
            if (found := _found(merge, head.run_id, chunks))
        ]
    except _DamagedChunkError as error:
        log.warning("log_chunk_damaged", run_id=head.run_id, chunk=error.chunk, error=error.words)
        # It stays as it is, and what is before it is sealed with it: it is not tried again.
        return replace(task, damaged=task.damaged | {error.chunk})
    except Exception:
        # One log that can not be merged, for whatever reason, must not stop the others.
        log.exception("log_merge_failed", run_id=head.run_id)
        return PutOff(head.run_id)
    if len(rewritten) < len(planned.merges):
        return None
    return MergeLog(head, planned, rewritten, task.quiet)


def _found(
    merge: Merge, run_id: Id, chunks: dict[tuple[Id, int], LogChunk]
) -> list[LogChunk] | None:
    found = [chunks.get((run_id, piece.first_ordinal)) for piece in merge.pieces]
    there = [
        chunk
        for chunk, piece in zip(found, merge.pieces, strict=True)
        if chunk is not None and chunk.last_ordinal == piece.last_ordinal
    ]
    return there if len(there) == len(merge.pieces) else None


class _DamagedChunkError(Exception):
    def __init__(self, chunk: LogChunk, words: str) -> None:
        super().__init__(words)
        self.chunk = chunk.first_ordinal
        self.words = words


def _merged(merge: Merge, chunks: Sequence[LogChunk], join: Join) -> LogChunk:
    """Make one chunk of several. Raises _DamagedChunkError."""
    try:
        joined = join(list(_decompressed(chunks)))
    except DamagedError as error:
        raise _DamagedChunkError(chunks[error.place], str(error)) from error
    for chunk, count in zip(chunks, joined.counts, strict=True):
        if count != chunk.last_ordinal - chunk.first_ordinal + 1:
            raise _DamagedChunkError(chunk, f"it has {count} records")
    stored = [chunk.stored for chunk in chunks if chunk.stored is not None]
    return LogChunk(
        chunks[0].run_id,
        chunks[0].first_ordinal,
        chunks[-1].last_ordinal,
        min(chunk.first_time for chunk in chunks),
        max(chunk.last_time for chunk in chunks),
        tuple(map(sum, zip(*(chunk.level_counts for chunk in chunks), strict=True))),
        len(joined.packed),
        compress_now(joined.packed),
        joined.task_run_ids,
        merge.level,
        max(stored, default=None),
    )


def _decompressed(chunks: Sequence[LogChunk]) -> Iterator[bytes]:
    for chunk in chunks:
        try:
            yield decompress_now(chunk)
        except zstandard.ZstdError as error:
            raise _DamagedChunkError(chunk, str(error)) from error
