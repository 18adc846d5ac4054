"""The value of each setting: from a flag, else the environment, else the profile, else the default.

Each value keeps its source, so that what is wrong can be told with the place to mend it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from interlock_server.configuration.catalogue import (
    OTHER_VARIABLES,
    PROFILE_VARIABLE,
    Setting,
    all_settings,
    find_setting,
    nearest_names,
    or_of,
)
from interlock_server.configuration.profiles import ProfileStore
from interlock_server.settings import PREFIX, Settings

HOME_IN_PROFILE = (
    "The profiles lie in the home folder, so no profile can say where it is: set INTERLOCK_HOME in "
    "the environment."
)


class Source(StrEnum):
    """Where a value comes from. The first one that has a value counts."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    PROFILE = "profile"
    DEFAULT = "default"


class InvalidConfigurationError(Exception):
    """Values that can not be used. Its text has a line for each, `problems` has them one by one."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings that count, and how they came about."""

    settings: Settings
    sources: Mapping[str, Source]
    """The source of each setting, by its field."""
    profile: str
    """The profile in use."""
    store: ProfileStore
    warnings: tuple[str, ...] = ()
    """Names that look like settings and are none: what they were to say has no effect."""
    strangers: tuple[str, ...] = field(default=())
    """Variables that begin as ours do, and look like no setting: perhaps another program's."""


def configure(
    flags: Mapping[str, Any] | None = None,
    profile: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Configuration:
    """Find the value of each setting.

    `flags` are by field; `profile` is chosen by a flag, else by the environment, else it is the
    active one. Raises InvalidConfigurationError, ProfilesError.
    """
    environment = os.environ if environment is None else environment
    variables = EnvironmentSource(environment)
    found: dict[Source, Mapping[str, Any]] = {
        Source.FLAG: flags or {},
        Source.ENVIRONMENT: variables(),
    }
    store, profile = locate(profile, environment)
    found[Source.PROFILE], unknown_keys = _settings_of(store.read().get(profile))

    values: dict[str, Any] = {}
    sources = dict.fromkeys(all_settings(), Source.DEFAULT)
    for source in reversed(found):
        values |= found[source]
        sources |= dict.fromkeys(found[source], source)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise InvalidConfigurationError(
            [_problem(each, sources, profile) for each in error.errors()]
        ) from None
    near, strangers = _unknown_variables(environment)
    return Configuration(
        settings,
        sources,
        profile,
        store,
        warnings=(
            *variables.contradictions,
            *(f"The environment variable {_no_setting(name)}" for name in near),
            *(f"In the profile {profile!r}, {_no_setting(key)}" for key in unknown_keys),
        ),
        strangers=tuple(strangers),
    )


def locate(
    profile: str | None = None, environment: Mapping[str, str] | None = None
) -> tuple[ProfileStore, str]:
    """Answer where the profiles are, and which one is in use; it may not exist.

    Raises ProfilesError.
    """
    environment = os.environ if environment is None else environment
    # Where the profiles are is the one thing that no profile can say.
    variables = EnvironmentSource(environment)()
    home = Settings.model_validate({"home": variables["home"]} if "home" in variables else {})
    store = ProfileStore(home.home_folder)
    return store, profile or environment.get(PROFILE_VARIABLE) or store.read().active


class EnvironmentSource(EnvSettingsSource):
    """The environment, where settings may also have older names."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(Settings)
        variables = {name: text for name, text in environment.items() if text}
        self.contradictions: list[str] = []
        for setting in all_settings().values():
            for older in setting.older_names:
                text = variables.get(older)
                if text is not None and variables.setdefault(setting.name, text) != text:
                    self.contradictions.append(
                        f"The environment variables {setting.name} and {older} are one setting, "
                        "with two values: the first one counts."
                    )
        self.env_vars = {
            setting.name.lower(): variables[setting.name]
            for setting in all_settings().values()
            if setting.name in variables
        }


def check_value(setting: Setting, value: object) -> Any:
    """Answer a value in the setting's type. Raises InvalidConfigurationError in words."""
    try:
        return getattr(Settings.model_validate({setting.field: value}), setting.field)
    except ValidationError as error:
        words = "; ".join(_why(each, setting) for each in error.errors())
        raise InvalidConfigurationError([f"{setting.name} can not be set: {words}"]) from None


def unknown_name(name: str) -> str:
    """Say that a name is none of a setting, and what it was perhaps to be."""
    return f"{_no_setting(name)} `interlock config view --show-defaults` lists all."


def _settings_of(entries: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Sort a profile's entries into values by field, and keys that are of no use in a profile."""
    values: dict[str, object] = {}
    unknown = []
    for key, value in entries.items():
        setting = find_setting(key)
        if setting is None or setting.field == "home":
            unknown.append(key)
        else:
            values[setting.field] = value
    return values, unknown


def _unknown_variables(environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Find variables that look like a setting and are none: near misses, and others."""
    known = {name for s in all_settings().values() for name in (s.name, *s.older_names)}
    candidates = sorted(
        name
        for name in environment
        if name.upper().startswith(PREFIX) and name not in known and name not in OTHER_VARIABLES
    )
    near = [name for name in candidates if nearest_names(name)]
    return near, [name for name in candidates if name not in near]


def _no_setting(name: str) -> str:
    if (setting := find_setting(name)) is not None and setting.field == "home":
        return f"{name} has no effect. {HOME_IN_PROFILE}"
    nearest = nearest_names(name)
    return f"{name} is no setting{f'; did you mean {or_of(nearest)}?' if nearest else '.'}"


_FLAGS = {"database_connection_url": "--database"}
"""Flags that are not called as their setting is."""


def _problem(error: ErrorDetails, sources: Mapping[str, Source], profile: str) -> str:
    """Say which setting, from where, is wrong in what way, and what to do."""
    setting = all_settings()[str(error["loc"][0])]
    why = _why(error, setting)
    match sources[setting.field]:
        case Source.FLAG:
            flag = _FLAGS.get(setting.field, f"--{setting.field.replace('_', '-')}")
            return f"{flag}: {why}"
        case Source.ENVIRONMENT:
            return f"The environment variable {setting.name}: {why} Correct it, or unset it."
        case _:
            return (
                f"{setting.name} in the profile {profile!r}: {why} Correct it with "
                f"`interlock --profile {profile} config set {setting.name}=...`, or remove it with "
                "`config unset`."
            )


def _why(error: ErrorDetails, setting: Setting) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    given = "" if setting.secret else f"{error['input']!r} does not fit: "
    return f"{given}give {setting.kind}."
