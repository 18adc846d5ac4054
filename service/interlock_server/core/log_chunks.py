"""What a chunk of a log is: records as the columns they came in, compressed with zstd.

Bytes are squeezed before the commit pipeline sees them, so that no row lock is held meanwhile. A
chunk's records have consecutive ordinals, which stand in its row and not in its data, so that they
are free.
"""

from __future__ import annotations

import asyncio

import zstandard

from interlock_server.storage.records import LogChunk

_INLINE_BYTES = 32 * 1024
"""Up to this size compressing takes less time than handing the bytes to a thread."""


async def compress(packed: bytes) -> bytes:
    """Compress a batch's records, large ones off the event loop."""
    if len(packed) <= _INLINE_BYTES:
        return compress_now(packed)
    return await asyncio.to_thread(compress_now, packed)


def compress_now(packed: bytes) -> bytes:
    """Compress records on this thread."""
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(packed)


async def decompress(chunk: LogChunk) -> bytes:
    """Undo `compress`."""
    if chunk.raw_bytes <= 8 * _INLINE_BYTES:
        return decompress_now(chunk)
    return await asyncio.to_thread(decompress_now, chunk)


def decompress_now(chunk: LogChunk) -> bytes:
    """Undo `compress` on this thread. Raises zstandard.ZstdError."""
    # What a damaged head says of the size must not be believed: room would be made for it.
    if (size := zstandard.frame_content_size(chunk.data)) not in (chunk.raw_bytes, -1):
        raise zstandard.ZstdError(f"its frame is of {size} bytes, not {chunk.raw_bytes}")
    return zstandard.ZstdDecompressor().decompress(chunk.data, max_output_size=chunk.raw_bytes)
