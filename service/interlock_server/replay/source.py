"""Reading a trace file into text, and refusing early what is no text.

Every error is a `TraceError` that names the file.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from interlock_server.replay.trace import TraceError

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""The first bytes of compressed files, by what compressed them."""


def read_text(path: Path) -> str:
    """The file's text, decoded from UTF-8 (a byte order mark is dropped).

    Raises:
        TraceError: it can not be opened, is empty, compressed or not text.
    """
    source = str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TraceError(
            source, f"can not be read: {error.strerror or error}", "give the path of a trace file"
        ) from None
    for start, compressor in _COMPRESSED.items():
        if content.startswith(start):
            raise TraceError(
                source, f"is compressed with {compressor}", "uncompress it first, then replay that"
            )
    if b"\x00" in content:
        raise TraceError(
            f"{source}: byte {content.index(0)}",
            "a NUL byte, so this is a binary file",
            "give a text file",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TraceError(
            f"{source}: byte {error.start}", "is not UTF-8 text", "give a text file in UTF-8"
        ) from None
    if not text.strip():
        raise TraceError(source, "is empty", "give a file with a recorded run")
    return text


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, each with its number, counted from 1.

    Only LF and CRLF end a line: str.splitlines would also cut at characters that occur in logs.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line


def whole_number(word: str) -> int | None:
    """The whole number that the word spells, or None. Python refuses those of 4,300 digits."""
    try:
        return int(word)
    except ValueError:
        return None


def finite_number(word: str) -> float | None:
    """The decimal number that the word spells; None if it spells none, or one without end."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
