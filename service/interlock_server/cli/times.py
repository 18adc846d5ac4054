"""Times and lengths as people say and read them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from interlock_server.lengths import parse_length

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def since(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """Read a moment: so long ago (`10m`, `1h30m`), or a time in ISO 8601, local unless it says.

    For click, as an option's callback. Raises BadParameter.
    """
    if value is None:
        return None
    text = value.strip()
    try:
        with suppress(ValueError):
            return datetime.now(UTC) - timedelta(seconds=parse_length(text))
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time. Say how long ago, as 90s, 10m, 1h30m or 2d, or when, as "
            "2025-06-01T12:00."
        ) from None


def seconds(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """Read a length of time (`30d`, `1h30m`) in seconds. For click, as an option's callback.

    Raises BadParameter.
    """
    try:
        return round(parse_length(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def moment(time: Timestamp) -> str:
    """Write a time to the millisecond, in the terminal's zone."""
    try:
        local = time.ToDatetime(UTC).astimezone()
    except (ValueError, OverflowError):
        return time.ToJsonString()
    return local.isoformat(sep=" ", timespec="milliseconds")[:23]


def age(time: Timestamp, now: datetime) -> str:
    """Say how long ago a time was, or how soon it will be, roughly."""
    seconds = now.timestamp() - time.seconds - time.nanos / 1e9
    if abs(seconds) < 1:
        return "now"
    rough = _rough(abs(seconds))
    return f"{rough} ago" if seconds > 0 else f"in {rough}"


def _rough(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS[unit]:
            return f"{int(seconds / _UNITS[unit])}{unit}"
    return f"{int(seconds)}s"


def length(duration: Duration) -> str:
    """Write how long something took, as precisely as it matters."""
    seconds = duration.seconds + duration.nanos / 1e9
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}µs" if seconds else "0s"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {whole % 60:02d}s"
