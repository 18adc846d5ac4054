"""Texts from elsewhere on the operator's terminal: shown, but never obeyed."""

from __future__ import annotations

import re

# Controls (C0, DEL, C1), line separators, lone surrogates, and the marks that turn the direction of
# text, with which a line can be made to look like another one.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_RESET = "\x1b[0m"


def safe(text: str) -> str:
    """Make a name or the like fit for a terminal, in one line: controls become visible."""
    return _visible(text).replace("\n", "\\n").replace("\t", "\\t")


def safe_message(text: str, *, colours: bool) -> str:
    """Make a message fit for a terminal: lines and tabs stay, other controls become visible.

    With `colours` its own colours stay, and end with it; else they are left out.
    """
    text = text.replace("\r\n", "\n").rstrip("\n")
    if "\x1b" not in text:
        return _visible(text)
    if not colours:
        return _visible(_COLOUR.sub("", text))
    parts, end = [], 0
    for colour in _COLOUR.finditer(text):
        parts += [_visible(text[end : colour.start()]), colour.group()]
        end = colour.end()
    parts.append(_visible(text[end:]))
    return "".join(parts) + (_RESET if end else "")


def _visible(text: str) -> str:
    return _UNSAFE.sub(lambda found: _escape(ord(found.group())), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
