"""Lengths of time as people write them: `30d`, `12h`, `1h30m`."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def parse_length(text: str) -> float:
    """Read a length of time in seconds. Raises ValueError."""
    text = text.strip()
    if not text or _PART.sub("", text):
        raise ValueError(f"{text!r} is no length of time. Write 30d, 12h or 1h30m.")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
