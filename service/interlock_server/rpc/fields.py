"""Reading the fields of requests: each function checks one, and answers it in domain terms.

Each takes the field's path within the request first, and raises InvalidArgumentError with it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, MutableSequence
from typing import NoReturn

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from interlock.ids import uuid7

from interlock_server.core.errors import InvalidArgumentError
from interlock_server.rpc.limits import (
    DEFAULT_PAGE_SIZE,
    MAX_DURATION_SECONDS,
    MAX_FILTER_VALUES,
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    MAX_NAME_BYTES,
    MAX_PAGE_SIZE,
    MAX_TAGS,
)
from interlock_server.rules.states import Id, Micros

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_MICROS = 1_000_000

# The years 1 to 9999, which is what protobuf allows.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
LAST_TIME = _LAST_SECOND * _MICROS + _MICROS - 1


# --- ids and texts --------------------------------------------------------------------------------


def id_(field: str, text: str) -> Id:
    """Read an id that is required."""
    if _UUID.fullmatch(text):
        return text
    if not text:
        raise InvalidArgumentError(field, "An id is required.")
    if _UUID.fullmatch(lower := text.lower()):
        return lower
    raise InvalidArgumentError(
        field, f"{_shown(text)} is not a UUID in text form, such as {uuid7()}."
    )


def id_or_none(field: str, text: str) -> Id | None:
    """Read an id that may be empty."""
    return id_(field, text) if text else None


def id_or_new(field: str, text: str) -> Id:
    """Read an id, or make one where it is empty."""
    return id_(field, text) if text else uuid7()


def ids(field: str, texts: Iterable[str]) -> tuple[Id, ...]:
    """Read the ids of a filter."""
    return tuple([id_(f"{field}[{i}]", text) for i, text in enumerate(texts)])


def text(field: str, value: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Read a text that may be empty."""
    # A character takes at most 4 bytes: most texts need not be encoded to be measured.
    if len(value) * 4 > max_bytes and (size := len(value.encode())) > max_bytes:
        raise InvalidArgumentError(
            field, f"The text has {size:,} bytes of UTF-8; at most {max_bytes:,} are taken."
        )
    if "\x00" in value:
        raise InvalidArgumentError(
            field,
            f"The text has a NUL at character {value.index(chr(0))}; escape it or leave it out.",
        )
    return value


