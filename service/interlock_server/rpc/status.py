"""From errors to gRPC statuses: the one place where it is decided what a caller hears."""

from __future__ import annotations

from typing import Any

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from interlock_server.core.errors import CallError, InvalidArgumentError, NotFoundError
from interlock_server.storage.errors import (
    DeadlineError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)

DOMAIN = "interlock"
"""The domain of our reason codes in `google.rpc.ErrorInfo`."""

_RETRY_SOON, _RETRY_LATER = 0.1, 1.0
"""Seconds after which trying again may help: when a queue is full, when the database is away."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
log = structlog.get_logger(__name__)


class NotServingError(Exception):
    """The server does not serve now; the message says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def code_of(status: Status) -> grpc.StatusCode:
    """Answer a status's code in gRPC's enum."""
    return _CODES[status.code]


def status_of(error: BaseException) -> Status:
    """Say what a caller hears of an error. One that is not foreseen is logged whole."""
    match error:
        case CallError():
            return _call_status(error)
        case OverloadedError():
            return _status(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", str(error), _retry(_RETRY_SOON)
            )
        case DeadlineError():
            return _status(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", str(error))
        case NotServingError() | UnavailableError():
            return _status(
                grpc.StatusCode.UNAVAILABLE, error.reason, str(error), _retry(_RETRY_LATER)
            )
        case OutcomeUnknownError():
            return _status(
                grpc.StatusCode.UNAVAILABLE,
                "OUTCOME_UNKNOWN",
                "The connection to the database broke during the commit: the write may be there, "
                "or not. Send it again with the same id, or look before you repeat it.",
                _retry(_RETRY_LATER),
            )
    log.error("unforeseen_error", exc_info=error)
    return _status(
        grpc.StatusCode.INTERNAL, "INTERNAL", "The server failed; its log tells what happened."
    )


def _call_status(error: CallError) -> Status:
    details: list[Any] = []
    if isinstance(error, InvalidArgumentError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, NotFoundError):
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=error.kind, resource_name=error.name, description=error.message
            )
        )
    message = error.message
    if isinstance(error, InvalidArgumentError) and error.field:
        message = f"{error.field}: {message}"
    return _status(_CODES[error.code.value], error.reason, message, *details)


def _retry(seconds: float) -> error_details_pb2.RetryInfo:
    delay = Duration()
    delay.FromMicroseconds(round(seconds * 1_000_000))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def _status(code: grpc.StatusCode, reason: str, message: str, *details: Any) -> Status:
    status = Status(code=code.value[0], message=message)
    for detail in (error_details_pb2.ErrorInfo(domain=DOMAIN, reason=reason), *details):
        status.details.add().Pack(detail)
    return status
