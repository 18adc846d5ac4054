"""Which things a list is of, and in which order: plain data, the same for every kind of things.

A condition names a field of what is listed: mostly a column of its table (`filter_sql` knows the
others). All conditions are either met or not: a field that is not set meets none but `IsSet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from interlock_server.rules.states import Micros


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field has one of these values."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsSet:
    """The field has a value."""

    field: str


@dataclass(frozen=True, slots=True)
class Within:
    """The time in the field is not before `after`, and not after `before`; None is no bound."""

    field: str
    after: Micros | None
    before: Micros | None


@dataclass(frozen=True, slots=True)
class NameContains:
    """This text, which is folded already, is part of the folded name."""

    folded: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """It has any of these tags, or all of them."""

    tags: tuple[str, ...]
    all: bool = False


@dataclass(frozen=True, slots=True)
class HasTags:
    """It has any tag at all."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each of these is met."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these is met."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This one is not met."""

    part: Condition


Condition = OneOf | IsSet | Within | NameContains | Tagged | HasTags | AllOf | AnyOf | Not

EVERYTHING = AllOf(())


def demands(condition: Condition) -> Iterator[Condition]:
    """Answer conditions, none of them an AllOf, that are met all together just where this is."""
    if isinstance(condition, AllOf):
        for part in condition.parts:
            yield from demands(part)
    else:
        yield condition


def fields(condition: Condition) -> Iterator[str]:
    """Name the fields that a condition is about."""
    match condition:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from fields(part)
        case Not(part):
            yield from fields(part)
        case OneOf(field) | IsSet(field) | Within(field):
            yield field


Position = tuple[int | str, ...]
"""Where a page ended: the last row's values of the order's fields, the id at the end."""


@dataclass(frozen=True, slots=True)
class Order:
    """By which field, and which way; the id breaks ties, so that pages never overlap."""

    field: str
    descending: bool

    @property
    def by_id(self) -> bool:
        """Whether the id is all that it goes by."""
        return self.field == "id"

    def kinds(self) -> tuple[type, ...]:
        """Answer the types of a position's parts."""
        if self.by_id:
            return (str,)
        return (str if self.field == "name" else int, str)


BY_ID_DESC = Order("id", True)


@dataclass(frozen=True, slots=True)
class Query:
    """A page of things."""

    filter: Condition = EVERYTHING
    order: Order = BY_ID_DESC
    after: Position | None = None
    limit: int = 100
