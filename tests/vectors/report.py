"""The report on what was played, which `make vectors` prints."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tests.vectors.comparison import Comparison
from tests.vectors.listed import Listed

_SHOWN = 20
"""Lines of one sort that are shown; the rest is counted."""

_WIDTH = 100


def problems(comparison: Comparison, table: Sequence[Listed]) -> list[str]:
    """Answer in words what should not be; nothing: every difference is listed, and occurs."""
    found = list(comparison.unlisted)
    listed = {line.quirk: line.answers for line in table}
    for quirk in sorted(listed.keys() | comparison.differences.keys()):
        said, seen = listed.get(quirk, 0), comparison.differences[quirk]
        if said != seen:
            found.append(f"{quirk}: {seen} answers differ for this reason; the table says {said}")
    return found


def lines(where: str, comparison: Comparison, table: Sequence[Listed]) -> Iterator[str]:
    """Answer the report on what was played on one database."""
    yield f"{where}: {comparison.scenarios:,} scenarios, {comparison.steps:,} steps"
    for line in table:
        count = comparison.differences[line.quirk]
        yield from _counted(count, f"answers differ, {line.quirk}: {line.interlock}")
    yield from _counted(len(unlisted := problems(comparison, table)), "unlisted")
    yield from _some(unlisted)


def waiting_lines(waiting: Mapping[str, str]) -> Iterator[str]:
    """Answer what could not be played, by name, and what it waits for."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, why in waiting.items():
        names[why].append(name)
    yield "Not played:"
    for why, of_this_reason in names.items():
        yield from _counted(len(of_this_reason), f"wait for {why}")
        yield from _some(of_this_reason)


def _counted(count: int, text: str) -> list[str]:
    return textwrap.wrap(f"{count:>6,}  {text}", _WIDTH, subsequent_indent=" " * 8)


def _some(texts: Sequence[str]) -> Iterator[str]:
    yield from (f"{'':10}{text}" for text in texts[:_SHOWN])
    if len(texts) > _SHOWN:
        yield f"{'':10}and {len(texts) - _SHOWN:,} more"
