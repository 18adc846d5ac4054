"""The settings of a command: what its options say, else the environment, else the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from interlock_server.settings import Settings


def read_settings(**options: Any) -> Settings:
    """Read the settings; an option that is None was not given. Raises a usage error."""
    from pydantic import ValidationError

    from interlock_server.settings import Settings

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [
            f"{_source(str(each['loc'][0]), given)}: {each['msg']}" for each in error.errors()
        ]
        raise click.UsageError("; ".join(problems)) from None


def _source(name: str, given: dict[str, Any]) -> str:
    return name if name in given else f"The environment variable INTERLOCK_{name.upper()}"
