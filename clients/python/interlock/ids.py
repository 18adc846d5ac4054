"""Ids: UUIDs of version 7, which sort by the time they were made (RFC 9562)."""

from __future__ import annotations

import os
import threading
from time import time_ns

_RANDOM_MASK = (1 << 62) - 1
_VARIANT = 0b10 << 62

# Re-entrant, since a signal handler may make an id while its thread is making one.
_lock = threading.RLock()
_last = 0


def uuid7() -> str:
    """Make a UUID of version 7, in canonical lower-case text.

    Ids made by one process sort in the order in which they were made, also when the clock stands
    still or is set back: the twelve bits behind the milliseconds count fractions of a millisecond
    (RFC 9562, section 6.2, method 3) and go up by at least one. The last 62 bits are random.
    """
    global _last
    milliseconds, rest = divmod(time_ns(), 1_000_000)
    ticks = milliseconds << 12 | (rest << 12) // 1_000_000
    with _lock:
        if ticks <= _last:
            ticks = _last + 1
        _last = ticks
    tail = int.from_bytes(os.urandom(8), "big") & _RANDOM_MASK | _VARIANT
    text = f"{ticks >> 12:012x}7{ticks & 0xFFF:03x}{tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
