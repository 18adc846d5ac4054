"""Where commands wait for their batch: a bounded queue for each class, and its share of a batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from interlock_server.storage.commands import Command, CommandClass
from interlock_server.storage.errors import DeadlineError, OverloadedError


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of one class may wait, and how much of it goes into one batch."""

    queued: int
    queued_bytes: int
    batch: int
    batch_bytes: int


_MIB = 1024 * 1024
BUDGETS = {
    # A batch of 1,000 transitions is decided and written in some 50 ms; more of them would gain
    # little and make everyone wait. What waits is 20 batches: a second of work.
    CommandClass.URGENT: Budget(20_000, 32 * _MIB, 1_000, 8 * _MIB),
    CommandClass.TRANSITIONS: Budget(20_000, 32 * _MIB, 1_000, 8 * _MIB),
    # Compressed, 4 MiB are some 300,000 lines.
    CommandClass.LOGS: Budget(10_000, 64 * _MIB, 1_000, 4 * _MIB),
    CommandClass.REST: Budget(2_000, 16 * _MIB, 100, 4 * _MIB),
}


@dataclass(slots=True)
class Entry:
    """A command that waits, where its reply goes, and until when it may begin (the loop's time)."""

    command: Command[Any]
    future: asyncio.Future[Any]
    deadline: float | None


@dataclass(slots=True)
class _Queue:
    budget: Budget
    entries: deque[Entry] = field(default_factory=deque)
    weight: int = 0
    size: int = 0

    def put(self, entry: Entry) -> None:
        command, budget = entry.command, self.budget
        if self.entries and (
            self.weight + command.weight > budget.queued
            or self.size + command.size > budget.queued_bytes
        ):
            raise OverloadedError(
                f"{self.weight} commands of {self.size} bytes wait already; try again soon."
            )
        self.entries.append(entry)
        self.weight += command.weight
        self.size += command.size

    def take(self, batch: list[Entry]) -> None:
        """Move this class's share into the batch, up to a command that must be alone."""
        weight = size = 0
        while self.entries:
            command = self.entries[0].command
            if command.exclusive or (
                weight
                and (
                    weight + command.weight > self.budget.batch
                    or size + command.size > self.budget.batch_bytes
                )
            ):
                return
            weight += command.weight
            size += command.size
            batch.append(self.pop())

    def pop(self) -> Entry:
        """Remove the first entry."""
        entry = self.entries.popleft()
        self.weight -= entry.command.weight
        self.size -= entry.command.size
        return entry

    def begins_exclusive(self) -> bool:
        """Answer whether the first command must be alone in its batch."""
        return bool(self.entries) and self.entries[0].command.exclusive


class Queues:
    """The queues of all classes."""

    def __init__(self) -> None:
        self._queues = {class_: _Queue(budget) for class_, budget in BUDGETS.items()}
        self._was_alone = False

    def put(self, entry: Entry) -> None:
        """Let a command wait. Raises OverloadedError where its class has used up its budget."""
        self._queues[entry.command.command_class].put(entry)

    def depth(self) -> int:
        """Answer how many commands wait."""
        return sum(len(queue.entries) for queue in self._queues.values())

    def take(self, now: float) -> list[Entry]:
        """Take the next batch; empty: nothing waits. `now` is the loop's time."""
        while batch := self._take_shares():
            if live := _still_wanted(batch, now):
                return live
        return []

    def _take_shares(self) -> list[Entry]:
        # Commands that must be alone take turns with shared batches, so that neither starve.
        alone = [queue for queue in self._queues.values() if queue.begins_exclusive()]
        if alone and not self._was_alone:
            self._was_alone = True
            return [alone[0].pop()]
        batch: list[Entry] = []
        for queue in self._queues.values():
            queue.take(batch)
        self._was_alone = False
        return batch or ([alone[0].pop()] if alone else [])


def _still_wanted(batch: Sequence[Entry], now: float) -> list[Entry]:
    live = []
    for entry in batch:
        if entry.future.done():  # its caller is gone
            continue
        if entry.deadline is not None and entry.deadline < now:
            entry.future.set_exception(
                DeadlineError("The deadline passed before the call's turn came.")
            )
            continue
        live.append(entry)
    return live
