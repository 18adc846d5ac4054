"""Looking for text in messages: nothing is missed that each message by itself would show."""

import re
from typing import Any

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st
from interlock.v1.log_pb2 import LogColumns
from interlock_server.core.logs.text import BadPattern, Pattern, Substring, Text

PIECES = [
    *("a", "b", "A", "k", "\u212a", "\u017f", "s", "é", "É", "ß", "日", "😀"),
    *("\n", "\r\n", "\0", " ", ".", "[", "^", "$", "\\", "ab", "job 17", "0", "\x12", "\x01"),
]
PATTERNS = [
    *("a", "x*", "^$", "^", "$", r"\bb\b", r"\B", "(?s).*", "(?s)a.*b", ".", "[^a]", r"a\nb"),
    *("^a", "b$", r"\Aa", r"a\z", "(?-m)^a", "(?-m)b$", "(?i)É", r"\[^", r"[\[^]", r"\^", r"\$"),
    *(r"\Q^\E", "(a|b)+", "[[:alpha:]]+$", r"\pL\d", r"\s", r"\x00", "(?i)k", "(?m:^a)", "a{2}"),
    *(r"(?U)a.*\b", r"\C", r"\d+", r"(?s-m)a$", r"[^\n]$", "😀"),
]
texts = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
messages = st.lists(texts, min_size=1, max_size=80)


def naive(pattern: str, ignore_case: bool, literal: bool) -> Any:
    """A regular expression for one message."""
    options = re2.Options()
    options.log_errors = False
    flags = "(?mi)" if ignore_case else "(?m)"
    return re2.compile(flags + (re2.escape(pattern) if literal else pattern), options)


def check(text: Text, given: list[str], expected: list[int]) -> None:
    packed = LogColumns(messages=given, loggers=["a.b", "x"]).SerializeToString()
    assert list(text.matching(given, range(len(given)))) == expected
    odd = [place for place in range(len(given)) if place % 3]
    assert list(text.matching(given, odd)) == [place for place in expected if place % 3]
    assert text.may_be_in(packed) or not expected


@settings(max_examples=150, deadline=None)
@given(messages, texts.filter(bool), st.booleans())
def test_a_substring_is_found_where_each_message_has_it(
    given: list[str], needle: str, ignore_case: bool
) -> None:
    if ignore_case:
        regexp = naive(needle, ignore_case=True, literal=True)
        expected = [i for i, message in enumerate(given) if regexp.search(message)]
        check(Pattern(needle, ignore_case=True, literal=True), given, expected)
    expected = [i for i, message in enumerate(given) if needle in message]
    check(Substring(needle), given, expected)


@settings(max_examples=300, deadline=None)
@given(messages, st.sampled_from(PATTERNS), st.sampled_from(["", *PATTERNS]), st.booleans())
def test_a_pattern_is_found_where_each_message_has_it(
    given: list[str], first: str, second: str, ignore_case: bool
) -> None:
    pattern = first + second
    try:
        text = Pattern(pattern, ignore_case=ignore_case)
    except BadPattern:  # such as a repetition of a repetition
        return
    regexp = naive(pattern, ignore_case, literal=False)
    check(text, given, [i for i, message in enumerate(given) if regexp.search(message)])


def test_lines_within_a_message_have_ends() -> None:
    assert list(Pattern("^b$", ignore_case=False).matching(["a\nb\nc", "ab"], range(2))) == [0]


@pytest.mark.parametrize("pattern", ["(a", "*", r"\1", "(?=a)", "a{1001}", "((a{100}){100}){100}"])
def test_a_pattern_that_re2_does_not_take_is_refused_with_its_words(pattern: str) -> None:
    with pytest.raises(BadPattern, match=re.compile("[a-z]{5,}")) as caught:
        Pattern(pattern, ignore_case=True)
    assert "(?m)" not in str(caught.value)
