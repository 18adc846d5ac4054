"""Log files: what is read from them, and what is written to them, byte by byte."""

import hashlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock.log_columns import Line, pack, unpack
from interlock_server.cli import log_files
from interlock_server.cli.log_files import (
    LogFileError,
    TextCounts,
    as_json_line,
    from_json_line,
    looks_like_json_lines,
    pieces,
    text_lines,
)

TASK = "01a20ebf-9e0e-7d9a-a98a-2d5098349971"


def read(data: bytes) -> tuple[list[Line], TextCounts]:
    counts = TextCounts()
    return list(text_lines(pieces(BytesIO(data), counts), lambda _: (1, 20), "x")), counts


def written(lines: list[Line]) -> bytes:
    return "".join(line.message + ("" if line.continued else "\n") for line in lines).encode()


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))))
def test_texts_come_back_to_the_byte(texts: list[str]) -> None:
    data = "".join(f"{text}\n" for text in texts).encode()
    lines, counts = read(data)
    assert hashlib.sha256(written(lines)).digest() == hashlib.sha256(data).digest()
    assert (counts.lines, counts.replaced, counts.last_is_open) == (len(texts), 0, False)
    assert counts.with_cr == sum(text.endswith("\r") for text in texts)


@given(st.binary())
def test_any_bytes_are_read(data: bytes) -> None:
    lines, counts = read(data)
    assert counts.lines == data.count(b"\n") + (data[-1:] not in (b"", b"\n"))
    texts = [line.decode(errors="replace") for line in data.split(b"\n")]
    assert [line.message for line in lines] == (texts if texts[-1] else texts[:-1])
    # U+FFFD that is written in the file is no replacement.
    if b"\xef\xbf\xbd" not in data:
        assert counts.replaced == sum("\ufffd" in text for text in texts)


def test_a_line_of_any_length_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "_PIECE_BYTES", 5)
    data = "äöüäöü€€\nxy\n12345\nend".encode()
    lines, counts = read(data)
    assert written(lines) == data + b"\n"
    assert (counts.lines, counts.replaced, counts.last_is_open) == (4, 0, True)
    assert max(len(line.message) for line in lines) <= 5


@given(
    st.lists(
        st.builds(
            Line,
            st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
            st.integers(0, 100),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            st.text(st.characters(exclude_categories=["Cs"])),
            st.sampled_from(["", TASK]),
            st.booleans(),
        ),
        min_size=1,
    )
)
def test_records_come_back_from_json_with_all_that_is_known_of_them(lines: list[Line]) -> None:
    texts = [as_json_line(record) for record in unpack(pack(lines), 0)]
    assert all(text.count("\n") == 1 for text in texts)
    assert [from_json_line(text, 1) for text in texts] == lines
    assert looks_like_json_lines(texts[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"message": "x"}', "no time"),
        ('{"time": "yesterday"}', "no time"),
        ('{"time": 5}', "no time"),
        ('{"time": "2024-01-01T00:00:00Z", "message": 5}', "its message"),
        ('{"time": "2024-01-01T00:00:00Z", "level": 101}', "its level"),
        ('{"time": "2024-01-01T00:00:00Z", "continued": 1}', "its continued"),
    ],
)
def test_a_line_that_is_no_record_is_named(text: str, said: str) -> None:
    with pytest.raises(LogFileError, match=f"Line 1,234 is no log record.*{said}"):
        from_json_line(text, 1234)
    assert not looks_like_json_lines(text)
