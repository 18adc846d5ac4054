"""The database's clock, as tests may set it.

The clock of a machine can not be set for one test. So what a batch reads of the database's clock
may be moved: by what stands, in microseconds, in the file that the environment variable
`INTERLOCK_CLOCK_SKEW_FILE` names. Without it, which is always but in tests, nothing is read.
"""

from __future__ import annotations

import os
from pathlib import Path

from interlock_server.rules.states import Micros

_FILE = os.environ.get("INTERLOCK_CLOCK_SKEW_FILE", "")


def skew() -> Micros:
    """Answer by how much the clock is moved."""
    return int(Path(_FILE).read_text()) if _FILE else 0
