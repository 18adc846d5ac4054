"""What the contract can not carry in a text is escaped here, and said: nothing is refused for it.

Protobuf can not carry half of a surrogate pair, which Python makes of bytes that are no UTF-8
(`surrogateescape`), and names and state messages can not hold NUL. Both are written as Python
would write them in a literal, `\\udc80` and `\\x00`. A log message keeps its NULs.
"""

from __future__ import annotations

import logging

MAX_STATE_NAME_BYTES = 200
MAX_STATE_MESSAGE_BYTES = 64 * 1024
MAX_PROPOSER_BYTES = 200
ESCAPED = " [escaped by the client: NUL or lone surrogates]"

_logger = logging.getLogger("interlock.text")
_warned = False


def escape_surrogates(text: str) -> str:
    """Write lone surrogates as `\\udcXX`; a text without any comes back as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def escape(text: str) -> str:
    """Write NULs as `\\x00` and lone surrogates as `\\udcXX`; other texts come back as they are."""
    return escape_surrogates(text.replace("\0", "\\x00") if "\0" in text else text)


def clean(text: str) -> str:
    """Escape a name, key, tag or label. The first one in this process is said in a warning.

    A name has no room for a mark, and cutting one could make two of them the same: one that is too
    long is the server's to refuse.
    """
    cleaned = escape(text)
    if cleaned != text:
        _warn_once(cleaned)
    return cleaned


def state_name(text: str) -> str:
    """Make a name fit for a state: escaped, and cut at 200 bytes with an ellipsis."""
    return cut(clean(text), MAX_STATE_NAME_BYTES, "…")


def proposer(text: str) -> str:
    """Make a text fit for `proposed_by`: escaped, and cut at 200 bytes with an ellipsis."""
    return cut(clean(text), MAX_PROPOSER_BYTES, "…")


def state_message(text: str) -> str:
    """Make a message fit for a state, so that a run can always report its own failure.

    It is escaped, and ends with `ESCAPED` if there was something to escape. Beyond 64 KiB it is
    cut, and ends with a mark that says how many bytes are missing.
    """
    escaped = escape(text)
    suffix = "" if escaped == text else ESCAPED
    room = MAX_STATE_MESSAGE_BYTES - len(suffix)
    # Four bytes are the most that one character takes.
    if len(escaped) * 4 > room and (size := len(escaped.encode())) > room:
        kept = cut(escaped, room - 64)
        escaped = f"{kept}… [cut by the client: {size - len(kept.encode()):,} bytes more]"
    return escaped + suffix


def cut(text: str, limit: int, mark: str = "") -> str:
    """Cut a text at `limit` bytes of UTF-8, between characters; a cut one ends with `mark`."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - len(mark.encode())].decode(errors="ignore") + mark


def split(text: str, limit: int) -> list[str]:
    """Split a text without surrogates into parts of at most `limit` (4 or more) bytes of UTF-8."""
    if len(text) * 4 <= limit or len(encoded := text.encode()) <= limit:
        return [text]
    parts = []
    start = 0
    while start < len(encoded):
        end = min(start + limit, len(encoded))
        # A byte 0b10xxxxxx is not the first of its character.
        while end < len(encoded) and encoded[end] & 0xC0 == 0x80:
            end -= 1
        parts.append(encoded[start:end].decode())
        start = end
    return parts


def _warn_once(example: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        _logger.warning("Escaped NUL or lone surrogates in a name: %s", example[:200])
