"""The programs of the README do what it says, against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from interlock import Client
from interlock.v1 import STATE_TYPE_COMPLETED, FlowRunFilter

from tests.support.servers import ServerProcess

README = Path(__file__).resolve().parents[2] / "README.md"
PROGRAMS = dict(
    re.findall(
        r"^<!-- test: (\w+) -->\n```python\n(.*?)^```$",
        README.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)


@pytest.mark.parametrize(
    ("name", "flow", "said", "logged"),
    [
        ("client", "nightly", "", ["loading 2026-11-24", "publishing 10 rows"]),
        ("stubs", "by-hand", "1 batch is durable\nVERDICT_ACCEPT", ["working", "done"]),
    ],
)
def test_a_worker_of_the_readme(
    interlock_on_sqlite_file: ServerProcess, name: str, flow: str, said: str, logged: list[str]
) -> None:
    target = interlock_on_sqlite_file.target
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[name].replace("127.0.0.1:4200", target)],
        env=os.environ | {"INTERLOCK_TARGET": target},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
    with Client(target) as client:
        known = client.get_flow(name=flow)
        [run] = client.list_flow_runs(FlowRunFilter(flow_ids=[known.id]))
        assert run.state.type == STATE_TYPE_COMPLETED
        assert [line.message for line in client.list_logs(run.id)] == logged


def test_the_worker_with_stubs_alone_has_at_most_25_lines() -> None:
    assert len([line for line in PROGRAMS["stubs"].splitlines() if line.strip()]) <= 25
