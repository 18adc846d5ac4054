"""Between the model's words and the contract's, and what of both is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from interlock.v1 import state_pb2

from tests.model.rules import Run, State

Seen = Mapping[str, Any]
"""What was seen of an answer or of a run. Times are seconds from when it was asked for."""


def draft(state: State) -> state_pb2.StateDraft:
    """A state to propose; its times are times of the clock, in seconds."""
    message = state_pb2.StateDraft(
        type=state_pb2.StateType.Value(f"STATE_TYPE_{state.type}"),
        name=state.name,
        details=state_pb2.StateDetails(
            scheduled_time=_timestamp(state.scheduled),
            pause_timeout=_timestamp(state.pause_timeout),
            pause_key=state.pause_key or "",
            pause_reschedule=state.pause_reschedule,
            cache_key=state.cache_key or "",
            cache_expiration=_timestamp(state.cache_expiration),
            refresh_cache=state.refresh_cache,
            retriable=None if state.retriable else False,
        ),
    )
    if state.result:
        message.result.storage_key = "results/1"
    return message


def duration(seconds: float) -> Duration:
    """A length of time in whole seconds."""
    return Duration(seconds=int(seconds))


def run_of_model(run: Run, now: float) -> Seen:
    """What is compared of the model's run."""
    state = run.state
    assert state is not None
    return {
        "run.state": [state.type, state.name],
        "run.run_count": run.run_count,
        "run.started": run.start_time is not None,
        "run.ended": run.end_time is not None,
        "run.expected_start_in": _from(run.expected_start, now),
        "run.next_scheduled_start_in": _from(run.next_scheduled, now),
        "run.flow_run_run_count": run.flow_run_run_count if run.kind == "task_run" else None,
    }


def run_of_service(run: Any, now: float) -> Seen:
    """What is compared of a run that the service answered."""
    return {
        "run.state": type_and_name(run.state),
        "run.run_count": run.run_count,
        "run.started": run.HasField("start_time"),
        "run.ended": run.HasField("end_time"),
        "run.expected_start_in": seconds(run, "expected_start_time", now),
        "run.next_scheduled_start_in": seconds(run, "next_scheduled_start_time", now),
        "run.flow_run_run_count": getattr(run, "flow_run_run_count", None),
    }


def status(verdict: int) -> str:
    """The model's word for a verdict."""
    return state_pb2.Verdict.Name(verdict).removeprefix("VERDICT_")  # type: ignore[arg-type]


def type_and_name(state: state_pb2.State) -> list[str]:
    """The model's words for a state."""
    return [state_pb2.StateType.Name(state.type).removeprefix("STATE_TYPE_"), state.name]


def seconds(message: Any, field: str, now: float) -> float | None:
    """How many seconds after `now` a message's timestamp is; None where it has none."""
    if not message.HasField(field):
        return None
    at: Timestamp = getattr(message, field)
    return at.ToMicroseconds() / 1e6 - now


def differing(one: Seen, other: Seen, within: float) -> list[str]:
    """Answer in which keys of one the other differs; times may be off by some seconds."""
    return [key for key in one if not _same(key, one[key], other.get(key), within)]


def _same(key: str, one: object, other: object, within: float) -> bool:
    is_time = key.endswith(("_in", "_seconds"))
    if is_time and isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= within
    return one == other


def _timestamp(at: float | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(round(at * 1e6))
    return stamp


def _from(at: float | None, now: float) -> float | None:
    return None if at is None else at - now
