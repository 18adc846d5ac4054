"""The quickstart, step by step, as a reader types it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.commands import interlock
from tests.support.servers import ServerProcess

QUICKSTART = Path(__file__).resolve().parents[2] / "docs" / "quickstart.md"


def test_the_quickstart_shows_what_it_promises(
    interlock_on_sqlite_file: ServerProcess, tmp_path: Path
) -> None:
    server = {"INTERLOCK_TARGET": interlock_on_sqlite_file.target}
    [worker] = re.findall(
        r"^<!-- test: worker -->\n```python\n(.*?)^```$",
        QUICKSTART.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    (tmp_path / "worker.py").write_text(worker)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "worker.py")],
        env=os.environ | server,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.strip()

    listed = interlock("flow-run", "ls", variables=server)
    assert run_id in listed.stdout
    inspected = interlock("flow-run", "inspect", run_id, variables=server).stdout
    assert "Completed" in inspected
    logged = interlock("flow-run", "logs", run_id, "--follow", variables=server).stdout
    assert logged.count("asking for the weather in Bern") == 2
    assert "the weather service is busy" in logged
    assert "it is 21 degrees" in logged
