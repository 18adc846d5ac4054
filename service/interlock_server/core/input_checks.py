"""Checking the schemas that pauses name, and the input that runs are resumed with.

That may take longer than the event loop can spare, so it is done in one thread, one check after
the other: whoever sends what is slow to check holds up others who do, and nobody else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from typing import TypeVar

from interlock_server.core import json_schemas
from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.json_schemas import Flaw, TooSlow
from interlock_server.storage.errors import OverloadedError

T = TypeVar("T")

_SECONDS = 1.0
"""The processor time that the checks of one request may take: a hundred times what is common."""

_WAITING = 100
"""How many checks may wait: so many seconds at the worst, which is longer than callers do."""

_REMEMBERED = 1000
"""How many good schemas are remembered: runs of one flow name the same ones again and again."""


class InputChecks:
    """Checks schemas and inputs, off the event loop."""

    def __init__(self, limit: int = _WAITING, seconds: float = _SECONDS) -> None:
        self._limit = limit
        self._seconds = seconds
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="input checks")
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def stop(self) -> None:
        """Check nothing more. May be called twice."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def check_schemas(self, named: Sequence[tuple[str, str]]) -> None:
        """Check schemas, each given behind the path of its field.

        Raises InvalidArgumentError for the first one that is none, or that can not be used;
        OverloadedError.
        """
        new = [(field, text) for field, text in named if not self._is_known(text)]
        if not new:
            return
        error = await self._run(partial(_first_bad_schema, new, self._seconds))
        if error is not None:
            raise error
        for _, text in new:
            self._good[_digest(text)] = None
        while len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)

    async def check_input(self, schema: str, field: str, text: str) -> InvalidArgumentError | None:
        """Answer what is wrong with an input by the schema that it has to meet; None: nothing.

        Raises OverloadedError.
        """
        return await self._run(partial(_bad_input, schema, field, text, self._seconds))

    async def _run(self, check: Callable[[], T]) -> T:
        if self._waiting >= self._limit:
            raise OverloadedError(
                f"{self._waiting} checks of schemas and inputs wait. Send it again a little later."
            )
        self._waiting += 1
        try:
            # Whoever goes away meanwhile takes a check that has not begun along.
            return await asyncio.get_running_loop().run_in_executor(self._thread, check)
        finally:
            self._waiting -= 1

    def _is_known(self, text: str) -> bool:
        digest = _digest(text)
        if digest not in self._good:
            return False
        self._good.move_to_end(digest)
        return True


def invalid_input(field: str, message: str) -> InvalidArgumentError:
    """Make the error for input that a run can not be resumed with."""
    return InvalidArgumentError(field, message, reason="INPUT_INVALID")


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _first_bad_schema(
    named: Sequence[tuple[str, str]], seconds: float
) -> InvalidArgumentError | None:
    with json_schemas.within(seconds):
        for field, text in named:
            try:
                flaw = json_schemas.flaw_in_schema(text)
            except TooSlow:
                flaw = Flaw("", "It takes too long to check against this schema; make it simpler.")
            if flaw is not None:
                return InvalidArgumentError(field + flaw.path, flaw.message)
    return None


def _bad_input(schema: str, field: str, text: str, seconds: float) -> InvalidArgumentError | None:
    with json_schemas.within(seconds):
        try:
            flaw = json_schemas.flaw_in_value(schema, text)
        except TooSlow:
            flaw = Flaw("", "It takes too long to check this input; make it smaller.")
    return None if flaw is None else invalid_input(field + flaw.path, flaw.message)
