"""Digests of logs find whatever may have happened to a line."""

from collections.abc import Callable

import pytest
from interlock.log_columns import Line

from tests.faults.log_digests import LogDigests

_LINES = [Line(i, 20, f"worker-{i % 2}.app", f"line {i}") for i in range(6)]


def _digests(lines: list[Line], run_id: str = "run") -> LogDigests:
    made = LogDigests()
    made.add(run_id, lines)
    return made


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines.pop(2),
        lambda lines: lines.insert(3, lines[3]),
        lambda lines: lines.append(lines.pop(2)),
        lambda lines: lines.append(Line(0, 20, "worker-9.app", "not sent")),
        lambda lines: lines.__setitem__(1, lines[1]._replace(message="line 1\0")),
        lambda lines: lines.__setitem__(1, lines[1]._replace(level=30)),
        lambda lines: lines.__setitem__(1, lines[1]._replace(continued=True)),
    ],
    ids=["lost", "doubled", "reordered", "unknown", "message", "level", "continued"],
)
def test_a_difference_is_found(change: Callable[[list[Line]], object]) -> None:
    lines = list(_LINES)
    change(lines)
    assert len(_digests(_LINES).differences(_digests(lines))) == 1


def test_how_producers_mix_and_where_batches_end_is_no_difference() -> None:
    mixed = _digests(_LINES[1::2])
    mixed.add("run", _LINES[0::2])
    assert _digests(_LINES).differences(mixed) == []


def test_a_line_in_another_log_is_found() -> None:
    assert len(_digests(_LINES).differences(_digests(_LINES, "other"))) == 4
