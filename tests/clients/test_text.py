from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from interlock import text, v1

# All of Unicode, with lone surrogates and NUL well represented.
ODD = st.text(st.one_of(st.characters(exclude_categories=()), st.sampled_from("\0\udc80\ud800é😀")))


@given(ODD)
def test_what_is_escaped_can_be_sent(given_text: str) -> None:
    cleaned = text.escape(given_text)
    assert "\0" not in cleaned
    assert v1.Flow.FromString(v1.Flow(name=cleaned).SerializeToString()).name == cleaned
    assert text.escape(cleaned) == cleaned
    odd = "\0" in given_text or any("\ud800" <= char <= "\udfff" for char in given_text)
    assert (cleaned != given_text) == odd
    assert text.state_message(given_text).endswith(text.ESCAPED) >= odd


@given(ODD, st.integers(min_value=0, max_value=70_000))
def test_a_state_message_always_fits(given_text: str, times: int) -> None:
    message = text.state_message(given_text * (times // max(1, len(given_text))))
    assert len(message.encode()) <= text.MAX_STATE_MESSAGE_BYTES
    assert text.state_message(message) == message


@given(ODD)
def test_a_state_name_always_fits(given_text: str) -> None:
    assert len(text.state_name(given_text * 50).encode()) <= text.MAX_STATE_NAME_BYTES


@given(ODD.map(text.escape_surrogates), st.integers(min_value=4, max_value=50))
def test_parts_make_the_whole(given_text: str, limit: int) -> None:
    parts = text.split(given_text, limit)
    assert "".join(parts) == given_text
    assert all(len(part.encode()) <= limit for part in parts)
    assert all(parts) or parts == [""]
