"""States to propose, each made by the word for it: `states.failed("No such file")`."""

from __future__ import annotations

from datetime import datetime

from interlock.v1.state_pb2 import (
    STATE_TYPE_CANCELLED,
    STATE_TYPE_CANCELLING,
    STATE_TYPE_COMPLETED,
    STATE_TYPE_CRASHED,
    STATE_TYPE_FAILED,
    STATE_TYPE_PENDING,
    STATE_TYPE_RUNNING,
    STATE_TYPE_SCHEDULED,
    ResultReference,
    StateDetails,
    StateDraft,
    StateType,
)
from interlock.values import draft, timestamp

TERMINAL: frozenset[StateType.ValueType] = frozenset(
    (STATE_TYPE_CANCELLED, STATE_TYPE_COMPLETED, STATE_TYPE_FAILED, STATE_TYPE_CRASHED)
)
"""The types in which a run has ended."""


def scheduled(due: datetime | None = None, *, name: str = "", message: str = "") -> StateDraft:
    """The run is to begin at a time; None: now."""
    details = StateDetails(scheduled_time=timestamp(due)) if due else None
    return draft(STATE_TYPE_SCHEDULED, name=name, message=message, details=details)


def pending(message: str = "", *, name: str = "") -> StateDraft:
    """Someone has taken the run and prepares to run it."""
    return draft(STATE_TYPE_PENDING, name=name, message=message)


def running(message: str = "", *, name: str = "") -> StateDraft:
    """The run's code runs."""
    return draft(STATE_TYPE_RUNNING, name=name, message=message)


def cancelling(message: str = "", *, name: str = "") -> StateDraft:
    """The run is told to stop."""
    return draft(STATE_TYPE_CANCELLING, name=name, message=message)


def cancelled(message: str = "", *, name: str = "") -> StateDraft:
    """The run was stopped on request."""
    return draft(STATE_TYPE_CANCELLED, name=name, message=message)


def completed(
    message: str = "", *, name: str = "", result: ResultReference | None = None
) -> StateDraft:
    """The run ended well."""
    return draft(STATE_TYPE_COMPLETED, name=name, message=message, result=result)


def failed(message: str = "", *, name: str = "", retriable: bool | None = None) -> StateDraft:
    """The run's own code failed. `retriable=False`: do not try it again (task runs)."""
    details = None if retriable is None else StateDetails(retriable=retriable)
    return draft(STATE_TYPE_FAILED, name=name, message=message, details=details)


def crashed(message: str = "", *, name: str = "") -> StateDraft:
    """What carried the run died."""
    return draft(STATE_TYPE_CRASHED, name=name, message=message)
