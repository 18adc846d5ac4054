"""What an error of a call says beside its code."""

from __future__ import annotations

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

_DETAILS_KEY = "grpc-status-details-bin"


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The stable reason code; empty: there is none."""
    for detail in _status(error).details:
        info = ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def retry_delay_of(error: grpc.aio.AioRpcError) -> float | None:
    """After how many seconds trying again may help; None: nothing is said."""
    for detail in _status(error).details:
        info = RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.ToTimedelta().total_seconds())
    return None


def _status(error: grpc.aio.AioRpcError) -> Status:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            assert isinstance(value, bytes)
            return Status.FromString(value)
    return Status()
