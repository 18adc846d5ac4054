"""What is wrong with a call, in the terms of gRPC's status codes and of stable reason codes."""

from __future__ import annotations

from enum import Enum

from interlock_server.rules.states import Id
from interlock_server.storage.commands import CallerError
from interlock_server.storage.records import LogChunk, RunKind


class Code(Enum):
    """The status codes that callers' errors have, with gRPC's numbers."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    DATA_LOSS = 15


class CallError(CallerError):
    """An error that the caller made, or has to know of.

    `field` is the path of the field at fault in the request, where one is.
    """

    code: Code
    reason: str

    def __init__(self, message: str, *, field: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.reason = reason or self.reason


class InvalidArgumentError(CallError):
    """A field that can not be what it is."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    def __init__(self, field: str, message: str, *, reason: str = "") -> None:
        super().__init__(message, field=field, reason=reason)


class OutOfRangeError(CallError):
    """A place to go on from that is not, or no longer, to be had."""

    code = Code.OUT_OF_RANGE

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)


class NotFoundError(CallError):
    """A thing that is not there. `kind` and `name` say which one was looked for."""

    code = Code.NOT_FOUND

    def __init__(self, kind: str, name: str, *, reason: str = "", field: str = "") -> None:
        words = kind.replace("_", " ")
        message = f"There is no {words} {name}."
        if reason == "DELETED":
            message = f"The {words} {name} was deleted."
        super().__init__(message, field=field, reason=reason or f"{kind.upper()}_NOT_FOUND")
        self.kind = kind
        self.name = name


class DamagedLogError(CallError):
    """A chunk of a log that can not be read any more."""

    code = Code.DATA_LOSS
    reason = "LOG_DAMAGED"

    def __init__(self, chunk: LogChunk) -> None:
        super().__init__(
            f"The records {chunk.first_ordinal} to {chunk.last_ordinal} of the log of run "
            f"{chunk.run_id} are damaged in the database. Its operator can look for more: "
            "interlock server database check."
        )


class IdReusedError(CallError):
    """An id that came with other content before."""

    code = Code.ALREADY_EXISTS
    reason = "ID_REUSED"

    def __init__(self, id_: Id) -> None:
        super().__init__(
            f"The id {id_} was used before with other content. Give each request an id of its own."
        )


class EtagMismatchError(CallError):
    """A thing that has changed since its etag was read."""

    code = Code.ABORTED
    reason = "ETAG_MISMATCH"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"The {kind.replace('_', ' ')} {name} has changed. Read it again, then decide anew."
        )


class FlowHasRunsError(CallError):
    """A flow that is not deleted since it has runs."""

    code = Code.FAILED_PRECONDITION
    reason = "FLOW_HAS_RUNS"

    def __init__(self, flow_id: Id) -> None:
        super().__init__(
            f"The flow {flow_id} has runs. Delete them first, or set `force` to delete all of them."
        )


def run_not_found(kind: RunKind, run_id: Id, deleted: bool) -> NotFoundError:
    """Make the error for a run that is not there, or not there any more."""
    return NotFoundError(kind.value, run_id, reason="DELETED" if deleted else "")
