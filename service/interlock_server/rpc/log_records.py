"""Log records: the columns they come in, and the messages they go out as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import accumulate

from google.protobuf.message import DecodeError
from interlock import log_columns
from interlock.v1 import log_pb2 as pb

from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.logs.appends import LogBatch
from interlock_server.core.logs.merging import DamagedError, Joined
from interlock_server.rpc import fields
from interlock_server.rpc.limits import MAX_LOG_BATCH_RECORDS, MAX_LOG_MESSAGE_BYTES
from interlock_server.rules.states import Id, Micros
from interlock_server.storage.records import LEVELS

_FIRST_TIME, _LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999, which is what protobuf's times allow."""


def batch(producer_id: Id, request: pb.AppendLogsRequest) -> LogBatch:
    """Read a batch. Raises InvalidArgumentError."""
    run_id = fields.id_("run_id", request.run_id)
    if request.HasField("records"):
        made = _packed(producer_id, run_id, request.records)
        return replace(made, number=request.number, end_of_run=request.end_of_run)
    if not request.end_of_run:
        raise InvalidArgumentError("records", "A batch has records, or ends its run's log.")
    return LogBatch(producer_id, request.number, run_id, True)


def single_call(request: pb.WriteLogsRequest) -> LogBatch:
    """Read the records of one call: the only batch of its producer. Raises InvalidArgumentError."""
    id_ = fields.id_("id", request.id)
    run_id = fields.id_("run_id", request.run_id)
    if not request.HasField("records"):
        raise InvalidArgumentError("records", "Records are required.")
    made = _packed(id_, run_id, request.records)
    content = blake2b(run_id.encode(), digest_size=16)
    content.update(made.packed)
    return replace(made, digest=content.digest())


def _packed(producer_id: Id, run_id: Id, columns: pb.LogColumns) -> LogBatch:
    """Read records as if they were all that a producer has."""
    count = len(columns.messages)
    if count > MAX_LOG_BATCH_RECORDS:
        raise InvalidArgumentError(
            "records.messages",
            f"The batch has {count:,} records; at most {MAX_LOG_BATCH_RECORDS:,} are taken.",
        )
    try:
        log_columns.validate(columns)
    except log_columns.MalformedColumns as error:
        raise InvalidArgumentError(f"records.{error.column}", f"{error}.") from None
    _check_lengths(columns)
    first_time, last_time = _times(columns)
    task_run_ids = [
        fields.id_(f"records.task_run_ids[{i}]", id_) for i, id_ in enumerate(columns.task_run_ids)
    ]
    # As they are kept, so that a filter finds them.
    columns.task_run_ids[:] = task_run_ids
    return LogBatch(
        producer_id,
        1,
        run_id,
        True,
        count,
        first_time,
        last_time,
        level_counts(columns, count),
        _task_runs_of(columns),
        columns.SerializeToString(),
    )


def _task_runs_of(columns: pb.LogColumns) -> tuple[Id, ...]:
    """Answer, once each, whose records there are: the table that leads to chunks names no other."""
    ids = columns.task_run_ids
    if not columns.task_run_indexes:
        return tuple(ids[:1])
    return tuple(dict.fromkeys(ids[i - 1] for i in sorted(set(columns.task_run_indexes)) if i))


def join(parts: Sequence[bytes]) -> Joined:
    """Join the records of chunks that follow each other. Raises DamagedError."""
    columns = []
    for place, part in enumerate(parts):
        try:
            read = pb.LogColumns.FromString(part)
            log_columns.validate(read)
        except (DecodeError, log_columns.MalformedColumns) as error:
            raise DamagedError(place, str(error)) from error
        columns.append(read)
    joined = log_columns.join(columns)
    return Joined(
        joined.SerializeToString(),
        tuple(len(part.messages) for part in columns),
        tuple(joined.task_run_ids),
    )


def _check_lengths(columns: pb.LogColumns) -> None:
    # A character takes at most 4 bytes: most messages need not be encoded to be measured.
    if max(map(len, columns.messages)) * 4 <= MAX_LOG_MESSAGE_BYTES:
        return
    for i, message in enumerate(columns.messages):
        if (size := len(message.encode())) > MAX_LOG_MESSAGE_BYTES:
            raise InvalidArgumentError(
                f"records.messages[{i}]",
                f"The message has {size:,} bytes of UTF-8; at most {MAX_LOG_MESSAGE_BYTES:,} are "
                "taken. Split it, and mark the parts in `continued`.",
            )


def _times(columns: pb.LogColumns) -> tuple[Micros, Micros]:
    base = fields.timestamp("records.base_time", columns.base_time)
    offsets = columns.time_offsets_us
    first = base + min(offsets) if offsets else base
    last = base + max(offsets) if offsets else base
    if first < _FIRST_TIME or last > _LAST_TIME:
        raise InvalidArgumentError(
            "records.time_offsets_us", "A record's time is out of range: years 1 to 9999."
        )
    return first, last


def level_counts(columns: pb.LogColumns, count: int) -> tuple[int, ...]:
    """Count the records of each class of levels, the one below the first of `LEVELS` first."""
    counts = [0] * (len(LEVELS) + 1)
    levels = Counter(columns.levels) or {log_columns.DEFAULT_LEVEL: count}
    for level, number in levels.items():
        counts[sum(map(level.__ge__, LEVELS))] += number
    return tuple(counts)


def parts(records: list[pb.LogRecord], max_bytes: int) -> list[list[pb.LogRecord]]:
    """Cut records into lists of about at most `max_bytes`, for messages of bounded size."""
    sizes = accumulate(record.ByteSize() for record in records)
    cut: dict[int, list[pb.LogRecord]] = {}
    for record, size in zip(records, sizes, strict=True):
        cut.setdefault(size // max_bytes, []).append(record)
    return list(cut.values())
