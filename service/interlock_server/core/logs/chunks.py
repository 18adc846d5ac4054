"""What a chunk of a log is: records as the columns they came in, compressed with zstd.

Bytes are squeezed before the commit pipeline sees them, so that no row lock is held meanwhile. A
chunk's records have consecutive ordinals, which stand in its row and not in its data, so that they
are free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

import zstandard

from interlock_server.core.errors import DamagedLogError
from interlock_server.storage.records import LogChunk

P = ParamSpec("P")
R = TypeVar("R")

_INLINE_BYTES = 32 * 1024
"""Up to this size compressing, or looking through records, takes about as little time as handing
the bytes to a thread."""


async def _by_size(size: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Work on so many bytes: on many off the event loop."""
    if size <= _INLINE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def compress(packed: bytes) -> bytes:
    """Compress a batch's records, large ones off the event loop."""
    return await _by_size(len(packed), compress_now, packed)


def compress_now(packed: bytes) -> bytes:
    """Compress records on this thread."""
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(packed)


async def unpacked(
    chunk: LogChunk, unpack: Callable[[LogChunk, bytes], R], threads: Executor | None = None
) -> R:
    """Decompress a chunk and look through its records, those of a large one off the event loop.

    Where that may take seconds, it is done in `threads` that nothing else needs. Raises
    DamagedLogError.
    """

    def work() -> R:
        return unpacked_now(chunk, unpack)

    if threads is None:
        return await _by_size(chunk.raw_bytes, work)
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def decompress_now(chunk: LogChunk) -> bytes:
    """Decompress records on this thread. Raises zstandard.ZstdError."""
    # What a damaged head says of the size must not be believed: room would be made for it.
    if (size := zstandard.frame_content_size(chunk.data)) not in (chunk.raw_bytes, -1):
        raise zstandard.ZstdError(f"its frame is of {size} bytes, not {chunk.raw_bytes}")
    return zstandard.ZstdDecompressor().decompress(chunk.data, max_output_size=chunk.raw_bytes)


def unpacked_now(chunk: LogChunk, unpack: Callable[[LogChunk, bytes], R]) -> R:
    """Decompress a chunk and look through its records on this thread. Raises DamagedLogError."""
    try:
        data = decompress_now(chunk)
    except zstandard.ZstdError as error:
        raise DamagedLogError(chunk) from error
    return unpack(chunk, data)
