"""SQLite's upkeep: online backup, VACUUM, and its own checks of a file."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import aiosqlite

from interlock_server.storage.errors import UnavailableError
from interlock_server.storage.sqlite.event_order import begin_epoch
from interlock_server.storage.sqlite.file import DatabaseFile
from interlock_server.storage.upkeep import Advance, Damage, Report, UpkeepError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from interlock_server.storage.sqlite.database import SqliteDatabase

T = TypeVar("T")

_STEP_PAGES = 512
"""Pages that are copied between two looks at whether to go on: 2 MiB, some milliseconds."""


class SqliteUpkeep:
    """The upkeep of a SQLite database."""

    writes_wait = True

    def __init__(self, database: SqliteDatabase, file: DatabaseFile) -> None:
        self._database = database
        self._file = file

    # --- backup ---

    async def backup(self, path: Path, overwrite: bool, report: Report) -> int:
        """See `Upkeep.backup`.

        The copy is made from one read transaction, so it is the database at one moment, and
        writers, who go on in the write-ahead log, never make it start over.
        """
        self._file.check()
        try:
            self._refuse(path, overwrite)
        except OSError as error:  # a name too long, a folder that may not be looked into
            raise UpkeepError(
                "BACKUP_NOT_WRITABLE", f"{path} can not be written: {error.strerror}."
            ) from None
        with _temporary_beside(path) as temporary:
            if self._file.path is None:
                await self._copy_memory(temporary, report)
            else:
                await _in_thread(_copy_file, self._file.path, temporary, report)
            report(Advance("verify", 0, 1))
            await _in_thread(_finish, temporary)
            report(Advance("verify", 1, 1))
            return _put_in_place(temporary, path, overwrite)

    def _refuse(self, path: Path, overwrite: bool) -> None:
        if not path.parent.is_dir():
            raise UpkeepError("BACKUP_NOT_WRITABLE", f"There is no folder {path.parent}.")
        if not path.exists():
            return
        own = self._file.path
        if (
            own is not None
            and path.name.startswith(own.name)
            and any(
                Path(f"{own}{end}").exists() and path.samefile(f"{own}{end}")
                for end in ("", "-wal", "-shm", "-server")
            )
        ):
            raise UpkeepError("BACKUP_IS_DATABASE", f"{path} is the database itself.")
        if not overwrite or not path.is_file():
            raise _exists(path)

    async def _copy_memory(self, temporary: Path, report: Report) -> None:
        # There is one connection, and whoever uses it has the database: nobody writes meanwhile.
        async def copy(connection: Any) -> None:
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
            assert isinstance(driver, aiosqlite.Connection)
            with closing(_open(temporary)) as target:
                await driver.backup(target, pages=_STEP_PAGES, progress=_telling(report), sleep=0)

        await self._database.read(copy, timeout=600.0)

    # --- vacuum ---

    async def vacuum(self, report: Report) -> None:
        """See `Upkeep.vacuum`."""
        self._file.check()
        self._refuse_without_room()
        steps = ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
        for place, step in enumerate(steps):
            report(Advance(step, place, len(steps)))
            await _to_the_end(self._database.migrate(_executing(step)))
        report(Advance(steps[-1], len(steps), len(steps)))

    def _refuse_without_room(self) -> None:
        if (path := self._file.path) is None:
            return
        needed = 2 * path.stat().st_size
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise UpkeepError(
                "DISK_TOO_FULL",
                f"VACUUM needs up to {needed:,} bytes beside the database; {free:,} are free.",
            )

    # --- checks ---

    def structural_checks(self) -> tuple[str, ...]:
        """See `Upkeep.structural_checks`."""
        return ("integrity", "foreign keys")

    async def damage(self, check: str, limit: int) -> list[Damage]:
        """See `Upkeep.damage`."""
        if check == "integrity":
            asking = _asking(f"PRAGMA integrity_check({limit})")
            rows = await _to_the_end(self._database.migrate(asking))
            return [Damage(check, str(row[0])) for row in rows if row[0] != "ok"]
        rows = await _to_the_end(self._database.migrate(_asking("PRAGMA foreign_key_check")))
        return [
            Damage(check, f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there")
            for row in rows[:limit]
        ]

    async def size(self) -> int:
        """See `Upkeep.size`: the file and its write-ahead log."""
        path = self._file.path
        files = [] if path is None else [path, Path(f"{path}-wal")]
        return sum(file.stat().st_size for file in files if file.exists())


async def _to_the_end(work: Awaitable[T]) -> T:
    """Run a statement to its end, also when its caller is cancelled: others may write only then."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def _executing(statement: str) -> Callable[[Connection], None]:
    def execute(connection: Connection) -> None:
        connection.exec_driver_sql(statement).close()

    return execute


