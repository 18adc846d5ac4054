"""The settings of a command: from its options, the environment, a profile, or the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from interlock_server.cli.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from interlock_server.configuration.profiles import ProfileStore
    from interlock_server.configuration.sources import Configuration
    from interlock_server.settings import Settings

_PROFILE = "interlock.profile"
"""Where the context keeps the profile that an option has named."""


def profile_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--profile`; what it says is heard by `read_configuration`."""

    def remember(context: click.Context, option: click.Parameter, name: str | None) -> None:
        if name is not None:
            context.meta[_PROFILE] = name

    return click.option(
        "--profile",
        metavar="NAME",
        expose_value=False,
        callback=remember,
        help="The profile to use, in place of the active one.  [env var: INTERLOCK_PROFILE]",
    )(command)


def chosen_profile() -> str | None:
    """Answer the profile that an option of this command, or of one above it, has named."""
    name: str | None = click.get_current_context().meta.get(_PROFILE)
    return name


def find_profile() -> tuple[ProfileStore, str]:
    """Answer where profiles are, and which one is to be changed, without judging what it says."""
    from interlock_server.configuration.sources import locate

    with refusals():
        return locate(chosen_profile())


def entries_of(store: ProfileStore, profile: str) -> Mapping[str, object]:
    """Answer what a profile says, by the keys that are written."""
    with refusals():
        return store.read().get(profile)


def read_settings(**options: Any) -> Settings:
    """Read the settings; an option that is None was not given. Raises a usage error."""
    return read_configuration(**options).settings


def read_configuration(**options: Any) -> Configuration:
    """Read the settings with all that is known of where they come from. Raises a usage error."""
    from interlock_server.configuration.sources import configure

    given = {name: value for name, value in options.items() if value is not None}
    with refusals():
        return configure(given, chosen_profile())


@contextmanager
def refusals() -> Iterator[None]:
    """End the command, in words, where a setting makes no sense or profiles are out of reach."""
    from interlock_server.configuration.profiles import ProfilesError, UnknownProfileError
    from interlock_server.configuration.sources import InvalidConfigurationError

    try:
        yield
    except (InvalidConfigurationError, UnknownProfileError) as error:
        raise click.UsageError(str(error)) from None
    except ProfilesError as error:
        raise click.ClickException(str(error)) from None


def warn_of_unknown(configuration: Configuration) -> None:
    """Point out, on stderr, what was perhaps to be a setting and is none."""
    for warning in configuration.warnings:
        click.echo(f"Warning: {warning}", err=True)


def quoted(value: object) -> str:
    """Write a value as a line of `NAME=VALUE` has it; nothing for none."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool | int | float) else f"'{safe(str(value))}'"
