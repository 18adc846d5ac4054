"""Named points at which a test makes the server die, so that it dies exactly there.

Unarmed, which is always but in tests, a point costs one look at an empty dictionary. Tests arm them
by the environment variable `INTERLOCK_FAILPOINTS`: `name=crash` for the first time that the point
is reached, `name=crash:3` for the third, several with commas between.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

BEFORE_BEGIN = "pipeline.before_begin"
"""A batch was taken from the queues; the database knows nothing of it."""
AFTER_DECIDE = "pipeline.after_decide"
"""All is decided and locked, nothing is written."""
BEFORE_COMMIT = "writer.before_commit"
"""All is written, nothing is committed."""
AFTER_COMMIT = "pipeline.after_commit"
"""All is durable, and nobody was told."""

POINTS = (BEFORE_BEGIN, AFTER_DECIDE, BEFORE_COMMIT, AFTER_COMMIT)
"""The points, in the order in which a batch passes them."""

_VARIABLE = "INTERLOCK_FAILPOINTS"


def parse(text: str) -> dict[str, int]:
    """Read which points are armed, and at which visit each of them acts. Raises ValueError."""
    armed = {}
    for part in filter(None, text.split(",")):
        name, _, action = part.partition("=")
        what, _, times = action.partition(":")
        if name not in POINTS or what != "crash":
            raise ValueError(f"{part!r} is no failpoint; there are {', '.join(POINTS)}, to crash.")
        armed[name] = int(times or 1)
    return armed


def _from_environment(environment: Mapping[str, str]) -> dict[str, int]:
    return parse(environment.get(_VARIABLE, ""))


_armed = _from_environment(os.environ)


def arm(text: str) -> None:
    """Arm points from now on, also those that were armed before. Raises ValueError."""
    _armed.update(parse(text))


def reach(name: str) -> None:
    """Die here, as by `kill -9`, if a test has armed this point and it is the visit meant."""
    if not _armed or name not in _armed:
        return
    _armed[name] -= 1
    if _armed[name] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
