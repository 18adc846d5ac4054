"""What happens to a test whose database can't be had: it skips, or fails where nobody looks."""

import os
from typing import NoReturn

import pytest


class Unavailable(Exception):
    """A thing that a test needs can't be had here; the message names what was tried."""


def required(what: str) -> bool:
    """Whether this run must not go without `what`.

    A skip is for the developer who reads it. In CI nobody does, and what is skipped is untested.
    """
    return bool(os.environ.get("CI") or os.environ.get(f"INTERLOCK_REQUIRE_{what}"))


def go_without(what: str, reason: Unavailable) -> NoReturn:
    """End the running test, since it needs `what`."""
    if required(what):
        pytest.fail(f"{reason} (CI or INTERLOCK_REQUIRE_{what} is set)", pytrace=False)
    pytest.skip(str(reason))
