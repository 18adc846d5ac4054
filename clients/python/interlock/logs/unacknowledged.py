"""The batches that are numbered and not known to be durable yet.

What it promises: exactly once. Numbers ascend without a gap; a batch is kept until the service says
that it is durable, or that it refuses it, and until then each new stream sends it again. Only a
service that knows another history of this producer makes us go on as a new one.

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
        self.delivered = self.refused = 0
        """How many records became durable, or were refused."""
        self.size = 0
        """How much of the window is taken, in bytes."""
        self._number = 0
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
            batch.request.number = self._number
            self._batches.append(batch)
            self.size += batch.size

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
        no number there.
        """
        return acknowledged <= self._number

    def acknowledge(self, response: AppendLogsResponse) -> list[Refusal]:
        """Forget what is durable; answer what was refused."""
        refused = {each.number: each for each in response.refused}
        refusals = []
        while self._batches and self._batches[0].request.number <= response.acknowledged:
            batch = self._batches.popleft()
            self.size -= batch.size
            refusal = refused.get(batch.request.number)
            if refusal is None:
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

        The service knows another history of the old one than we do: it was restored from a backup,
        say. What it has acknowledged is not here any more; what it has not is sent.
        """
        self.producer = uuid7()
        for number, batch in enumerate(self._batches, 1):
            # A copy: gRPC may be sending the other.
            request = AppendLogsRequest()
            request.CopyFrom(batch.request)
            request.number = number
            batch.request = request
        shift = self._number - len(self._batches)
        self._number -= shift
        self._waiting = deque((number - shift, done) for number, done in self._waiting)

    @property
    def _acknowledged(self) -> int:
        return self._batches[0].request.number - 1 if self._batches else self._number
