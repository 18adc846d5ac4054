"""What a refused call told its caller, and tests of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

DOMAIN = "interlock"


@dataclass(frozen=True)
class Refusal:
    """A call's error in the terms of the contract."""

    code: grpc.StatusCode
    reason: str
    """The stable reason code; empty where the error carries none."""
    domain: str
    fields: tuple[str, ...]
    """The paths of the fields at fault."""
    message: str
    retry_after: float | None
    """After how many seconds trying again may help; None where nothing is said of it."""


def refusal_of(error: Any) -> Refusal:
    """Read a call's error."""
    status = rpc_status.from_call(error)
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    told_when = False
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
        detail.Unpack(bad)
        told_when |= detail.Unpack(retry)
    return Refusal(
        error.code(),
        info.reason,
        info.domain,
        tuple(violation.field for violation in bad.field_violations),
        error.details() or "",
        retry.retry_delay.ToTimedelta().total_seconds() if told_when else None,
    )


@contextmanager
def refused(code: grpc.StatusCode, reason: str, field: str | None = None) -> Iterator[None]:
    """Expect a call to be refused with a code, our reason and, if given, a field's path."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.domain, refusal.reason) == (code, DOMAIN, reason), refusal
    if field is not None:
        assert refusal.fields == (field,), refusal
