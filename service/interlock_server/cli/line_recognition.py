"""Times and levels at the beginning of the lines of log files, in the forms that programs use.

Pure functions. Only what is unmistakable counts, and only at the beginning of a line (a library
that guesses would find dates in all numbers): a line in no known form has the time and the level
of the line before it, as the lines of a traceback do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

INFO = 20

_MONTHS = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6, "Jul": 7, "Aug": 8, "Sep": 9,
    "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip
_ZONES = {
    "Z": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7, "CET": 1, "CEST": 2,
}  # fmt: skip
_LEVELS = {
    "TRACE": 5, "DEBUG": 10, "INFO": INFO, "NOTICE": 25, "WARN": 30, "WARNING": 30, "ERR": 40,
    "ERROR": 40, "SEVERE": 40, "CRITICAL": 50, "FATAL": 50, "ALERT": 50, "EMERG": 50,
}  # fmt: skip

_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
_ZONE = rf"(?:\s?(?P<zone>Z|[+-]\d\d:?\d\d|(?:{'|'.join(list(_ZONES)[1:])})\b))?"
# What may stand before it: colours, the service's name as docker compose has it, a bracket.
_LEAD = r"(?:\x1b\[[0-9;]*[A-Za-z])*(?:[\w.-]{1,64}\s+\|\s)?(?:\x1b\[[0-9;]*m)*[\[(]?"
_FORMS = [
    # ISO 8601, Python's logging, log4j, Pegasus (with dots)
    r"(?P<year>\d{4})(?P<sep>[-/.])(?P<month>\d\d)(?P=sep)(?P<day>\d\d)[T _]" + _CLOCK + _ZONE,
    # HTCondor
    r"(?P<month>\d\d)/(?P<day>\d\d)/(?P<year>\d{4}|\d\d) " + _CLOCK + _ZONE,
    # syslog
    r"(?P<name>" + "|".join(_MONTHS) + r") {1,2}(?P<day>\d{1,2}) " + _CLOCK,
    # web servers
    r"(?P<day>\d\d)/(?P<name>" + "|".join(_MONTHS) + r")/(?P<year>\d{4}):" + _CLOCK + _ZONE,
    # seconds, or milliseconds, since 1970: from 2001 to 2286
    r"(?P<epoch>[1-9]\d{9})(?:\.(?P<fraction>\d{1,9})|(?P<millis>\d{3}))?(?=[\s\]):,]|$)",
]
_TIMES = [re.compile(_LEAD + form, re.ASCII) for form in _FORMS]

_WORDS = "|".join(sorted(_LEVELS, key=len, reverse=True))
_NEAR = 80
"""How many characters behind the time, or the line's beginning, a level is looked for in."""
_LEVEL = re.compile(
    rf"(?<![\w/.-])(?:(?P<capitals>{_WORDS})(?![\w/.-])|\[\s*(?P<bracketed>(?i:{_WORDS}))\s*\])"
)
_FIRST_WORD = re.compile(rf"\s*(?:\x1b\[[0-9;]*m)*(?P<word>(?i:{_WORDS}))\s?:", re.ASCII)


@dataclass(frozen=True, slots=True)
class Recognized:
    """What is known of a line. None: nothing was found."""

    time_us: int | None
    """In microseconds since 1970 in UTC."""
    level: int | None


def recognize(line: str, zone: tzinfo | None = None, now: datetime | None = None) -> Recognized:
    """Find a line's time and level.

    Args:
        line: the line, or its beginning.
        zone: that of times that name none; None: this machine's.
        now: what times without a year are not after, by more than a day; None: the present.
    """
    for form in _TIMES:
        found = form.match(line)
        if found is not None and (time_us := _time(found, zone, now)) is not None:
            # What has a time begins anew: it has the level that it names, else the usual one.
            return Recognized(time_us, _level(line[found.end() : found.end() + _NEAR]) or INFO)
    level = _level(line[:_NEAR])
    return Recognized(None, level if level is not None and _begins_with_level(line) else None)


def recognizer(
    start_us: int, zone: tzinfo | None = None, now: datetime | None = None
) -> Callable[[str], tuple[int, int]]:
    """Make a function that gives the time and the level of each line of a file in turn.

    `start_us` is the time of the lines before the first one that has a time.
    """
    time_us, level = start_us, INFO

    def next_line(line: str) -> tuple[int, int]:
        nonlocal time_us, level
        found = recognize(line, zone, now)
        time_us = time_us if found.time_us is None else found.time_us
        level = level if found.level is None else found.level
        return time_us, level

    return next_line


def _begins_with_level(line: str) -> bool:
    return _FIRST_WORD.match(line) is not None or (
        (found := _LEVEL.search(line[:_NEAR])) is not None and not line[: found.start()].strip()
    )


def _level(text: str) -> int | None:
    found = _FIRST_WORD.match(text)
    if found is not None:
        return _LEVELS[found["word"].upper()]
    found = _LEVEL.search(text)
    if found is None:
        return None
    return _LEVELS[(found["capitals"] or found["bracketed"]).upper()]


def _time(found: re.Match[str], zone: tzinfo | None, now: datetime | None) -> int | None:
    parts = found.groupdict()
    micros = int((parts.get("fraction") or "0")[:6].ljust(6, "0"))
    if parts.get("epoch"):
        return int(parts["epoch"]) * 1_000_000 + int(parts["millis"] or 0) * 1000 + micros
    month = int(parts["month"]) if parts.get("month") else _MONTHS[parts["name"]]
    clock = (int(parts["hour"]), int(parts["minute"]), min(int(parts["second"]), 59), micros)
    named = _zone(parts.get("zone"))
    try:
        if parts.get("year"):
            year = int(parts["year"])
            year += 2000 if year < 70 else 1900 if year < 100 else 0
            return _micros(datetime(year, month, int(parts["day"]), *clock), named or zone)  # noqa: DTZ001
        latest = (now or datetime.now(UTC)) + timedelta(days=1)
        # A leap day may be four years ago, or eight.
        for year in range(latest.year, latest.year - 9, -1):
            try:
                time = datetime(year, month, int(parts["day"]), *clock)  # noqa: DTZ001
            except ValueError:
                continue
            if (micros_then := _micros(time, zone)) <= latest.timestamp() * 1_000_000:
                return micros_then
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _zone(name: str | None) -> tzinfo | None:
    if not name:
        return None
    if name in _ZONES:
        return timezone(timedelta(hours=_ZONES[name]))
    hours, minutes = int(name[1:3]), int(name[-2:])
    if hours > 23 or minutes > 59:
        return None
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if name[0] == "-" else offset)


def _micros(time: datetime, zone: tzinfo | None) -> int:
    aware = time.replace(tzinfo=zone) if zone is not None else time.astimezone()
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
