"""Times and levels at the beginning of the lines of log files."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock_server.cli.line_recognition import recognize, recognizer

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
HERE = timezone(timedelta(hours=2))


def at(*parts: int, hours: float = 2) -> int:
    zone = timezone(timedelta(hours=hours))
    seconds = datetime(*parts[:6], tzinfo=zone).timestamp()  # type: ignore[arg-type,misc]
    return int(seconds) * 1_000_000 + (parts[6] if len(parts) > 6 else 0)


@pytest.mark.parametrize(
    ("line", "time_us", "level"),
    [
        ("2024-02-29T10:20:30Z up", at(2024, 2, 29, 10, 20, 30, hours=0), 20),
        ("2024-02-29T10:20:30.123456789+05:30", at(2024, 2, 29, 4, 50, 30, 123456, hours=0), 20),
        ("2024-02-29 10:20:30,5 - a.b - WARNING - slow", at(2024, 2, 29, 10, 20, 30, 500000), 30),
        ("2024-02-29 10:20:30,123 ERROR [main] App: no", at(2024, 2, 29, 10, 20, 30, 123000), 40),
        ("[2024-02-29 10:20:30 -0800] [debug] x", at(2024, 2, 29, 10, 20, 30, hours=-8), 10),
        ("2023.03.04 01:02:15.312 PST: [INFO]  P", at(2023, 3, 4, 1, 2, 15, 312000, hours=-8), 20),
        ("08/04/22 12:07:24 ** /usr/bin/condor_dagman", at(2022, 8, 4, 12, 7, 24), 20),
        ("08/04/2022 12:07:24 ERROR: gone", at(2022, 8, 4, 12, 7, 24), 40),
        ("Feb 29 00:58:45 host kernel[0]: it is done", at(2024, 2, 29, 0, 58, 45), 20),
        ("Sep  3 00:58:45 host kernel[0]: last year's", at(2023, 9, 3, 0, 58, 45), 20),
        ("[10/Oct/2000:13:55:36 -0700] GET /", at(2000, 10, 10, 13, 55, 36, hours=-7), 20),
        ("1700000000 begun", 1_700_000_000_000_000, 20),
        ("1700000000.25 error: no", 1_700_000_000_250_000, 40),
        ("[1700000000123] x", 1_700_000_000_123_000, 20),
        ("\x1b[2Kweb-1  | 2024-02-29T10:20:30Z hi", at(2024, 2, 29, 10, 20, 30, hours=0), 20),
        ("[ERROR] no time", None, 40),
        ("WARNING: no time", None, 30),
        ("  fatal : no time", None, 50),
    ],
)  # fmt: skip
def test_the_usual_forms_are_known(line: str, time_us: int | None, level: int) -> None:
    found = recognize(line, HERE, NOW)
    assert (found.time_us, found.level) == (time_us, level)


@pytest.mark.parametrize(
    "line",
    [
        "",
        '  File "app.py", line 20, in main',
        "2024-13-29T10:20:30Z no such month",
        "2023-02-29 10:20:30 no such day",
        "99/99/99 99:99:99",
        "there was an ERROR in the middle",
        "12345678901234567890 a long number",
        "information: is no level",
        "at 2024-02-29T10:20:30Z it ended",
    ],
)
def test_what_is_not_at_the_beginning_or_makes_no_sense_is_not_taken(line: str) -> None:
    found = recognize(line, HERE, NOW)
    assert (found.time_us, found.level) == (None, None)


def test_lines_that_say_nothing_are_as_the_one_before() -> None:
    next_line = recognizer(7, UTC, NOW)
    assert next_line("begins") == (7, 20)
    failed = next_line("2024-02-29 10:20:30 ERROR failed")
    assert next_line("Traceback (most recent call last):") == failed
    assert failed[1] == 40
    later = next_line("2024-02-29 10:20:31 goes on")
    assert later == (failed[0] + 1_000_000, 20)


@given(st.text(max_size=60) | st.from_regex(r"[0-9/:.\-\[ TZ,+|a-f]{0,40}", fullmatch=True))
def test_no_text_is_too_odd(line: str) -> None:
    found = recognize(line, HERE, NOW)
    assert found.time_us is None or found.level is not None
