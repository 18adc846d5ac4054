"""Python's values to the contract's, without any I/O: times, durations, JSON, states, policies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from interlock import text
from interlock.v1.deployment_pb2 import Deployment
from interlock.v1.flow_pb2 import Flow
from interlock.v1.flow_run_pb2 import FlowRun, FlowRunRetryPolicy
from interlock.v1.state_pb2 import (
    Proposal,
    ResultReference,
    StateDetails,
    StateDraft,
    StateType,
)
from interlock.v1.task_run_pb2 import TaskRun, TaskRunRetryPolicy

R = TypeVar("R")
T = TypeVar("T")

Seconds: TypeAlias = float | timedelta
"""A length of time: a number of seconds, or a timedelta."""

StateLike: TypeAlias = StateDraft | StateType.ValueType | str
"""A state to propose: a draft (see `interlock.states`), a type, or a type's word (`completed`)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(moment: datetime) -> Timestamp:
    """Convert a datetime, exact to the microsecond; one without a time zone is local time."""
    since = moment.astimezone(UTC) - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def duration(length: Seconds) -> Duration:
    """Convert a length of time, rounded to the microsecond; it must not be negative."""
    if not isinstance(length, timedelta):
        length = timedelta(seconds=length)
    if length < timedelta():
        raise ValueError(f"A duration must not be negative: {length!r}")
    return Duration(seconds=length.days * 86_400 + length.seconds, nanos=length.microseconds * 1000)


def total_seconds(length: Seconds) -> float:
    """Answer a length of time in seconds."""
    return length.total_seconds() if isinstance(length, timedelta) else length


def seconds(length: Duration) -> float:
    """Convert a duration to seconds."""
    return length.seconds + length.nanos / 1e9


def seconds_between(earlier: Timestamp, later: Timestamp) -> float:
    """Answer how many seconds lie between two times; negative if the order is the other one."""
    return later.seconds - earlier.seconds + (later.nanos - earlier.nanos) / 1e9


def json_text(value: Any) -> str:
    """Write JSON: integers stay exact, NaN and infinities are a ValueError.

    Lone surrogates become `\\udcXX`, which JSON can say.
    """
    written = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    try:
        written.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return written


def state_type(kind: StateType.ValueType | str) -> StateType.ValueType:
    """Answer the type that is meant by a type or by its word, such as `completed`."""
    if not isinstance(kind, str):
        return kind
    try:
        return StateType.Value(f"STATE_TYPE_{kind.upper()}")
    except ValueError:
        words = ", ".join(name.removeprefix("STATE_TYPE_") for name in StateType.keys()[1:])
        raise ValueError(f"There is no state type {kind!r}; there are {words}") from None


def draft(
    state: StateLike,
    *,
    name: str = "",
    message: str = "",
    details: StateDetails | None = None,
    result: ResultReference | None = None,
) -> StateDraft:
    """Make a state to propose, with a name and a message that the contract can carry.

    What is given beside a draft goes before what stands in it.
    """
    made = StateDraft()
    if isinstance(state, StateDraft):
        made.CopyFrom(state)
    else:
        made.type = state_type(state)
    made.name = text.state_name(name or made.name)
    made.message = text.state_message(message or made.message)
    if details is not None:
        made.details.CopyFrom(details)
    if result is not None:
        made.result.CopyFrom(result)
    return made


def proposal(
    run: FlowRun | TaskRun | str,
    state: StateDraft,
    *,
    proposal_id: str,
    force: bool = False,
    proposed_by: str = "",
) -> Proposal:
    """Make a proposal to move a run to a state."""
    return Proposal(
        id=proposal_id,
        run_id=id_of(run),
        state=state,
        force=force,
        proposed_by=text.proposer(proposed_by),
    )


def id_of(thing: Flow | Deployment | FlowRun | TaskRun | str) -> str:
    """Answer the id of a thing that is given itself, or by its id. Raises TypeError for another."""
    id_ = thing if isinstance(thing, str) else getattr(thing, "id", None)
    if not isinstance(id_, str):
        raise TypeError(f"{thing!r} is neither an id nor something that has one")
    return id_


def tags(words: Iterable[str]) -> list[str]:
    """Make tags that the contract can carry."""
    if isinstance(words, str):
        raise TypeError("Tags are a list of words, not one text")
    return [text.clean(word) for word in words]


def labels(pairs: Mapping[str, str] | None) -> dict[str, str]:
    """Make labels that the contract can carry."""
    return {text.clean(key): text.clean(value) for key, value in (pairs or {}).items()}


def flow_run_retries(
    retries: int, delay: Seconds, retry_crashes: bool = False
) -> FlowRunRetryPolicy | None:
    """Make a flow run's retry policy; None: it is never tried again."""
    if not retries:
        return None
    return FlowRunRetryPolicy(
        max_retries=retries, delay=duration(delay), retry_crashes=retry_crashes
    )


def task_run_retries(
    retries: int, delay: Seconds | Sequence[Seconds], jitter_factor: float
) -> TaskRunRetryPolicy | None:
    """Make a task run's retry policy; None: it is never tried again."""
    if not retries:
        return None
    delays = delay if isinstance(delay, Sequence) else [delay]
    return TaskRunRetryPolicy(
        max_retries=retries,
        delays=[duration(each) for each in delays],
        jitter_factor=jitter_factor,
    )


def maybe(convert: Callable[[T], R], value: T | None) -> R | None:
    """Convert a value that is given; None stays None."""
    return None if value is None else convert(value)


def given(**fields: Any) -> dict[str, Any]:
    """Answer the fields that are not None, in the order in which they are named."""
    return {name: value for name, value in fields.items() if value is not None}
