"""What a pause asks for, and what it is given: JSON Schemas and JSON, without any I/O.

A schema is a mapping, as JSON Schema has it (`{"type": "boolean"}`), or a class that knows its own
(`model_json_schema()`, as models of pydantic do). What a run is resumed with comes back as values
of JSON for the one, and as an object of the class for the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from interlock import values


@runtime_checkable
class Model(Protocol):
    """A class whose objects can be read from JSON, and that tells by which schema."""

    def model_json_schema(self) -> dict[str, Any]:
        """Answer the JSON Schema of the class's objects."""

    def model_validate_json(self, json_data: str) -> Any:
        """Make an object of JSON text."""


@runtime_checkable
class _Dumps(Protocol):
    def model_dump_json(self) -> str: ...


class JsonText(str):
    """JSON that is written already: a schema or input that is sent as it is."""


Schema: TypeAlias = Mapping[str, Any] | Model | type | JsonText
"""A JSON Schema: a mapping, a class that is a `Model`, or JSON text."""

NOTHING: Final = object()
"""No input at all; None is the input `null`."""


def schema_text(schema: Schema) -> str:
    """Write a schema as JSON text."""
    if isinstance(schema, JsonText):
        return schema
    if isinstance(schema, Model):
        return values.json_text(schema.model_json_schema())
    if isinstance(schema, Mapping):
        return values.json_text(schema)
    raise TypeError(f"A schema is a mapping, or a class with model_json_schema(): not {schema!r}")


def value_text(value: Any) -> str:
    """Write input as JSON text."""
    if isinstance(value, JsonText):
        return value
    return value.model_dump_json() if isinstance(value, _Dumps) else values.json_text(value)


def read_value(schema: Schema, text: str) -> Any:
    """Read the JSON text that was given to a pause with this schema."""
    return schema.model_validate_json(text) if isinstance(schema, Model) else json.loads(text)
