"""The worker programs of the client's README do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from interlock import v1

from tests.clients.fake_server import FakeServer

README = Path(__file__).resolve().parents[2] / "clients" / "python" / "README.md"
PROGRAMS = re.findall(
    r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize(
    ("program", "said", "logged"),
    [
        (PROGRAMS[0], "30", [f"fetching page {n}" for n in range(3)] + ["publishing 30"]),
        (PROGRAMS[1], "durable up to batch 0\ndurable up to batch 1", ["fetching", "done"]),
    ],
    ids=["client", "stubs"],
)
def test_a_program_of_the_readme(
    server: FakeServer, program: str, said: str, logged: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program.replace("127.0.0.1:4200", server.target)],
        env={**os.environ, "INTERLOCK_TARGET": server.target},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
    [run] = server.flow_runs.values()
    assert run.state.type == v1.STATE_TYPE_COMPLETED
    assert run.parameters_json.replace(" ", "") == '{"pages":3}'
    assert server.lines(run.id) == logged
    assert len(server.ended[run.id]) == 1


def test_the_worker_with_stubs_alone_is_short() -> None:
    assert len([line for line in PROGRAMS[1].splitlines() if line.strip()]) <= 25
