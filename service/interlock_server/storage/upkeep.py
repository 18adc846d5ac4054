"""What keeps a database in good health, and how far it has come. Each dialect has its own way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from interlock_server.storage.errors import StorageError


class UpkeepError(StorageError):
    """What can not be done; nothing was changed. `reason` is a stable code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a piece of work has come: `done` of `total`, at `step`."""

    step: str
    done: int
    total: int


Report = Callable[[Advance], None]
"""Is told of each advance, by any thread. An exception that it raises breaks the work off."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What the database itself finds wrong with its structure."""

    check: str
    words: str


class Upkeep(Protocol):
    """The upkeep of one database."""

    writes_wait: bool
    """Whether nothing can be written while `vacuum` runs."""

    async def backup(self, path: Path, overwrite: bool, report: Report) -> int:
        """Copy the database as it is now into a file, while others write; answer its bytes.

        The file is there only when it is whole and was checked. Raises UpkeepError,
        UnavailableError.
        """

    async def vacuum(self, report: Report) -> None:
        """Give the room of deleted rows back, and help the planner. Raises UpkeepError too."""

    def structural_checks(self) -> tuple[str, ...]:
        """Name the checks of its own structure that the database has."""

    async def damage(self, check: str, limit: int) -> list[Damage]:
        """Run one of them; answer at most so many finds."""

    async def size(self) -> int:
        """Answer how many bytes the database takes on its disk."""
