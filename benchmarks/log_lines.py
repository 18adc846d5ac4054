"""Log lines that look like real ones: templates of real logs, with fresh ids, times and numbers.

The logs lie in `logs/` of the folder that INTERLOCK_SHARED_DATA names, or of `../shared/data`
beside the repository. Where they are not, a few templates of our own stand in, and the results say
so.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

from interlock.ids import uuid7

_TIME = re.compile(
    r"^\S*?\s*(\d{4}[-.]\d\d[-.]\d\d[ T][\d:.]+(Z| [A-Z]{3}:)?|\d\d/\d\d/\d\d [\d:]+"
    r"|[A-Z][a-z]{2} [ \d]\d [\d:]{8})\s*"
)
_NUMBER = re.compile(r"\d+")
_WORDS_OF_LEVELS = (
    (40, re.compile(r"error|fail|abort", re.IGNORECASE)),
    (30, re.compile(r"warn|held|retr", re.IGNORECASE)),
    (10, re.compile(r"debug", re.IGNORECASE)),
)
_OWN = (
    "Task index_package-0042: 18 files parsed in 231 ms, 90112 bytes.",
    "GET https://data.example/part/000123?token=5512 -> 200 in 48 ms",
    "Retrying the download of part 17: attempt 2 of 5, waiting 4 s",
    "ERROR: exit code 137 after 61203 ms on worker-17",
    "Finished in state Completed after 12 s with 3 retries",
)
_LOGGERS = ("interlock.flow_runs", "interlock.task_runs", "pipeline.extract", "pipeline.load")

Line = tuple[int, int, str, str, str, bool]
"""As `interlock.log_columns.pack` takes them."""


class LogLines:
    """An endless log of one run with several task runs."""

    def __init__(self, seed: int) -> None:
        templates = _real_lines()
        self.source = "templates of real logs" if templates else "built-in templates"
        """Where the lines come from, in words."""
        self._templates = [
            (_level(line), _NUMBER.split(line), [len(n) for n in _NUMBER.findall(line)])
            for line in templates or _OWN
        ]
        self._random = random.Random(seed)
        self._task_run_ids = [uuid7() for _ in range(8)]
        self._time = 1_750_000_000_000_000 + seed

    def take(self, count: int) -> list[Line]:
        """Make the next lines."""
        return list(self._lines(count))

    def _lines(self, count: int) -> Iterator[Line]:
        draw, choose = self._random.random, self._random.choice
        for _ in range(count):
            level, pieces, widths = choose(self._templates)
            self._time += int(draw() * 20_000)
            message = pieces[0]
            for piece, width in zip(pieces[1:], widths, strict=True):
                message += f"{int(draw() * 10**width):0{width}d}{piece}"
            yield (
                self._time,
                level,
                choose(_LOGGERS),
                message,
                choose(self._task_run_ids),
                False,
            )


def _level(line: str) -> int:
    return next((level for level, words in _WORDS_OF_LEVELS if words.search(line)), 20)


def _real_lines() -> list[str]:
    given = os.environ.get("INTERLOCK_SHARED_DATA")
    data = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    lines = [
        _TIME.sub("", line)
        for path in sorted((data / "logs").glob("*/*"))
        for line in path.read_text(errors="replace").splitlines()
    ]
    return list(filter(None, lines))
