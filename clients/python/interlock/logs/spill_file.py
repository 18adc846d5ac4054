"""The file that keeps batches while the service is away: its format, not when it is used.

What it promises: what was appended comes back in the same order, whole, also to another process. A
tail that was torn, since its writer was killed while it wrote, is recognised and cut. While a
process has the file open no other can (where the system has advisory locks).

A header names the producer and `shift`; then each batch is a frame: its length, how many records it
holds, a checksum, and the batch as an AppendLogsRequest. A batch is sent under the number that it
has in the file less `shift`; one that then has none was delivered under an earlier producer's name.

It outlives the process, not the machine: nothing waits here until the disk has it. Not thread-safe.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from google.protobuf.message import DecodeError

from interlock.v1.log_pb2 import AppendLogsRequest

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # pragma: no cover: not everywhere
    flock = None  # type: ignore[assignment]

_MAGIC = b"ILKLOGS1"
_HEADER = struct.Struct(">8s16sqI")
"""Magic, the producer's id, the shift, and the checksum of what is before."""
_FRAME = struct.Struct(">III")
"""Length of the batch, its records, its checksum."""
_LONGEST = 64 * 1024 * 1024
"""No batch is as long: it would not fit a message."""


class SpillFileError(Exception):
    """A file that can not be used; the message says why, and what to do."""


class SpillFileInUse(SpillFileError):
    """A living process still delivers the file, or fills it."""


class Frame(NamedTuple):
    """A batch in the file."""

    request: AppendLogsRequest
    """With the number that it has in the file."""
    records: int
    size: int
    """In bytes."""


class SpillFile:
    """A file of batches, appended at the end and read from the front."""

    def __init__(self, path: str, descriptor: int, producer: str, shift: int) -> None:
        """Take over a file that is open, locked, and has a header; see `create` and `open`."""
        self.path = path
        self.producer = producer
        self.shift = shift
        self.size = _HEADER.size
        """How long the file is, in bytes."""
        self._descriptor = descriptor
        self._read_to = _HEADER.size

    @classmethod
    def create(cls, folder: str, producer: str, shift: int) -> SpillFile:
        """Make an empty file that only its owner can read. Raises OSError."""
        descriptor, path = tempfile.mkstemp(".spill", f"interlock-logs-{os.getpid()}-", folder)
        try:
            if flock is not None:
                flock(descriptor, LOCK_EX | LOCK_NB)
            file = cls(path, descriptor, producer, shift)
            file.identify(producer, shift)
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        return file

    @classmethod
    def open(cls, path: str) -> tuple[SpillFile, Contents]:
        """Open a file that another process has left, cut its torn tail, and tell what is in it.

        Raises OSError, SpillFileInUse, and SpillFileError where it is no such file.
        """
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            if flock is not None:
                try:
                    flock(descriptor, LOCK_EX | LOCK_NB)
                except BlockingIOError:
                    raise SpillFileInUse(
                        f"{path} is in use: the process that keeps its log records there lives, "
                        "and delivers them by itself."
                    ) from None
            header = _read(descriptor, 0, _HEADER.size)
            if len(header) < _HEADER.size or not header.startswith(_MAGIC):
                raise SpillFileError(f"{path} is no file of log records.")
            _, producer, shift, checksum = _HEADER.unpack(header)
            if checksum != zlib.crc32(header[:-4]):
                raise SpillFileError(f"{path} is damaged: its header can not be read.")
            file = cls(path, descriptor, str(UUID(bytes=producer)), shift)
            return file, file._survey()
        except BaseException:
            os.close(descriptor)
            raise

    def identify(self, producer: str, shift: int) -> None:
        """Say whose batches these are. Raises OSError."""
        self.producer, self.shift = producer, shift
        header = _HEADER.pack(_MAGIC, UUID(producer).bytes, shift, 0)[:-4]
        _write(self._descriptor, 0, header + zlib.crc32(header).to_bytes(4, "big"))

    def append(self, frames: Sequence[bytes]) -> None:
        """Append frames: all, or where that fails none. Raises OSError."""
        data = b"".join(frames)
        try:
            _write(self._descriptor, self.size, data)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def skip(self, size: int) -> None:
        """Go so many bytes on: what is there is in memory, too, and need not be read."""
        self._read_to += size

    def read(self) -> Frame:
        """Read the next batch. Raises OSError, and SpillFileError where it is damaged."""
        frame = self._frame_at(self._read_to)
        if frame is None:
            raise SpillFileError(f"{self.path} is damaged at byte {self._read_to:,}.")
        self._read_to += frame.size
        return frame

    def close(self) -> None:
        """Leave the file as it is, for another process."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Close and delete the file: all in it is delivered."""
        self.close()
        os.unlink(self.path)

    def _frame_at(self, start: int) -> Frame | None:
        head = _read(self._descriptor, start, _FRAME.size)
        if len(head) < _FRAME.size:
            return None
        length, records, checksum = _FRAME.unpack(head)
        if length > _LONGEST:
            return None
        data = _read(self._descriptor, start + _FRAME.size, length)
        if len(data) < length or zlib.crc32(data) != checksum or not length:
            return None
        try:
            request = AppendLogsRequest.FromString(data)
        except DecodeError:
            return None
        return Frame(request, records, _FRAME.size + length)

    def _survey(self) -> Contents:
        batches = records = last_number = 0
        while (frame := self._frame_at(self.size)) is not None:
            self.size += frame.size
            batches += 1
            records += frame.records
            last_number = frame.request.number
        torn = os.fstat(self._descriptor).st_size - self.size
        if torn:
            os.ftruncate(self._descriptor, self.size)
        return Contents(batches, records, last_number, torn)


class Contents(NamedTuple):
    """What is in a file that was left."""

    batches: int
    records: int
    last_number: int
    """The number that the last batch has in the file."""
    torn: int
    """How many bytes at its end were no whole batch, and were cut."""


def to_frame(request: AppendLogsRequest, number: int, records: int) -> bytes:
    """Pack a batch for the file, where it has this number; the request stays as it is."""
    numbered = AppendLogsRequest()
    numbered.CopyFrom(request)
    numbered.number = number
    data = numbered.SerializeToString()
    return _FRAME.pack(len(data), records, zlib.crc32(data)) + data


def _read(descriptor: int, start: int, length: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    parts = []
    while length and (part := os.read(descriptor, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _write(descriptor: int, start: int, data: bytes) -> None:
    os.lseek(descriptor, start, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
