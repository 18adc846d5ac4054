"""The states of runs. All times are microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from interlock_server.rules.values import value

Micros = int
"""A time in microseconds since 1970-01-01 UTC, or a length of time in microseconds."""

Id = str
"""A UUID in canonical text form: 36 characters, lower case."""


class StateType(StrEnum):
    """What a state means to the service."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"


TERMINAL = frozenset(
    {StateType.CANCELLED, StateType.COMPLETED, StateType.FAILED, StateType.CRASHED}
)
NOT_TERMINAL = frozenset(StateType) - TERMINAL
ANY: frozenset[StateType | None] = frozenset({None, *StateType})
"""All types that a run may be in; None stands for a run that has no state yet."""

DEFAULT_NAMES = {type_: type_.capitalize() for type_ in StateType}
LATE = "Late"
AWAITING_RETRY = "AwaitingRetry"
RESUMING = "Resuming"
SUSPENDED = "Suspended"
CACHED = "Cached"
NOT_READY = "NotReady"
RETRYING = "Retrying"
RERUNNING = "Rerunning"


@value
@dataclass(frozen=True, slots=True)
class StateDetails:
    """Facts that belong to a state; see `StateDetails` in `protos/interlock/v1/state.proto`."""

    scheduled_time: Micros | None = None
    cache_key: str | None = None
    cache_expiration: Micros | None = None
    refresh_cache: bool = False
    pause_timeout: Micros | None = None
    pause_reschedule: bool = False
    pause_key: str | None = None
    run_input_keyset: str | None = None
    retriable: bool | None = None
    child_flow_run_id: Id | None = None
    trace_parent: str | None = None
    input_schema: str | None = None


NO_DETAILS = StateDetails()


@value
@dataclass(frozen=True, slots=True)
class ResultReference:
    """Where a run's result lies. A state with one has a persisted result."""

    storage_key: str
    storage_block_id: Id | None = None
    metadata: str | None = None


@value
@dataclass(frozen=True, slots=True)
class StateDraft:
    """A state that is proposed, or that a rule wants written."""

    type: StateType
    name: str
    message: str = ""
    details: StateDetails = NO_DETAILS
    result: ResultReference | None = None


@value
@dataclass(frozen=True, slots=True)
class State:
    """A state that was written. Its id is that of the proposal that led to it."""

    id: Id
    type: StateType
    name: str
    timestamp: Micros
    message: str = ""
    details: StateDetails = NO_DETAILS
    result: ResultReference | None = None


def deadline(state: State | None) -> Micros | None:
    """Answer when the service has to look at a state that nobody changes, None for never.

    What is scheduled is looked at once it is due, a pause when its time is over, and what is being
    cancelled from its beginning; how much patience is added is the looker's. What was cancelled is
    looked at once, since what is part of it is to be cancelled, too.
    """
    if state is None:
        return None
    match state.type:
        case StateType.SCHEDULED if state.name == DEFAULT_NAMES[StateType.SCHEDULED]:
            due = state.details.scheduled_time
            return state.timestamp if due is None else due
        case StateType.PAUSED:
            return state.details.pause_timeout
        case StateType.CANCELLING | StateType.CANCELLED:
            return state.timestamp
    return None
