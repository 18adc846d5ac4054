"""The batches that are numbered and not known to be durable yet.

What it promises: exactly once. Numbers ascend without a gap; a batch is kept until the service says
that it is durable, or that it refuses it, and until then each new stream sends it again. Only a
service that knows more batches of this producer than there are makes us go on as a new one.

Batches may be numbered that are not here but in a file, behind all that is here; see `load`. There
a batch keeps the number that it got, while here all numbers go down by `shift` when we go on as a
new producer.

It has no lock and no thread: the outbox calls it with the lock held.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from interlock.errors import InterlockError
from interlock.ids import uuid7
from interlock.log_columns import pack
from interlock.logs.batching import Batch
from interlock.logs.records import microseconds, own_line, size_of
from interlock.v1.log_pb2 import AppendLogsRequest, AppendLogsResponse, RefusedLogBatch


class Refusal(NamedTuple):
    """A batch that the service refused, or that was given up."""

    batch: RefusedLogBatch
    records: int
    """How many records were in it."""


class Unacknowledged:
    """Batches in the order of their numbers, from the oldest that is not durable on."""

    def __init__(self) -> None:
        self.producer = uuid7()
        """The id under which the service keeps our numbers."""
        self.shift = 0
        """How much higher the numbers in the file are than those here."""
        self.delivered = self.refused = 0
        """How many records became durable, or were refused."""
        self.known = 0
        """How many records that another process left the service had already."""
        self.size = 0
        """How much of the window is taken, in bytes."""
        self._number = 0
        self._in_memory = 0
        """The number of the newest batch that is here, or was."""
        self._durable_before = 0
        """What the service had, of what another process left, before we sent anything."""
        self._resumed = False
        """Whether another process began: it may have delivered more than it left."""
        self._began = False
        """Whether a stream has had an answer."""
        self._sent = 0
        self._batches: deque[Batch] = deque()
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    @property
    def records(self) -> int:
        """How many records are in the batches."""
        return sum(batch.records for batch in self._batches)

    @property
    def first_number(self) -> int:
        """The number of the oldest batch; 0: there is none."""
        return self._batches[0].request.number if self._batches else 0

    def add(self, batches: Iterable[Batch]) -> None:
        """Number batches, and keep them."""
        for batch in batches:
            self._number += 1
            batch.request.number = self._in_memory = self._number
            self._batches.append(batch)
            self.size += batch.size

    # What is in a file

    @property
    def last_number(self) -> int:
        """The number that the newest batch has in the file."""
        return self._number + self.shift

    @property
    def acknowledged_number(self) -> int:
        """The number in the file up to which all is acknowledged."""
        return self._acknowledged + self.shift

    def behind(self, number: int) -> list[tuple[int, Batch]]:
        """Answer the batches that are here behind a number in the file, with such numbers."""
        numbered = [(batch.request.number + self.shift, batch) for batch in self._batches]
        return [(each, batch) for each, batch in numbered if each > number]

    def reserve(self, count: int) -> None:
        """Count batches that go to the file; less than 0: that did not get there."""
        self._number += count

    def resume(self, producer: str, shift: int, last_number: int) -> None:
        """Go on as a producer whose batches are in a file, up to the number that the last has."""
        self.producer, self.shift = producer, shift
        self._number = max(0, last_number - shift)
        self._resumed = True

    def load(self, request: AppendLogsRequest, records: int, size: int) -> None:
        """Take in the next batch from the file."""
        request.number -= self.shift
        self._in_memory = max(0, request.number)
        if request.number <= 0:
            # It was delivered before the producer had another name.
            self.known += records
            return
        self._batches.append(Batch(request, records, size))
        self.size += size

    def forget_file(self) -> None:
        """What is in the file can not be read: go on without it."""
        self._number = self._in_memory
        self._waiting = deque((min(number, self._number), done) for number, done in self._waiting)

    def when_settled(self, done: threading.Event) -> None:
        """Set an event once `settle` finds all that is kept by now acknowledged."""
        self._waiting.append((self._number, done))

    # Sending

    def send_again(self) -> None:
        """A stream begins: all that is kept is unsent."""
        self._sent = 0

    def next_unsent(self) -> AppendLogsRequest | None:
        """Answer the oldest request that the current stream has not sent, which it now has."""
        for batch in self._batches:
            if batch.request.number > self._sent:
                self._sent = batch.request.number
                return batch.request
        return None

    # What comes back

    def knows(self, acknowledged: int) -> bool:
        """Tell whether the service has our history: nothing that we have not sent.

        It may know less: what was refused, and what was sent for runs that are deleted now, leaves
        no number there. And whoever delivers what another left may know less than that one did.
        """
        return self._resumed or acknowledged <= self._number

    def begin(self, durable: int) -> None:
        """Take in the first answer of a stream.

        What it speaks of is sent again all the same: some of it may have been refused, and only a
        second look at each can tell.
        """
        if self._resumed and not self._began:
            self._durable_before = durable
        self._began = True

    def acknowledge(self, response: AppendLogsResponse) -> list[Refusal]:
        """Forget what is durable; answer what was refused."""
        refused = {each.number: each for each in response.refused}
        refusals = []
        while self._batches and self._batches[0].request.number <= response.acknowledged:
            batch = self._batches.popleft()
            self.size -= batch.size
            refusal = refused.get(batch.request.number)
            if refusal is None:
                if batch.request.number <= self._durable_before:
                    self.known += batch.records
                else:
                    self.delivered += batch.records
            else:
                self.refused += batch.records
                refusals.append(Refusal(refusal, batch.records))
        return refusals

    def settle(self) -> None:
        """Tell those who wait for what is acknowledged."""
        acknowledged = self._acknowledged
        while self._waiting and self._waiting[0][0] <= acknowledged:
            self._waiting.popleft()[1].set()

    def give_up_first(self, error: InterlockError) -> Refusal:
        """Replace the oldest batch, which the service can not take, by words that say so."""
        batch = self._batches[0]
        words = f"{batch.records:,} log records could not be delivered here: {error}"
        line = own_line(microseconds(time.time()), words[:2000])
        number, lost = batch.request.number, batch.records
        self.size -= batch.size
        batch.request = AppendLogsRequest(
            number=number, run_id=batch.request.run_id, records=pack([line])
        )
        batch.records, batch.size = 1, size_of(line)
        self.size += batch.size
        self.refused += lost
        refusal = RefusedLogBatch(number=number)
        refusal.error.code = error.code.value[0]
        refusal.error.reason = error.reason
        refusal.error.message = error.message
        return Refusal(refusal, lost)

    def renumber(self) -> None:
        """Go on as a new producer, with what is kept.

        The service knows another history of the old one than we do: two processes went on from one
        snapshot, say. What it has acknowledged is not here any more; what it has not is sent.
        """
        self.producer = uuid7()
        shift = self._acknowledged
        for number, batch in enumerate(self._batches, 1):
            # A copy: gRPC may be sending the other.
            request = AppendLogsRequest()
            request.CopyFrom(batch.request)
            request.number = number
            batch.request = request
        self.shift += shift
        self._number -= shift
        self._in_memory -= shift
        self._waiting = deque((number - shift, done) for number, done in self._waiting)

    @property
    def _acknowledged(self) -> int:
        return self._batches[0].request.number - 1 if self._batches else self._in_memory
