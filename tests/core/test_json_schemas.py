"""Schemas and values that anyone may send: what is found wrong with them, and how fast."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock_server.core.json_schemas import (
    MAX_SCHEMA_BYTES,
    Flaw,
    TooSlow,
    flaw_in_schema,
    flaw_in_value,
    within,
)
from jsonschema import Draft202012Validator

SECONDS = 1.0


def schema_flaw(schema: Any) -> Flaw | None:
    with within(SECONDS):
        return flaw_in_schema(json.dumps(schema))


def value_flaw(schema: Any, value: Any) -> Flaw | None:
    assert schema_flaw(schema) is None
    with within(SECONDS):
        return flaw_in_value(json.dumps(schema), json.dumps(value))


# --- schemas --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"},
        {"$defs": {"name": {"$anchor": "n", "minLength": 1}}, "items": {"$ref": "#n"}},
        {"$id": "https://example.com/a", "$ref": "b", "$defs": {"b": {"$id": "b"}}},
        {"properties": {"children": {"items": {"$ref": "#"}}}},
        {"$dynamicRef": "#x", "$defs": {"a": {"$dynamicAnchor": "x", "type": "integer"}}},
        {"patternProperties": {r"^\p{L}+$": {"pattern": r"^\d{3}-\d{4}$"}}},
        {"default": {"$ref": "http://nowhere"}, "x-of-my-own": 1},
    ],
)
def test_what_the_draft_allows_is_taken(schema: Any) -> None:
    assert schema_flaw(schema) is None


@pytest.mark.parametrize(
    ("schema", "path", "words"),
    [
        (3, "", "3 is not of type"),
        ({"type": "strin"}, ".type", '"strin" is not valid'),
        ({"properties": {"a b": {"minLength": -1}}}, '.properties["a b"].minLength', "-1"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "", "is not taken"),
        ({"items": {"$schema": "nowhere"}}, "", '"nowhere" is not taken'),
        ({"$ref": "https://example.com/schema"}, "", "nothing is fetched"),
        ({"$ref": "#/$defs/a"}, "", "is no part of the schema"),
        ({"$ref": "#/x", "x": {"type": 3}}, "", "refers to a place that is no schema"),
        ({"$ref": "#"}, "", "refers to itself without end"),
        ({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, "", "end"),
        ({"pattern": "(?=a)b"}, "", "RE2"),
        ({"patternProperties": {r"(a)\1": True}}, "", "RE2"),
        ({"unevaluatedProperties": False}, "", "unevaluatedProperties is not taken"),
        ({"maximum": 10**400}, "", "more than 300 digits"),
    ],
)
def test_what_can_not_be_used_is_told(schema: Any, path: str, words: str) -> None:
    flaw = schema_flaw(schema)
    assert flaw is not None
    assert flaw.path == path
    assert words in flaw.message


# --- values ---------------------------------------------------------------------------------------

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"pattern": "^[a-z]+$"}, "uniqueItems": True},
    },
    "patternProperties": {"^x-": {"type": "number"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Ada"},
        {"name": "Ada", "age": None, "tags": ["a", "b"], "x-": 1.5},
        {"name": "\ud800", "age": 10**200},
    ],
)
def test_values_that_meet_the_schema_have_no_flaw(value: Any) -> None:
    assert value_flaw(PERSON, value) is None


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ([], "", "[] is not of type"),
        ({}, "", '"name" is a required property'),
        ({"name": ""}, ".name", "should be non-empty"),
        ({"name": "Ada", "age": "old"}, ".age", '"old" is not of type'),
        ({"name": "Ada", "tags": ["a", "B"]}, ".tags[1]", "does not match"),
        ({"name": "Ada", "tags": ["a", "a"]}, ".tags", "has an item twice"),
        ({"name": "Ada", "x-1": "a"}, '["x-1"]', '"a" is not of type'),
        ({"name": "Ada", "X": 1}, "", 'no property "X"'),
        ({"name": 1, "X": {"tags": 3}}, "", 'no property "X"'),
    ],
)
def test_the_outermost_flaw_of_a_value_is_told(value: Any, path: str, words: str) -> None:
    flaw = value_flaw(PERSON, value)
    assert flaw is not None
    assert flaw.path == path
    assert words in flaw.message


@pytest.mark.parametrize("text", ["1e999", "-1e999", "[" + "9" * 301 + "]"])
def test_numbers_too_large_to_reckon_with_are_told(text: str) -> None:
    with within(SECONDS):
        assert flaw_in_value("{}", text) is not None


def test_a_message_quotes_what_is_short_only() -> None:
    for value in ("x" * 100_000, list(range(10_000)), {str(n): n for n in range(10_000)}):
        flaw = value_flaw({"not": {"minLength": 0}}, value)
        assert flaw is not None
        assert len(flaw.message) < 200


small = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0]) | st.text("ab"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=6,
)


@given(st.lists(small, max_size=5))
def test_items_are_the_same_where_the_draft_says_so(items: list[Any]) -> None:
    schema = {"uniqueItems": True}
    expected = Draft202012Validator(schema).is_valid(items)
    assert (value_flaw(schema, items) is None) == expected


KEYWORDS = st.fixed_dictionaries(
    {},
    optional={
        "properties": st.dictionaries(st.text("ab", max_size=2), st.booleans(), max_size=2),
        "patternProperties": st.dictionaries(
            st.sampled_from(["a", "^b", "a$"]), st.sampled_from([True, False, {"type": "null"}])
        ),
        "additionalProperties": st.sampled_from([True, False, {"type": "integer"}]),
    },
)


@given(KEYWORDS, st.dictionaries(st.text("ab", max_size=3), st.sampled_from([None, 1, "a"])))
def test_properties_are_matched_as_the_draft_has_it(schema: Any, value: Any) -> None:
    expected = Draft202012Validator(schema).is_valid(value)
    assert (value_flaw(schema, value) is None) == expected


# --- what would stall -----------------------------------------------------------------------------


def explosion(depth: int) -> dict[str, Any]:
    """A schema whose parts ask for the next one twice."""
    parts = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
        for n in range(depth)
    }
    return {"$defs": parts | {f"d{depth}": False}}


def test_a_schema_that_multiplies_is_given_up() -> None:
    with within(0.1), pytest.raises(TooSlow):
        flaw_in_schema(json.dumps(explosion(40) | {"$ref": "#/$defs/d0"}))


def test_a_schema_that_multiplies_within_a_value_is_given_up() -> None:
    schema = explosion(40) | {"properties": {"a": {"$ref": "#/$defs/d0"}}}
    assert schema_flaw(schema) is None
    with within(0.1), pytest.raises(TooSlow):
        flaw_in_value(json.dumps(schema), '{"a": 1}')


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 100_000 + "b"),
        ({"patternProperties": {"^(a|a)*$": True}, "additionalProperties": False}, {"a" * 99: 1}),
        ({"uniqueItems": True}, [*range(20_000), "a", *([n] for n in range(9_000))]),
        ({"anyOf": [{"allOf": [False] * 1_000}]}, "a" * 200_000),
    ],
)
def test_what_would_take_forever_elsewhere_is_quick_here(schema: Any, value: Any) -> None:
    started = time.thread_time()
    value_flaw(schema, value)
    assert time.thread_time() - started < SECONDS


def test_a_large_schema_of_simple_parts_is_taken() -> None:
    schema = {"properties": {f"p{n}": {"type": "string", "minLength": 1} for n in range(1000)}}
    assert len(json.dumps(schema)) < MAX_SCHEMA_BYTES
    assert schema_flaw(schema) is None
