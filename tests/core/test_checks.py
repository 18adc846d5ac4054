"""What the checker sees in a chunk, without a database."""

from dataclasses import replace

from interlock import log_columns
from interlock.ids import uuid7
from interlock_server.core.checks import _wrong_in
from interlock_server.core.logs.chunks import compress_now, decompress_now
from interlock_server.rpc.maintenance_service import _contents
from interlock_server.storage.records import LogChunk


def test_a_flipped_bit_of_a_chunk_is_found_wherever_it_is() -> None:
    lines = [(n * 7, 20, "app", f"line {n * n} of a log", "", False) for n in range(20)]
    packed = log_columns.pack(lines).SerializeToString()
    data = compress_now(packed)
    levels = (0, 0, 20, 0, 0, 0)
    chunk = LogChunk(uuid7(), 0, 19, 0, 19 * 7, levels, len(packed), data, ())
    assert _wrong_in(chunk, _contents) == ""
    passed = []
    for place in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            spoilt = replace(chunk, data=bytes(flipped))
            if not _wrong_in(spoilt, _contents):
                passed.append((place, bit))
                # Some bits of a frame's head mean nothing to the reader.
                assert decompress_now(spoilt) == packed
    assert {place for place, _ in passed} <= {4}
