"""What can go wrong with a call, as exceptions: one class a gRPC status code.

The reason (`FLOW_RUN_NOT_FOUND`) is stable and meant for programs, the message for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from interlock.v1.error_pb2 import ItemError
    from interlock.v1.state_pb2 import Decision

DOMAIN = "interlock"
STATUS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing that is wrong with a request."""

    field: str
    """The path of the field within the request, such as `proposals[3].run_id`."""
    description: str
    """What is wrong with it."""
    reason: str = ""
    """The stable reason code, where there is one."""


class InterlockError(Exception):
    """A call failed. The subclasses are named for the gRPC status codes."""

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    """The gRPC status code."""
    reason: str
    """The stable reason code, such as `FLOW_RUN_NOT_FOUND`; empty where the failure did not come
    from Interlock itself (no connection, a proxy)."""
    message: str
    """What was wrong and what to do, in words for people."""
    field_violations: tuple[FieldViolation, ...]
    """What is wrong with the request, field by field."""
    retry_after: float | None
    """After how many seconds to try again; None: the server did not say that this helps."""
    resource_type: str
    """What kind of thing is missing or in the way, such as `flow_run`."""
    resource_name: str
    """Which one."""
    metadata: Mapping[str, str]
    """Further facts about the reason."""

    def __init__(
        self,
        message: str = "",
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        field_violations: Iterable[FieldViolation] = (),
        retry_after: float | None = None,
        resource_type: str = "",
        resource_name: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.message = message
        self.reason = reason
        self.field_violations = tuple(field_violations)
        self.retry_after = retry_after
        self.resource_type = resource_type
        self.resource_name = resource_name
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        parts = [f"{self.reason or self.code.name}: {self.message}"]
        said = [f"{v.field}: {v.description}" for v in self.field_violations]
        parts += [words for words in said if words not in self.message]
        return "; ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        # So that it survives the way back from a process pool; codes pickle by name.
        return (_rebuild, (type(self), {**self.__dict__}))


class InvalidArgument(InterlockError):
    """The request can not be right, whatever is stored; `field_violations` tells where."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(InterlockError):
    """There is no such thing, or it is deleted."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(InterlockError):
    """The id or name is taken, with other content."""

    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(InterlockError):
    """What is stored does not allow it."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(InterlockError):
    """Someone else was faster: read again, and decide again."""

    code = grpc.StatusCode.ABORTED


class OutOfRange(InterlockError):
    """A position is past the end, or belongs to a store that is gone."""

    code = grpc.StatusCode.OUT_OF_RANGE


class ResourceExhausted(InterlockError):
    """Too much at once: with `retry_after` for now, without it for one message."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(InterlockError):
    """The server could not be reached, or can not serve now."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(InterlockError):
    """No answer came in time; whether it was done is not known."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unauthenticated(InterlockError):
    """The server does not know who calls."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(InterlockError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Unimplemented(InterlockError):
    """This server does not know the call: it is older than the client."""

    code = grpc.StatusCode.UNIMPLEMENTED


class Cancelled(InterlockError):
    """The server cancelled the call."""

    code = grpc.StatusCode.CANCELLED


class Internal(InterlockError):
    """The server is at fault."""

    code = grpc.StatusCode.INTERNAL


class DataLoss(InterlockError):
    """What was stored can not be read."""

    code = grpc.StatusCode.DATA_LOSS


class TransitionRefused(InterlockError):
    """A run could not go on as its context manager proposed; `decision` tells what was decided."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    decision: Decision
    """The whole answer, the run's state after it included."""

    def __init__(self, decision: Decision) -> None:
        words = decision.explanation or f"the transition was refused by the rule {decision.rule!r}"
        now = f"the run is {decision.state.name}" if decision.HasField("state") else "no state yet"
        super().__init__(f"{words} ({now})", reason=decision.reason)
        self.decision = decision


class TransitionRejected(TransitionRefused):
    """REJECT: the run is in another state than the proposed one."""


class TransitionAborted(TransitionRefused):
    """ABORT: nothing was written, and proposing this again will not help."""


class RunStopped(InterlockError):
    """A run was told to stop, as the answer to a heartbeat: see `AsyncClient.flow_run`.

    `reason` is `CANCEL`, `SUPERSEDED`, `FINISHED` or `NOT_RUNNING`.
    """

    code = grpc.StatusCode.CANCELLED

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(f"the run {run_id} is to stop: {reason}", reason=reason)
        self.run_id = run_id


class RunSuspended(BaseException):
    """A flow run was suspended: what this process does for it is over until it is resumed.

    That is no failure: a block that it leaves reports nothing. It is no Exception, so that code
    which catches those lets it pass.
    """

    run_id: str
    """The flow run's id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"The flow run {run_id} is suspended; it goes on when it is resumed")
        self.run_id = run_id


_CLASSES: dict[grpc.StatusCode, type[InterlockError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Unauthenticated,
        PermissionDenied,
        Unimplemented,
        Cancelled,
        Internal,
        DataLoss,
    )
}
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc_error(error: grpc.RpcError) -> InterlockError:
    """Make an exception of a failed call, from its `google.rpc.Status` where it has one."""
    call: Any = error
    code = call.code() or grpc.StatusCode.UNKNOWN
    status = _status_of(call)
    if status is None or _CODES.get(status.code) is not code:
        return _make(code, call.details() or "")
    return from_status(status)


def from_status(status: status_pb2.Status) -> InterlockError:
    """Make an exception of a `google.rpc.Status`."""
    facts: dict[str, Any] = {}
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry, resource = error_details_pb2.RetryInfo(), error_details_pb2.ResourceInfo()
    for detail in status.details:
        try:
            if detail.Unpack(info) and info.domain == DOMAIN:
                facts |= {"reason": info.reason, "metadata": info.metadata}
            elif detail.Unpack(bad):
                facts["field_violations"] = [
                    FieldViolation(v.field, v.description, v.reason) for v in bad.field_violations
                ]
            elif detail.Unpack(retry):
                delay = retry.retry_delay
                facts["retry_after"] = max(0.0, delay.seconds + delay.nanos / 1e9)
            elif detail.Unpack(resource):
                facts["resource_type"] = resource.resource_type
                facts["resource_name"] = resource.resource_name
        except DecodeError:  # a detail that is malformed says nothing
            continue
    return _make(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, **facts)


def from_item(error: ItemError) -> InterlockError:
    """Make an exception of what went wrong with one item of a batch."""
    violations = [FieldViolation(error.field, error.message, error.reason)] if error.field else []
    code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    return _make(code, error.message, reason=error.reason, field_violations=violations)


def _make(code: grpc.StatusCode, message: str, **facts: Any) -> InterlockError:
    return _CLASSES.get(code, InterlockError)(message, code=code, **facts)


def _status_of(call: Any) -> status_pb2.Status | None:
    for key, value in call.trailing_metadata() or ():
        if key == STATUS_KEY:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _rebuild(kind: type[InterlockError], facts: dict[str, Any]) -> InterlockError:
    error = kind.__new__(kind, facts.get("message", ""))
    error.args = (facts.get("message", ""),)
    error.__dict__.update(facts)
    return error
