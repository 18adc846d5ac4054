"""The settings by name: what is known of each, and how its values may be shown."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from interlock_server.settings import PREFIX, About, Settings

MASK = "********"

Plain = str | int | float | bool
"""A value as TOML and JSON have it."""

PROFILE_VARIABLE = PREFIX + "PROFILE"
"""Names the profile of a command."""

OTHER_VARIABLES = {
    PROFILE_VARIABLE: "The profile to use, in place of the active one.",
    PREFIX + "TARGET": "The server that clients and commands talk to, as HOST:PORT.",
}
"""What else is read from the environment, without being a setting of the server."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as people know it."""

    field: str
    name: str
    older_names: tuple[str, ...]
    group: str
    description: str
    kind: str
    """What values it takes, in words."""
    default: str
    """The default in words."""
    secret: bool
    """Whether its value is never shown unless asked for."""

    def plain(self, value: object) -> Plain:
        """Answer a value of the setting, secrets in clear."""
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        return value if isinstance(value, int | float | bool) else str(value)

    def masked(self, value: object) -> Plain:
        """Answer a value as it may be shown: passwords are masked, whatever they stand in."""
        if self.secret:
            return MASK
        plain = self.plain(value)
        return _mask_url(str(plain)) if self.kind == _URL and plain else plain


_URL = "a URL"


def _mask_url(text: str) -> str:
    from interlock_server.storage.errors import UnusableDatabaseError
    from interlock_server.storage.urls import has_password, parse_url, show_url

    try:
        url = parse_url(text)
        # Where there is nothing to mask, people see what they wrote.
        return show_url(url) if has_password(url) else text
    except UnusableDatabaseError:
        # Who knows where in it a password is.
        return MASK


@cache
def all_settings() -> Mapping[str, Setting]:
    """Answer every setting by its field, in the order of their definition."""
    found = {}
    for field, info in Settings.model_fields.items():
        about = next(each for each in info.metadata if isinstance(each, About))
        default = "" if info.default is PydanticUndefined else _in_words(info.default)
        found[field] = Setting(
            field=field,
            name=PREFIX + field.upper(),
            older_names=about.older_names,
            group=about.group,
            description=info.description or "",
            kind=_kind(field),
            default=about.default or default,
            secret="SecretStr" in str(info.annotation),
        )
    return found


def find_setting(name: str) -> Setting | None:
    """Find a setting by its full name, its short one, or an older one; in capitals or not."""
    wanted = name.strip().upper()
    for setting in all_settings().values():
        if wanted in (setting.name, setting.field.upper(), *setting.older_names):
            return setting
    return None


_NEAR = 0.64
"""How much of two names has to be alike, of 1, for one to be a miss of the other."""


def nearest_names(name: str) -> list[str]:
    """Answer what a name that does not exist was perhaps to be, the likeliest first."""
    # All names begin alike: only what comes then tells them apart.
    wanted = name.strip().upper().replace("-", "_").removeprefix(PREFIX)
    known = {name.removeprefix(PREFIX): name for name in OTHER_VARIABLES}
    for setting in all_settings().values():
        for each in (setting.name, *setting.older_names):
            known[each.removeprefix(PREFIX)] = setting.name
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=_NEAR)
    likeness = [difflib.SequenceMatcher(None, each, wanted).ratio() for each in near]
    # Beside one that is all but the same, others would only distract.
    likely = [name for name, like in zip(near, likeness, strict=True) if like > likeness[0] - 0.1]
    return list(dict.fromkeys(known[each] for each in likely))


def or_of(names: list[str]) -> str:
    """Join names for a sentence: `A`, `A or B`, `A, B or C`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _in_words(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind(field: str) -> str:
    """Say what values a setting takes, from its JSON schema."""
    schema = Settings.model_json_schema()
    described = schema["properties"][field]
    options = [each for each in described.get("anyOf", [described]) if each.get("type") != "null"]
    (one,) = options
    if "$ref" in one:
        one = schema["$defs"][one["$ref"].rpartition("/")[2]]
    match one:
        case {"enum": choices}:
            return or_of(choices)
        case {"format": "path"}:
            return "a path"
        case {"format": "length"}:
            return "a length of time: 30d, 12h, or seconds; 0 for none"
        case {"type": "integer"}:
            return f"a whole number from {one['minimum']} to {one['maximum']}"
        case {"type": "number"}:
            return f"a number over 0, up to {one['maximum']:g}"
        case {"type": "boolean"}:
            return "true or false"
        case _:
            return _URL if field.endswith("_url") else "text"
