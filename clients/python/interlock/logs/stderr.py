"""What the logs themselves can not tell, such as that they can not be delivered."""

from __future__ import annotations

import contextlib
import sys


def say(words: str) -> None:
    """Say it on stderr; never raises."""
    with contextlib.suppress(Exception):
        print(f"interlock: {words}", file=sys.stderr, flush=True)