def name(field: str, value: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Read a text that is required."""
    if not value:
        raise InvalidArgumentError(field, "A value is required.")
    return text(field, value, max_bytes)


def texts(field: str, values: Iterable[str], max_bytes: int = MAX_NAME_BYTES) -> tuple[str, ...]:
    """Read the texts of a filter."""
    return tuple([text(f"{field}[{i}]", value, max_bytes) for i, value in enumerate(values)])


def check_filter(given: Message) -> None:
    """Check how many values the conditions of a filter have, all together."""
    lists = [value for _, value in given.ListFields() if isinstance(value, MutableSequence)]
    if (count := sum(map(len, lists))) > MAX_FILTER_VALUES:
        raise InvalidArgumentError(
            "filter",
            f"{count:,} values are given in all; at most {MAX_FILTER_VALUES:,} are taken.",
        )


def tags(field: str, values: Iterable[str]) -> tuple[str, ...]:
    """Read tags: sorted, each once."""
    found = {name(f"{field}[{i}]", value) for i, value in enumerate(values)}
    if len(found) > MAX_TAGS:
        raise InvalidArgumentError(field, f"{len(found)} tags are given; at most {MAX_TAGS} are.")
    return tuple(sorted(found))


def labels(field: str, values: Mapping[str, str]) -> dict[str, str]:
    """Read labels, sorted by key."""
    if len(values) > MAX_TAGS:
        raise InvalidArgumentError(
            field, f"{len(values)} labels are given; at most {MAX_TAGS} are."
        )
    return {
        name(f"{field} key", key): text(f"{field}[{_shown(key)}]", values[key])
        for key in sorted(values)
    }


# --- JSON -----------------------------------------------------------------------------------------

# A string that does not end goes to the end of the text: looked for again behind each quote in it,
# its end would take time that grows with the square of the text's length.
_JSON_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)


def json_text(field: str, value: str, default: str = "{}", max_bytes: int = MAX_JSON_BYTES) -> str:
    """Read JSON text, and answer it as it is: numbers, key order and spaces stay."""
    if not value:
        return default
    if value == "{}":
        return value
    text(field, value, max_bytes)
    depth = deepest = 0
    for character in _JSON_STRINGS.sub("", value):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    if deepest > MAX_JSON_DEPTH:
        raise InvalidArgumentError(
            field, f"The JSON is nested {deepest:,} deep; at most {MAX_JSON_DEPTH} are taken."
        )

    def refuse_constant(word: str) -> NoReturn:
        raise InvalidArgumentError(field, f"{word} is not JSON; use null or a string.")

    def refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
        keys = [key for key, _ in pairs]
        if len(keys) != len(set(keys)):
            (double, _), *_ = Counter(keys).most_common(1)
            raise InvalidArgumentError(
                field, f"The key {_shown(double)} stands twice in one object."
            )

    try:
        # Numbers stay text: they are not ours to read, and may be of any length.
        json.loads(
            value,
            parse_constant=refuse_constant,
            parse_int=str,
            parse_float=str,
            object_pairs_hook=refuse_duplicates,
        )
    except json.JSONDecodeError as error:
        raise InvalidArgumentError(field, f"The text is not JSON: {error}.") from None
    return value


# --- times and numbers ----------------------------------------------------------------------------


def timestamp(field: str, value: Timestamp) -> Micros:
    """Read a time, cut to microseconds."""
    if not (_FIRST_SECOND <= value.seconds <= _LAST_SECOND and 0 <= value.nanos < 1_000_000_000):
        raise InvalidArgumentError(
            field, "The time is out of range: years 1 to 9999, and nanos 0 to 999,999,999."
        )
    return value.seconds * _MICROS + value.nanos // 1000


def timestamp_or_none(field: str, message: object, attribute: str) -> Micros | None:
    """Read a time field of a message that may be unset."""
    if not message.HasField(attribute):  # type: ignore[attr-defined]
        return None
    return timestamp(f"{field}.{attribute}", getattr(message, attribute))


def duration(field: str, value: Duration) -> Micros:
    """Read a length of time that is not negative, cut to microseconds."""
    if value.seconds < 0 or value.nanos < 0:
        raise InvalidArgumentError(field, "The duration is negative.")
    if value.seconds > MAX_DURATION_SECONDS or value.nanos > 999_999_999:
        raise InvalidArgumentError(
            field, f"The duration is out of range: at most {MAX_DURATION_SECONDS:,} seconds."
        )
    return value.seconds * _MICROS + value.nanos // 1000


def number(field: str, value: int, largest: int, smallest: int = 0) -> int:
    """Read a number within bounds."""
    if not smallest <= value <= largest:
        raise InvalidArgumentError(
            field, f"{value:,} is out of range: {smallest:,} to {largest:,}."
        )
    return value


def page_size(value: int) -> int:
    """Read `page_size`; 0 stands for the default, and more than the limit is cut to it."""
    if value < 0:
        raise InvalidArgumentError("page_size", f"{value:,} is negative.")
    return min(value or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def version_or_none(field: str, etag: str) -> int | None:
    """Read an etag that may be empty."""
    if not etag:
        return None
    if not (etag.isascii() and etag.isdigit() and len(etag) < 19):
        raise InvalidArgumentError(field, f"{_shown(etag)} is no etag that this service has given.")
    return int(etag)


def mask(field: str, value: FieldMask, known: Iterable[str]) -> list[str]:
    """Read an update mask: at least one of the known paths."""
    paths, allowed = list(dict.fromkeys(value.paths)), list(known)
    for path in paths:
        if path not in allowed:
            raise InvalidArgumentError(
                field, f"{_shown(path)} can not be changed; these can: {', '.join(allowed)}."
            )
    if not paths:
        raise InvalidArgumentError(field, f"Name what to change: {', '.join(allowed)}.")
    return paths


def _shown(value: str) -> str:
    """Show a value in an error message, cut short."""
    return repr(value if len(value) <= 60 else value[:57] + "...")


# --- the other way --------------------------------------------------------------------------------


def to_timestamp(value: Micros) -> Timestamp:
    """Make protobuf's form of a time."""
    seconds, micros = divmod(value, _MICROS)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def fill_timestamp(message: Timestamp, value: Micros) -> None:
    """Set a time that is a part of another message."""
    seconds, micros = divmod(value, _MICROS)
    message.seconds = seconds
    message.nanos = micros * 1000


def to_timestamp_or_none(value: Micros | None) -> Timestamp | None:
    """Make protobuf's form of a time that may be unset."""
    return None if value is None else to_timestamp(value)


def to_duration(value: Micros) -> Duration:
    """Make protobuf's form of a length of time."""
    seconds, micros = divmod(value, _MICROS)
    return Duration(seconds=seconds, nanos=micros * 1000)
