"""Making small records quick to make."""

from __future__ import annotations

from dataclasses import field, fields, make_dataclass
from typing import TypeVar

T = TypeVar("T")


def value(cls: type[T]) -> type[T]:
    """Make the frozen dataclasses that every transition is made of as quick to make as others.

    A frozen one sets each field through `object.__setattr__`, which takes six times as long. The
    type checker sees to it that nobody changes one, so that nothing has to watch over it at run
    time.
    """
    plain = make_dataclass(
        cls.__name__,
        [
            (f.name, object, field(default=f.default, default_factory=f.default_factory))
            for f in fields(cls)  # type: ignore[arg-type]
        ],
    )
    del cls.__setattr__, cls.__delattr__
    setattr(cls, "__init__", vars(plain)["__init__"])  # noqa: B010
    return cls
