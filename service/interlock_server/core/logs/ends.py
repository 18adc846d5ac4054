"""When a log has come to its end."""

from __future__ import annotations

from enum import Enum

from interlock_server.rules.states import TERMINAL, Micros
from interlock_server.storage.log_status_queries import LogStatus

DRAIN_SILENCE: Micros = 30_000_000
"""How long a producer may be silent before a finished run counts as drained without it."""

FIRST_WORD_GRACE: Micros = 2_000_000
"""How long after a run's end its first log batch is waited for."""


class TailEnd(Enum):
    """Why following a log has ended."""

    DRAINED = 1
    SILENT = 2
    SERVER_DRAINING = 3


def drained(status: LogStatus) -> TailEnd | None:
    """Answer whether nothing more is to come to a log, and how that is known."""
    if status.state_type not in TERMINAL:
        return None
    end = status.end_time or 0
    if not status.begun:
        return TailEnd.DRAINED if end + FIRST_WORD_GRACE < status.now else None
    if status.last_open_word is None:
        return TailEnd.DRAINED
    # Silence before the end tells nothing: the last words may be on their way.
    silent = max(status.last_open_word, end) + DRAIN_SILENCE < status.now
    return TailEnd.SILENT if silent else None
