"""The history of the schema, as the folder `migrations/` of the repository tells it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from interlock_server.storage.errors import StorageError

BASE, HEAD = "base", "head"
"""The names of what is before the first revision, and of the newest one."""

_RELATIVE = re.compile(r"([+-])(\d{1,6})")
_RELEASE = re.compile(r"\d+(\.\d+)*")


class RevisionNotFoundError(StorageError):
    """A revision that this server does not know, or that lies the other way."""


class RevisionAmbiguousError(StorageError):
    """The beginning of several revisions' ids."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the schema's history."""

    id: str
    description: str
    compatible_from: str = ""
    """The oldest version of Interlock that can serve the schema after it."""
    required: bool = True
    """Whether this release needs it: false where it serves the schema before it just as well."""


def parse_version(text: str) -> tuple[int, ...]:
    """Read the numbers of a version; a pre-release counts as its release. Raises ValueError."""
    found = _RELEASE.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no version.")
    numbers = [int(part) for part in found.group().split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@cache
def server_version() -> str:
    """Answer the version of this server."""
    return version("interlock-server")


def folder() -> Path:
    """Answer where the revisions are: in the installed package, or in the repository."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


def alembic_config(**attributes: Any) -> Config:
    """Make the configuration with which Alembic finds the revisions; `env.py` sees the rest."""
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


class History:
    """The revisions in their order, the first one first."""

    def __init__(self, revisions: Sequence[Revision]) -> None:
        """Raises ValueError where a revision claims to be served by older servers than before it.

        What the ones before it have broken for old servers it does not mend.
        """
        self.revisions = tuple(revisions)
        self._places = {each.id: place for place, each in enumerate(revisions, 1)}
        for before, after in pairwise(revisions):
            if parse_version(after.compatible_from) < parse_version(before.compatible_from):
                raise ValueError(
                    f"Revision {after.id} says compatible_from {after.compatible_from}, but the "
                    f"one before it needs {before.compatible_from} already."
                )

    def knows(self, revision: str) -> bool:
        """Answer whether a revision is one of them; an empty one, standing for none, is."""
        return not revision or revision in self._places

    def place(self, revision: str) -> int:
        """Answer how many revisions are applied when the schema is at this one; 0 for none."""
        return self._places[revision] if revision else 0

    def at(self, place: int) -> str:
        """Answer the id of the revision at a place; empty at 0."""
        return self.revisions[place - 1].id if place else ""

    def get(self, revision: str) -> Revision:
        """Answer a revision that is known."""
        return self.revisions[self._places[revision] - 1]

    @property
    def head(self) -> str:
        """The newest revision."""
        return self.at(len(self.revisions))

    @property
    def needed(self) -> str:
        """The oldest revision whose schema this server can serve."""
        return next((each.id for each in reversed(self.revisions) if each.required), "")

    def serves(self, revision: str) -> bool:
        """Answer whether this server can serve a schema at a revision that is known."""
        if not revision or self.place(revision) < self.place(self.needed):
            return False
        return can_serve(self.get(revision).compatible_from)

    def resolve(self, text: str, current: str) -> str:
        """Find the revision that is meant, seen from the current one; empty stands for `base`.

        Raises RevisionNotFoundError, RevisionAmbiguousError.
        """
        if text == HEAD:
            return self.head
        if text == BASE:
            return ""
        if text in self._places:
            return text
        if step := _RELATIVE.fullmatch(text):
            return self._relative(text, int(step[1] + step[2]), current)
        found = [each.id for each in self.revisions if text and each.id.startswith(text)]
        if len(found) > 1:
            raise RevisionAmbiguousError(
                f"{text!r} is the beginning of several revisions: {', '.join(found)}."
            )
        if not found:
            known = ", ".join(each.id for each in self.revisions)
            raise RevisionNotFoundError(f"There is no revision {text!r}. There are: {known}.")
        return found[0]

    def _relative(self, text: str, step: int, current: str) -> str:
        place = self.place(current)
        if not 0 <= place + step <= len(self.revisions):
            above, below = len(self.revisions) - place, place
            raise RevisionNotFoundError(
                f"There is no revision {text} from {current or 'the empty schema'}: there are "
                f"{above} above it and {below} to take back."
            )
        return self.at(place + step)


def can_serve(compatible_from: str) -> bool:
    """Answer whether this server is new enough for a schema with this floor."""
    return parse_version(server_version()) >= parse_version(compatible_from)


def _revision(script: Script) -> Revision:
    return Revision(
        script.revision,
        (script.doc or "").splitlines()[0],
        script.module.compatible_from,
        getattr(script.module, "required", True),
    )


@cache
def history() -> History:
    """Read the history, once. Raises AttributeError for a revision without `compatible_from`."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return History([_revision(script) for script in reversed(list(scripts.walk_revisions()))])
