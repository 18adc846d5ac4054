"""The file of a SQLite database: made for its owner only, and watched while it is in use."""

from __future__ import annotations

import os
from pathlib import Path

from interlock_server.storage.errors import UnavailableError, UnusableDatabaseError


class DatabaseFile:
    """The file of a database; `name` is None for one in memory.

    SQLite's own form of an address (`file:...`) is left to SQLite.
    """

    def __init__(self, name: str | None) -> None:
        self._path = None if name is None or name.startswith("file:") else Path(name)
        self._identity: tuple[int, int] | None = None

    @property
    def path(self) -> Path | None:
        """Where the file is; None where there is none, or SQLite alone knows."""
        return self._path

    def exists(self) -> bool:
        """Answer whether the database is there, as far as can be seen."""
        return self._path is None or self._path.exists()

    def create(self) -> None:
        """Make the file and its folder, unless they are there.

        Raises UnusableDatabaseError, also for a file that is there and can not be written.
        """
        if self._path is None:
            return
        if self._path.exists():
            if not os.access(self._path, os.W_OK):
                raise UnusableDatabaseError(
                    f"The database {self._path} can not be written by this user."
                )
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
        except OSError as error:
            raise UnusableDatabaseError(
                f"The database {self._path} can not be made: {error.strerror}."
            ) from None

    def remember(self) -> None:
        """Take what is there now for the database."""
        self._identity = self._look()

    def check(self) -> None:
        """Raise UnavailableError where another file is there now, or none.

        A file that was deleted or replaced could still be written, and all of it would be lost.
        """
        if self._identity is not None and self._look() != self._identity:
            raise UnavailableError(
                "DATABASE_MISSING",
                f"The database {self._path} was deleted or replaced under the running server. "
                "Put it back, or restart the server.",
            )

    def _look(self) -> tuple[int, int] | None:
        try:
            status = None if self._path is None else os.stat(self._path)
        except OSError:
            return None
        return None if status is None else (status.st_dev, status.st_ino)