def _asking(statement: str) -> Callable[[Connection], list[Any]]:
    return lambda connection: list(connection.exec_driver_sql(statement).all())


# --- the file of a backup -------------------------------------------------------------------------


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """Make a file for its owner only, next to where it shall be; it is gone afterwards."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise UpkeepError(
            "BACKUP_NOT_WRITABLE", f"{path.parent} can not be written: {error.strerror}."
        ) from None
    try:
        yield temporary
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            Path(f"{temporary}{end}").unlink(missing_ok=True)


def _put_in_place(temporary: Path, path: Path, overwrite: bool) -> int:
    """Give the copy its name; answer its size."""
    if overwrite:
        temporary.replace(path)
    else:
        try:
            # Unlike a renaming, this never replaces a file that came about meanwhile.
            os.link(temporary, path)
        except FileExistsError:
            raise _exists(path) from None
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path.stat().st_size


def _exists(path: Path) -> UpkeepError:
    return UpkeepError(
        "BACKUP_EXISTS", f"{path} exists. Choose another name, or allow it with --overwrite."
    )


# --- on a thread of their own ---------------------------------------------------------------------


async def _in_thread(work: Callable[..., None], *arguments: Any) -> None:
    """Run work that looks, in its progress, whether its caller still waits for it."""
    cancelled = threading.Event()

    def go_on() -> None:
        if cancelled.is_set():
            raise _Cancelled

    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments, go_on))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait({working})
        raise
    except sqlite3.Error as error:
        raise _translated(error) from error


class _Cancelled(Exception):
    """The work is not wanted any more."""


def _translated(error: sqlite3.Error) -> UnavailableError | UpkeepError:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith("SQLITE_FULL"):
        return UpkeepError("DISK_TOO_FULL", "The disk of the backup is full.")
    return UnavailableError("DATABASE_IO_ERROR", f"{error}.")


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _telling(report: Report, go_on: Callable[[], None] | None = None) -> Any:
    def tell(status: int, remaining: int, total: int) -> None:
        if go_on is not None:
            go_on()
        report(Advance("copy", total - remaining, total))

    return tell


def _copy_file(source: Path, temporary: Path, report: Report, go_on: Callable[[], None]) -> None:
    with closing(_open(source)) as reading, closing(_open(temporary)) as writing:
        # The transaction begins with its first read; the copy sees what it sees.
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reading.backup(writing, pages=_STEP_PAGES, progress=_telling(report, go_on), sleep=0)
        reading.execute("ROLLBACK")


def _finish(temporary: Path, go_on: Callable[[], None]) -> None:
    """Make it one file without a log beside it, check it, and see that it is on the disk."""
    with closing(_open(temporary)) as copy:
        copy.set_progress_handler(_broken_off_by(go_on), 100_000)
        copy.execute("PRAGMA journal_mode = DELETE")
        begin_epoch(copy)
        found = [row[0] for row in copy.execute("PRAGMA quick_check(1)")]
    if found != ["ok"]:
        raise UpkeepError("BACKUP_DAMAGED", f"The copy is damaged, and was deleted: {found[0]}")
    with temporary.open("rb") as file:
        os.fsync(file.fileno())


def _broken_off_by(go_on: Callable[[], None]) -> Callable[[], int]:
    def stop() -> int:
        try:
            go_on()
        except _Cancelled:
            return 1
        return 0

    return stop
