"""Wakes those who wait for news of a run in this process. A hint: the database is the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from interlock_server.rules.states import Id
from interlock_server.storage.facts import Facts


class Signals:
    """Who waits for which run."""

    def __init__(self) -> None:
        self._waiting: dict[Id, set[asyncio.Event]] = {}

    @contextmanager
    def listen(self, run_id: Id) -> Iterator[asyncio.Event]:
        """Give an event that is set at each commit that concerns the run; its user clears it."""
        event = asyncio.Event()
        self._waiting.setdefault(run_id, set()).add(event)
        try:
            yield event
        finally:
            listeners = self._waiting[run_id]
            listeners.discard(event)
            if not listeners:
                del self._waiting[run_id]

    def committed(self, facts: Facts) -> None:
        """Wake those who wait for what a batch has changed."""
        if self._waiting:
            for run_id in facts.touched_run_ids():
                for event in self._waiting.get(run_id, ()):
                    event.set()

    def wake_all(self) -> None:
        """Wake everyone, as the server goes away."""
        for events in self._waiting.values():
            for event in events:
                event.set()
