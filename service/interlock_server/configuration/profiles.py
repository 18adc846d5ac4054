"""Profiles: named sets of settings, in one TOML file of the home folder.

    active = "default"

    [profiles.default]
    INTERLOCK_PORT = 4300

People may edit the file; what they write around our values stays. It may hold passwords, so only
its owner may read it. Any number of commands may change it at the same time: they take turns by a
lock, and put a whole new file in the place of the old one, so that a reader never sees half of it.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock_server.configuration.catalogue import Plain, find_setting

DEFAULT = "default"
"""The profile that is always there, and is active until another one is chosen."""

_FILE = "profiles.toml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_OTHERS = 0o077
"""The permissions of everybody but the owner."""


class ProfilesError(Exception):
    """The profiles can not be read, or not be changed as asked; the message says why."""


class UnknownProfileError(ProfilesError):
    """A profile that does not exist."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"There is no profile {name!r}; there are: {', '.join(sorted(known))}. "
            "`interlock profile create` makes one."
        )


@dataclass(frozen=True, slots=True)
class Profiles:
    """What the file says: each profile's keys, as they were written, and their values."""

    active: str = DEFAULT
    profiles: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {DEFAULT: {}})

    def get(self, name: str) -> Mapping[str, object]:
        """Answer a profile. Raises UnknownProfileError."""
        if name not in self.profiles:
            raise UnknownProfileError(name, self.profiles)
        return self.profiles[name]

    def check_deletable(self, name: str) -> None:
        """Make sure that a profile can be deleted. Raises UnknownProfileError, ProfilesError."""
        self.get(name)
        if name == DEFAULT:
            raise ProfilesError(
                f"The profile {DEFAULT} is always there. `interlock config unset` empties it."
            )
        if name == self.active:
            raise ProfilesError(
                f"The profile {name!r} is the active one: first choose another with "
                "`interlock profile use`."
            )


class ProfileStore:
    """The file. All methods raise ProfilesError where it can not be read or written."""

    def __init__(self, home: Path) -> None:
        self.path = home / _FILE

    def read(self) -> Profiles:
        """Read all profiles; a file that is not there has an empty default profile."""
        try:
            text = self.path.read_text("utf-8")
            found = tomllib.loads(text)
        except FileNotFoundError:
            return Profiles()
        except OSError as error:
            raise ProfilesError(f"{self.path} can not be read: {error.strerror}.") from None
        except ValueError as error:
            raise ProfilesError(f"{self.path} is not in the form TOML: {error}.") from None
        return _checked(found, self.path)

    def others_may_read(self) -> bool:
        """Tell whether other users of the machine may read what may be passwords."""
        try:
            return bool(self.path.stat().st_mode & _OTHERS)
        except OSError:
            return False

    def create(self, name: str, values: Mapping[str, object]) -> None:
        """Make a profile. Raises ProfilesError where it exists, or its name can not be one."""
        if not _NAME.fullmatch(name):
            raise ProfilesError(
                f"{name!r} can not be a profile's name: take up to 64 letters, digits, - and _."
            )
        with self._changing() as (document, before):
            if name in before.profiles:
                raise ProfilesError(f"There is a profile {name!r} already.")
            _table(document, name).update(values)

    def delete(self, name: str) -> None:
        """Delete a profile that is not active. Raises UnknownProfileError, ProfilesError."""
        with self._changing() as (document, before):
            before.check_deletable(name)
            del document["profiles"][name]

    def use(self, name: str) -> None:
        """Make a profile the active one. Raises UnknownProfileError."""
        with self._changing() as (document, before):
            before.get(name)
            document["active"] = name

    def set(self, name: str, values: Mapping[str, Plain]) -> None:
        """Put values, by the full names of their settings, into a profile.

        Raises UnknownProfileError.
        """
        with self._changing() as (document, before):
            before.get(name)
            table = _table(document, name)
            for key, value in values.items():
                first, *spare = keys_of(key, table) or [key]
                table[first] = value
                for other in spare:
                    del table[other]

    def unset(self, name: str, keys: Iterable[str]) -> None:
        """Remove settings, by their names or by the very keys that are written.

        Raises UnknownProfileError.
        """
        with self._changing() as (document, before):
            before.get(name)
            table = _table(document, name)
            for key in keys:
                for written in keys_of(key, table):
                    del table[written]

    @contextmanager
    def _changing(self) -> Iterator[tuple[Any, Profiles]]:
        """Give the document, to be changed, and what it says now; write it when all went well."""
        # Only who writes needs it.
        import tomlkit

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ProfilesError(f"{self.path} can not be written: {error.strerror}.") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.read()
            text = self.path.read_text("utf-8") if self.path.exists() else ""
            document = tomlkit.parse(text or _HEAD)
            yield document, before
            self._replace(tomlkit.dumps(document))
        finally:
            os.close(lock)

    def _replace(self, text: str) -> None:
        # Where the file is a link, what it leads to is replaced, not the link.
        path = self.path.resolve()
        try:
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{_FILE}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise ProfilesError(f"{path} can not be written: {error.strerror}.") from None


_HEAD = """\
# Interlock's profiles. `interlock config set` and `interlock profile` write here; so may you.
active = "default"

[profiles.default]
"""


def _checked(found: Mapping[str, Any], path: Path) -> Profiles:
    active, profiles = found.get("active", DEFAULT), found.get("profiles", {})
    if not isinstance(active, str):
        raise ProfilesError(f"In {path}, `active` has to be the name of a profile.")
    if not isinstance(profiles, dict) or not all(isinstance(e, dict) for e in profiles.values()):
        raise ProfilesError(f"In {path}, profiles have to be tables, as [profiles.{DEFAULT}].")
    return Profiles(active, {DEFAULT: {}} | profiles)


def _table(document: Any, name: str) -> Any:
    """Answer a profile's table in the document, made where it is not there."""
    import tomlkit

    profiles = document.setdefault("profiles", tomlkit.table(is_super_table=True))
    if name not in profiles:
        profiles[name] = tomlkit.table()
    return profiles[name]


def keys_of(key: str, table: Iterable[str]) -> list[str]:
    """Answer the keys that a setting is written under: by hand, that may be any of its names."""
    setting = find_setting(key)
    return [
        written
        for written in table
        if written == key or (setting is not None and find_setting(written) == setting)
    ]
