"""JSON Schema (draft 2020-12), for schemas and values that anyone may send.

A schema is a program that its sender wrote, so here it runs within bounds:

- A schema has `MAX_SCHEMA_BYTES`, a value `MAX_VALUE_BYTES`; how deep they are is the caller's to
  check.
- All that is checked `within` a budget takes no more than its seconds of processor time: every
  keyword and every error looks at the clock, and no keyword by itself takes longer than some
  milliseconds. Those that could are replaced (`uniqueItems`) or refused (`unevaluated...`).
- Patterns are those of RE2, whose time is linear in the text. It knows no look-around and no
  back references: a schema that asks for them is refused.
- A reference leads to another part of the same schema. Nothing is ever fetched.

As the draft has it, `format` is a note for people and is not checked.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Any

import re2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend
from jsonschema_specifications import REGISTRY as META_SCHEMAS
from referencing import Registry, Resource
from referencing.exceptions import CannotDetermineSpecification, Unresolvable
from referencing.jsonschema import DRAFT202012, UnknownDialect

MAX_SCHEMA_BYTES = 64 * 1024
MAX_VALUE_BYTES = 256 * 1024

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFUSED = ("unevaluatedItems", "unevaluatedProperties")
_MAX_DIGITS = 300
"""Of a number: it has to be one that a double can come near to."""
_ERRORS_LOOKED_AT = 20
_CAUSES_TOLD = 3
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a schema or a value. `path` tells where in it, such as `.items[2].name`"""

    path: str
    message: str


class TooSlow(Exception):
    """The budget is used up."""


# --- the budget -----------------------------------------------------------------------------------

