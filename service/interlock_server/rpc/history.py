"""Reading and answering requests for counts of runs by time and state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from interlock.v1 import history_pb2 as pb
from interlock.v1.state_pb2 import STATE_TYPE_UNSPECIFIED

from interlock_server.core.errors import InvalidArgumentError
from interlock_server.rpc import fields, states
from interlock_server.rpc.limits import MAX_HISTORY_BUCKETS
from interlock_server.rules.states import Micros
from interlock_server.storage.history_queries import Buckets, StateCount

_SECOND = 1_000_000

_LONGEST = 315_576_000_000 * _SECOND
"""What a Duration may have."""


def buckets(request: Any) -> Buckets:
    """Read which buckets a request asks for. Raises InvalidArgumentError."""
    start, end = _required(request, "start_time"), _required(request, "end_time")
    if not request.HasField("interval"):
        raise InvalidArgumentError("interval", "An interval is required: how long a bucket is.")
    interval = fields.duration("interval", request.interval)
    if interval < _SECOND:
        raise InvalidArgumentError("interval", "The interval has to be a second at least.")
    if end <= start:
        raise InvalidArgumentError("end_time", "The end has to come after the start.")
    number = -(-(end - start) // interval)
    if number > MAX_HISTORY_BUCKETS:
        enough = -(-(end - start) // (MAX_HISTORY_BUCKETS * _SECOND))
        raise InvalidArgumentError(
            "interval",
            f"That makes {number:,} buckets; at most {MAX_HISTORY_BUCKETS} are answered. Ask for "
            f"less time, or for an interval of {enough:,} seconds at least.",
        )
    made = Buckets(start, interval, number)
    if made.end > fields.LAST_TIME:
        raise InvalidArgumentError("end_time", "The last bucket would end after the year 9999.")
    return made


def _required(request: Any, field: str) -> Micros:
    if not request.HasField(field):
        raise InvalidArgumentError(field, "A time is required.")
    return fields.timestamp(field, getattr(request, field))


def _by_state(count: StateCount) -> tuple[str, str]:
    return count.state_type or "", count.state_name


def to_buckets(buckets: Buckets, counts: Iterable[StateCount]) -> list[pb.HistoryBucket]:
    """Make protobuf's form of all buckets, those without runs included."""
    answered = [
        pb.HistoryBucket(
            start_time=fields.to_timestamp(buckets.start + number * buckets.interval),
            end_time=fields.to_timestamp(buckets.start + (number + 1) * buckets.interval),
        )
        for number in range(buckets.number)
    ]
    for each in sorted(counts, key=_by_state):
        type_ = STATE_TYPE_UNSPECIFIED
        if each.state_type is not None:
            type_ = states.to_state_type(each.state_type)
        answered[each.bucket].counts.add(
            state_type=type_,
            state_name=each.state_name,
            count=each.count,
            total_estimated_run_time=fields.to_duration(min(each.run_time, _LONGEST)),
            total_lateness=fields.to_duration(min(each.lateness, _LONGEST)),
        )
    return answered
