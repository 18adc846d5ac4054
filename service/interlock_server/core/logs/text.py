"""Text that is looked for in the messages of log records.

Most chunks of a log hold no match. So a chunk's bytes are looked at before anything is made of
them: a message stands in them as it is, whatever is around it, and so does what a pattern matches
in it, unless the pattern asks what is beside the match (`^`, `$`, `\\b`). Such a pattern is looked
for in the messages with a newline between them, where it finds at their ends what it would find
there without the others. Both may find too much, and never too little: each message found is looked
at by itself.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import accumulate
from typing import Any, Protocol

import re2

_MAX_MEM = 1024 * 1024
"""Bytes that a pattern's automaton may take: that bounds its size, and so the time for a byte."""

_BLOCK = 32
"""So many messages are looked at together, until one is found among them."""


class Text(Protocol):
    """What is looked for."""

    @property
    def is_slow(self) -> bool:
        """Whether to look through a chunk may take seconds, so that no event loop is to do it."""

    def may_be_in(self, packed: bytes) -> bool:
        """Tell whether a message in a chunk's bytes may match; False: surely none does."""

    def matching(self, messages: Sequence[str], among: Sequence[int]) -> Sequence[int]:
        """Answer which messages match, of those at the places `among`, which ascend."""


class BadPattern(ValueError):
    """A regular expression that can not be read."""


class Substring:
    """A text as it stands."""

    is_slow = False

    def __init__(self, text: str) -> None:
        self._text = text
        self._bytes = text.encode()

    def may_be_in(self, packed: bytes) -> bool:
        """Tell whether a message in a chunk's bytes may match."""
        return self._bytes in packed

    def matching(self, messages: Sequence[str], among: Sequence[int]) -> Sequence[int]:
        """Answer which messages match."""
        text = self._text
        if len(among) == len(messages):
            return [place for place, message in enumerate(messages) if text in message]
        return [place for place in among if text in messages[place]]


class _Sight(Enum):
    """What a pattern sees of the text around its match."""

    NOTHING = 0
    LINES = 1
    """Whether a word or a line ends there."""
    ALL = 2
    """Whether the text does."""


_LOOKS_FOR_ENDS = re.compile(r"\\[Az]|\(\?[a-zA-Z]*-[a-zA-Z]*m")
_LOOKS_AROUND = re.compile(r"\$|\\[bB]|(?<!\[)\^|\\\[\^")
"""Both may see what is not there, such as an escaped `$`: that costs some time, and no match."""


class Pattern:
    """A regular expression, or a text in capitals or small letters. Raises BadPattern."""

    is_slow = True
    """A pattern whose automaton is too large costs a hundred times as much as others."""

    def __init__(self, pattern: str, *, ignore_case: bool, literal: bool = False) -> None:
        options = _options()
        options.literal = literal
        try:
            if not literal:
                # By itself, so that the error's words are about what was given.
                re2.compile(pattern.encode(), options)
            options.case_sensitive = not ignore_case
            self._regexp: Any = re2.compile(
                (pattern if literal else f"(?m){pattern}").encode(), options
            )
        except re2.error as error:
            words = error.args[0] if error.args else "it can not be read"
            if isinstance(words, bytes):
                words = words.decode(errors="replace")
            raise BadPattern(words) from None
        self._sight = _Sight.NOTHING if literal else _sight(pattern)

    def may_be_in(self, packed: bytes) -> bool:
        """Tell whether a message in a chunk's bytes may match."""
        return self._sight is not _Sight.NOTHING or self._regexp.search(packed) is not None

    def matching(self, messages: Sequence[str], among: Sequence[int]) -> Sequence[int]:
        """Answer which messages match. The time grows with their bytes, however many match."""
        if self._sight is _Sight.ALL or len(among) < len(messages):
            return self._each(messages, among)
        joined = "\n".join(messages).encode()
        if self._sight is _Sight.LINES and self._regexp.search(joined) is None:
            return []
        starts = _starts(messages, joined)
        found: list[int] = []
        for first in range(0, len(messages), _BLOCK):
            beyond = min(first + _BLOCK, len(messages))
            hit = self._regexp.search(joined, starts[first], starts[beyond] - 1)
            if hit is not None:
                # It may go through several messages: what comes behind it is not known.
                begins = bisect_right(starts, hit.start()) - 1
                found += self._each(messages, range(begins, beyond))
        return found

    def _each(self, messages: Sequence[str], among: Iterable[int]) -> list[int]:
        search = self._regexp.search
        return [place for place in among if search(messages[place].encode()) is not None]


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEM
    options.never_capture = True
    return options


def _sight(pattern: str) -> _Sight:
    if _LOOKS_FOR_ENDS.search(pattern):
        return _Sight.ALL
    return _Sight.LINES if _LOOKS_AROUND.search(pattern) else _Sight.NOTHING


def _starts(messages: Sequence[str], joined: bytes) -> list[int]:
    """Answer where in the joined bytes each message begins, and where one more would."""
    lengths = [len(message) + 1 for message in messages]
    if sum(lengths) != len(joined) + 1:
        lengths = [len(message.encode()) + 1 for message in messages]
    return [0, *accumulate(lengths)]