_deadline: ContextVar[float] = ContextVar("deadline")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound the processor time that all checks of the block take together, in this thread."""
    token = _deadline.set(time.thread_time() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def _look_at_the_clock() -> None:
    if time.thread_time() > _deadline.get():
        raise TooSlow


# --- what is asked --------------------------------------------------------------------------------


def flaw_in_schema(text: str) -> Flaw | None:
    """Tell what keeps a JSON text from being a schema that can be used here; None: nothing.

    Raises TooSlow. Call it `within` a budget.
    """
    try:
        schema = _load(text)
        if flaw := _flaw(Draft202012Validator.META_SCHEMA, schema, META_SCHEMAS):
            return flaw
        _check_parts(schema)
        # What loops without consuming anything, or multiplies, does so on the smallest values, too.
        for value in (None, _Object()):
            _flaw(schema, value, Registry())
    except _Unfit as error:
        return error.flaw
    except RecursionError:
        return Flaw("", "The schema refers to itself without end.")
    return None


def flaw_in_value(schema: str, text: str) -> Flaw | None:
    """Tell why a JSON text does not meet a schema that has no flaw itself; None: it does.

    Raises TooSlow. Call it `within` a budget.
    """
    try:
        return _flaw(_load(schema), _load(text), Registry())
    except _Unfit as error:
        return error.flaw
    except RecursionError:
        return Flaw("", "The value is nested too deep to be checked.")


def _flaw(schema: Any, value: Any, registry: Registry[Any]) -> Flaw | None:
    errors = _Validator(schema, registry=registry).iter_errors(value)
    found = [*islice(errors, _ERRORS_LOOKED_AT)]
    if not found:
        return None
    # The outermost, the first one of these; where it has several causes, the likeliest of them.
    outermost = min(found, key=lambda error: len(error.absolute_path))
    error = best_match([outermost])
    words = error.message
    if causes := [*dict.fromkeys(cause.message for cause in error.context or ())]:
        words = f"{words}: {'; '.join(causes[:_CAUSES_TOLD])}"
    return Flaw(_path(error.absolute_path), f"{words}.")


def _path(parts: Iterable[str | int]) -> str:
    return "".join(
        f"[{part}]"
        if isinstance(part, int)
        else f".{part}"
        if part.isidentifier()
        else f"[{json.dumps(part)}]"
        for part in parts
    )


# --- what a schema may not have -------------------------------------------------------------------


class _Unfit(Exception):
    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.flaw = Flaw(path, message)


def _check_parts(schema: Any) -> None:
    """Look at all schemas within a schema: what they refer to, and what they ask for."""
    root = DRAFT202012.create_resource(schema)
    references: list[tuple[str, Any]] = []
    parts: dict[int, Any] = {}

    def visit(part: Resource[Any], resolver: Any) -> None:
        _look_at_the_clock()
        contents = part.contents
        if isinstance(contents, bool):
            return
        parts[id(contents)] = contents
        _check_keywords(contents)
        references.extend(
            (contents[keyword], resolver)
            for keyword in ("$ref", "$dynamicRef")
            if keyword in contents
        )
        for inner in part.subresources():
            visit(inner, resolver.in_subresource(inner))

    try:
        visit(root, Registry().resolver_with_root(root))
    except (UnknownDialect, CannotDetermineSpecification):
        raise _Unfit("", f"Only schemas of {_DIALECT} are taken.") from None
    for reference, resolver in references:
        _look_at_the_clock()
        try:
            found = resolver.lookup(reference).contents
        except Unresolvable:
            raise _Unfit(
                "", f"{reference!r} is no part of the schema itself; nothing is fetched."
            ) from None
        if not isinstance(found, bool) and id(found) not in parts:
            raise _Unfit("", f"{reference!r} refers to a place that is no schema.")


def _check_keywords(schema: dict[str, Any]) -> None:
    if schema.get("$schema", _DIALECT).rstrip("#") != _DIALECT:
        raise _Unfit("", f"{schema['$schema']!r} is not taken, only {_DIALECT} is.")
    for keyword in _REFUSED:
        if keyword in schema:
            raise _Unfit("", f"{keyword} is not taken; say the same with additionalProperties.")
    patterns = [schema["pattern"]] if "pattern" in schema else []
    for pattern in (*patterns, *schema.get("patternProperties", ())):
        _look_at_the_clock()
        try:
            _compiled(pattern)
        except re2.error as error:
            words = error.args[0] if error.args else "it can not be read"
            words = words.decode(errors="replace") if isinstance(words, bytes) else words
            raise _Unfit("", f"The pattern {pattern!r} is none that RE2 takes: {words}.") from None


# --- JSON, with short words for what is long ------------------------------------------------------
#
# The messages of errors quote values, and there may be many messages about one large value.


class _Object(dict[str, Any]):
    def __repr__(self) -> str:
        return "the object"


class _Array(list[Any]):
    def __repr__(self) -> str:
        shown = super().__repr__() if len(self) <= 10 else ""
        return shown if 0 < len(shown) <= 2 * _SHOWN_CHARACTERS else "the list"


class _Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        cut = len(self) > _SHOWN_CHARACTERS
        return json.dumps(self[: _SHOWN_CHARACTERS - 3] + "..." if cut else str(self))


def _load(text: str) -> Any:
    """Read JSON. Raises _Unfit for numbers that are too large to reckon with."""
    return _shortened(json.loads(text, parse_int=_integer, parse_float=_float))


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _Unfit("", f"The number {digits[:20]}... has more than {_MAX_DIGITS} digits.")
    return int(digits)


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise _Unfit("", f"The number {digits[:40]} is too large.")
    return number


def _shortened(value: Any) -> Any:
    match value:
        case dict():
            return _Object((_Text(key), _shortened(item)) for key, item in value.items())
        case list():
            return _Array(map(_shortened, value))
        case str():
            return _Text(value)
    return value


# --- the keywords ---------------------------------------------------------------------------------

Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 256 * 1024
_OPTIONS.never_capture = True


def _compiled(pattern: str) -> Any:
    # A lone surrogate, which JSON can say, matches nothing.
    return re2.compile(pattern.encode(errors="replace"), _OPTIONS)


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text.encode(errors="replace")) is not None


def _pattern(
    validator: Any, pattern: str, value: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    if validator.is_type(value, "string") and not _matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, properties: dict[str, Any], value: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    for pattern, part in properties.items():
        for key, item in value.items():
            _look_at_the_clock()
            if _matches(pattern, key):
                yield from validator.descend(item, part, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, part: Any, value: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, item in value.items():
        _look_at_the_clock()
        if key in known or any(_matches(pattern, key) for pattern in patterns):
            continue
        if part is False:
            yield ValidationError(f"There is no property {key!r}")
        else:
            yield from validator.descend(item, part, path=key)


def _unique_items(
    validator: Any, wanted: bool, value: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    if wanted and validator.is_type(value, "array") and len({*map(_key, value)}) < len(value):
        yield ValidationError(f"{value!r} has an item twice")


def _key(value: Any) -> object:
    """Answer what two JSON values have in common when they are equal, and only then."""
    match value:
        case bool():
            return ("boolean", value)
        case int() | float():
            # As text: numbers can be chosen so that their hashes collide.
            return ("number", str(int(value)) if value == int(value) else str(value))
        case dict():
            return ("object", frozenset((key, _key(item)) for key, item in value.items()))
        case list():
            return ("array", tuple(map(_key, value)))
    return value


def _bounded(keyword: Keyword) -> Keyword:
    def bounded(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        _look_at_the_clock()
        for error in keyword(validator, wanted, value, schema) or ():
            _look_at_the_clock()
            yield error

    return bounded


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        name: _bounded(keyword)
        for name, keyword in {
            **Draft202012Validator.VALIDATORS,
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional_properties,
            "uniqueItems": _unique_items,
        }.items()
    },
)
