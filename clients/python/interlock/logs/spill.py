"""The spill: what goes to a file while the service is away, and what is still to come from there.

What it promises: a batch is in the file before it is counted as kept; the file never grows beyond
its bound; it is deleted as soon as the service has all that is in it; and a disk that is full or
can not be written to is said once, from when on there is just no spill any more.

Two of its parts have masters of their own. What touches the file (`append`, `read`, `identify`) is
for whoever holds the outbox's collector. The counts are guarded by the queue's lock.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence

from interlock.logs.spill_file import Contents, Frame, SpillFile
from interlock.logs.stderr import say


class Spill:
    """Batches that found no place in memory."""

    def __init__(self, folder: str | os.PathLike[str] | None, max_bytes: int) -> None:
        """Make an empty one, without any file yet.

        Args:
            folder: where its file is to be; None: the user's folder for temporary files.
            max_bytes: how large the file may become; 0: there is no spill.
        """
        self.unread_batches = self.unread_records = 0
        """What is in the file and not in memory."""
        self.last_number = 0
        """The number that the last batch has in the file, or is about to have."""
        self.spilled_records = 0
        """How many records have gone to files so far."""
        self.is_full = False
        """Whether the bound was reached, and the file is not delivered yet."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._broken = False
        self._writing = False
        self._file: SpillFile | None = None

    @classmethod
    def of(cls, file: SpillFile, contents: Contents) -> Spill:
        """Take over a file that another process left, to be delivered."""
        spill = cls(os.path.dirname(file.path), 0)
        spill._file = file
        spill.unread_batches = contents.batches
        spill.unread_records = contents.records
        spill.last_number = contents.last_number
        return spill

    @property
    def path(self) -> str:
        """Where the file is; empty: there is none."""
        file = self._file
        return file.path if file is not None else ""

    @property
    def is_off(self) -> bool:
        """Whether nothing can be put into a file any more."""
        return self._max_bytes <= 0 or self._broken

    @property
    def takes(self) -> bool:
        """Whether more can be put into the file now."""
        return not self.is_off and not self.is_full

    # For whoever holds the collector

    def append(
        self, producer: str, shift: int, in_memory: Sequence[bytes], made: Sequence[bytes]
    ) -> bool:
        """Append frames: of batches that are sent from memory, and of those that are only here.

        False: the file does not take them, and is as before. Why is said, if it is the disk.
        """
        frames = [*in_memory, *made]
        try:
            file = self._file
            if (file.size if file else 0) + sum(map(len, frames)) > self._max_bytes:
                self.is_full = True
                return False
            if file is None:
                folder = os.fspath(self._folder or tempfile.gettempdir())
                file = SpillFile.create(folder, producer, shift)
            try:
                file.append(frames)
            except OSError:
                if self._file is None:
                    file.remove()
                raise
        except OSError as failure:
            self._broken = True
            say(f"log records can not be kept in a file, they stay in memory: {failure}")
            return False
        # Whatever is sent from memory is behind all that was to be read.
        file.skip(sum(map(len, in_memory)))
        self._file = file
        return True

    def read(self) -> Frame:
        """Read the next batch. Raises OSError, and SpillFileError where it is damaged."""
        assert self._file is not None
        return self._file.read()

    def identify(self, producer: str, shift: int) -> None:
        """Note in the file whose batches these are."""
        file = self._file
        if file is not None and (file.producer, file.shift) != (producer, shift):
            try:
                file.identify(producer, shift)
            except OSError as failure:
                say(f"{file.path} can not be delivered by another process: {failure}")

    # With the lock held

    def begin(self, last_number: int) -> int:
        """Append is about to be called, up to this number; answer what the last one was."""
        self._writing = True
        last, self.last_number = self.last_number, last_number
        return last

    def end(self, kept: bool, batches: int, records: int, last_number: int) -> None:
        """Append was called: count what is only in the file, or take the last number back."""
        self._writing = False
        if kept:
            self.unread_batches += batches
            self.unread_records += records
            self.spilled_records += records
        else:
            self.last_number = last_number

    def count_read(self, records: int) -> None:
        """A batch was read."""
        self.unread_batches -= 1
        self.unread_records -= records

    def give_up(self) -> int:
        """Leave the file as it is, and use none any more; answer how many records were to come."""
        lost, file = self.unread_records, self._file
        self.unread_batches = self.unread_records = 0
        self._broken = True
        self._file = None
        if file is not None:
            file.close()
        return lost

    def let_go(self, acknowledged: int) -> SpillFile | None:
        """Answer the file, to be removed, if all that is in it is acknowledged."""
        if self._writing or self.unread_batches or acknowledged < self.last_number:
            return None
        self.is_full = False
        file, self._file = self._file, None
        return file

    # The end

    def close(self, *, remove: bool = False) -> None:
        """Leave the file, if there is one, to another process; a child of a fork: to its parent."""
        file, self._file = self._file, None
        self._broken = True
        if file is not None:
            with contextlib.suppress(OSError):
                if remove:
                    file.remove()
                else:
                    file.close()
