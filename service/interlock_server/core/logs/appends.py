"""Appending to logs, exactly once.

A batch becomes one chunk. Ordinals are given at the commit, under the lock of the log's head.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from interlock_server.core.errors import (
    CallError,
    IdReusedError,
    InvalidArgumentError,
    NotFoundError,
)
from interlock_server.rules.log_merging import REST, is_large, merge_is_due
from interlock_server.rules.states import Id, Micros
from interlock_server.storage.commands import CallerError, CommandClass
from interlock_server.storage.errors import UnavailableError
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.records import LogChunk, LogHead, LogProducer, RunKind


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Records of one producer for one run's log, packed. `count` is 0 where it has none."""

    producer_id: Id
    number: int
    run_id: Id
    end_of_run: bool
    count: int = 0
    first_time: Micros = 0
    last_time: Micros = 0
    level_counts: tuple[int, ...] = ()
    task_run_ids: tuple[Id, ...] = ()
    packed: bytes = b""
    digest: bytes | None = None
    """Of the run and the records, where they came in a single call: its id stands for no others."""


class BrokenOffError(CallerError, UnavailableError):
    """A batch whose predecessor could not be written."""

    def __init__(self) -> None:
        super().__init__("DATABASE_UNAVAILABLE", "The batch before this one could not be written.")


@dataclass(slots=True)
class Succession:
    """The batches of one stream. When one can not be written, none behind it is.

    A batch's number tells its producer that all before it are durable.
    """

    last: asyncio.Future[None] | None = None
    """What becomes of the batch that was taken in last."""
    broken: bool = False


class AppendLog:
    """Appends one batch to its run's log, unless it is there."""

    command_class = CommandClass.LOGS
    replayable = True
    exclusive = False
    weight = 1

    def __init__(self, batch: LogBatch, data: bytes, succession: Succession | None = None) -> None:
        self._batch = batch
        self._succession = succession or Succession()
        self._before = self._succession.last
        self._data = data
        self.size = len(data) + 500

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.logs.add(self._batch.run_id)
        needs.log_producers.add((self._batch.producer_id, self._batch.run_id))
        if self._batch.digest is not None:
            needs.log_calls.add(self._batch.producer_id)

    def decide(self, facts: Facts) -> None:
        """Give the records their ordinals.

        Raises CallError where there is no such log, or where the id was that of other records.
        """
        if self._succession.broken or (self._before is not None and _is_lost(self._before)):
            # Those behind may be in this batch of the pipeline, too, and not know of this one yet.
            self._succession.broken = True
            raise BrokenOffError
        batch, now = self._batch, facts.now
        head = facts.log_heads.get(batch.run_id)
        if head is None:
            check_owner(batch.run_id, facts)
            head = LogHead(batch.run_id, 0, now)
        if self._is_known(facts):
            return
        producer = LogProducer(
            batch.producer_id, batch.run_id, batch.number, batch.end_of_run, now, batch.digest
        )
        if batch.count == 0:
            facts.append_log(head, producer, None)
            self._expect_merge(head.small_chunks, head.small_chunks, facts)
            return
        first = head.next_ordinal
        chunk = LogChunk(
            batch.run_id,
            first,
            first + batch.count - 1,
            batch.first_time,
            batch.last_time,
            batch.level_counts,
            len(batch.packed),
            self._data,
            batch.task_run_ids,
            stored=now,
        )
        # What is there and not sealed is small: an earlier release did not count it.
        small_before = head.small_chunks or int(head.sealed_ordinal < first)
        small = small_before + (not is_large(chunk.raw_bytes, batch.count))
        next_ordinal = first + batch.count
        head = replace(head, next_ordinal=next_ordinal, appended=now, small_chunks=small)
        if small == 0:  # all that is there is large, and stays
            head = replace(head, sealed_ordinal=next_ordinal)
        facts.append_log(head, producer, chunk)
        self._expect_merge(small_before, small, facts)

    def _expect_merge(self, small_before: int, small: int, facts: Facts) -> None:
        """Say when to merge, from the head alone. Logs of one chunk are never heard of."""
        many = merge_is_due(small) and not merge_is_due(small_before)
        # A single call is all that comes from its producer, and tells nothing of others.
        ended = self._batch.end_of_run and self._batch.digest is None and small > 1
        if many or ended:
            facts.expect_log_merge(self._batch.run_id, facts.now)
        elif small_before < 2 <= small:
            facts.expect_log_merge(self._batch.run_id, facts.now + REST)

    def _is_known(self, facts: Facts) -> bool:
        """Answer whether it was appended before. Raises IdReusedError."""
        batch = self._batch
        if batch.digest is not None and batch.producer_id in facts.log_calls:
            # Whichever run it was: the id is that of the call, not of its run's log.
            if facts.log_calls[batch.producer_id] != batch.digest:
                raise IdReusedError(batch.producer_id)
            return True
        producer = facts.log_producers.get((batch.producer_id, batch.run_id))
        if producer is None:
            return False
        if producer.digest != batch.digest:
            raise IdReusedError(batch.producer_id)
        return batch.number <= producer.last_number


def _is_lost(outcome: asyncio.Future[None]) -> bool:
    if not outcome.done():
        return False  # it is in the same batch of the pipeline: both are written, or none
    if outcome.cancelled():
        return True
    error = outcome.exception()
    # One that was refused is not missed: its producer is told, and goes on behind it.
    return error is not None and not isinstance(error, CallError)


def check_owner(run_id: Id, facts: Facts) -> None:
    """Check that a run whose log has no head may have a log. Raises CallError."""
    if run_id in facts.runs[RunKind.FLOW_RUN]:
        return
    task_run = facts.runs[RunKind.TASK_RUN].get(run_id)
    if task_run is None:
        raise NotFoundError(
            "run", run_id, field="run_id", reason="DELETED" if run_id in facts.deleted_runs else ""
        )
    if task_run.parent_id is not None:
        raise InvalidArgumentError(
            "run_id",
            f"The task run {run_id} has no log of its own, but lines in the log of its flow run "
            f"{task_run.parent_id}: name that run, and the task run in `task_run_ids`.",
            reason="TASK_RUN_IN_FLOW_RUN",
        )
