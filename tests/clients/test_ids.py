from __future__ import annotations

import threading
import time
import uuid

import pytest
from interlock import ids


def test_ids_are_of_version_7_and_canonical() -> None:
    before = time.time_ns() // 1_000_000
    made = ids.uuid7()
    parsed = uuid.UUID(made)
    assert str(parsed) == made
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert before - 1 <= parsed.int >> 80 <= time.time_ns() // 1_000_000 + 1


def test_ids_sort_as_they_were_made_also_when_the_clock_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = [ids.uuid7() for _ in range(10_000)]
    monkeypatch.setattr(ids, "time_ns", lambda: 1_000_000_000)
    made += [ids.uuid7() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == 20_000


def test_threads_make_different_ids() -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend([ids.uuid7() for _ in range(5_000)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 20_000
