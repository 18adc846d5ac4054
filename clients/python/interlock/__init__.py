"""Report runs to Interlock: the client, its log handler, and the generated stubs.

    from interlock import Client

    with Client() as client, client.flow_run("nightly") as run:
        with run.task("extract"):
            ...

What is named here is loaded when it is first used, so that importing `interlock` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock import states
    from interlock._async.client import AsyncClient
    from interlock._async.runs import AsyncFlowRunContext, AsyncTaskRunContext
    from interlock._async.search import AsyncLogSearch
    from interlock._async.tail import AsyncLogTail
    from interlock._async.watch import AsyncRunWatch
    from interlock._service_config import service_config
    from interlock._sync.client import Client
    from interlock._sync.runs import FlowRunContext, TaskRunContext
    from interlock._sync.search import LogSearch
    from interlock._sync.tail import LogTail
    from interlock._sync.watch import RunWatch
    from interlock.errors import (
        Aborted,
        AlreadyExists,
        Cancelled,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        FieldViolation,
        InterlockError,
        Internal,
        InvalidArgument,
        NotFound,
        OutOfRange,
        PermissionDenied,
        ResourceExhausted,
        RunStopped,
        RunSuspended,
        TransitionAborted,
        TransitionRefused,
        TransitionRejected,
        Unauthenticated,
        Unavailable,
        Unimplemented,
    )
    from interlock.ids import uuid7
    from interlock.logs import InterlockHandler
    from interlock.retry import RetryPolicy

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "AsyncFlowRunContext",
    "AsyncLogSearch",
    "AsyncLogTail",
    "AsyncRunWatch",
    "AsyncTaskRunContext",
    "Cancelled",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "FlowRunContext",
    "InterlockError",
    "InterlockHandler",
    "Internal",
    "InvalidArgument",
    "LogSearch",
    "LogTail",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "RetryPolicy",
    "RunStopped",
    "RunSuspended",
    "RunWatch",
    "TaskRunContext",
    "TransitionAborted",
    "TransitionRefused",
    "TransitionRejected",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "service_config",
    "states",
    "uuid7",
]

_HOMES = {
    "AsyncClient": "_async.client",
    "AsyncFlowRunContext": "_async.runs",
    "AsyncLogSearch": "_async.search",
    "AsyncLogTail": "_async.tail",
    "AsyncRunWatch": "_async.watch",
    "AsyncTaskRunContext": "_async.runs",
    "Client": "_sync.client",
    "FlowRunContext": "_sync.runs",
    "InterlockHandler": "logs",
    "LogSearch": "_sync.search",
    "LogTail": "_sync.tail",
    "RetryPolicy": "retry",
    "RunWatch": "_sync.watch",
    "TaskRunContext": "_sync.runs",
    "service_config": "_service_config",
    "uuid7": "ids",
}
"""The modules of what is not in `errors`."""


def __getattr__(name: str) -> Any:
    if name == "states":
        return import_module("interlock.states")
    if name not in __all__:
        raise AttributeError(f"module 'interlock' has no attribute {name!r}")
    value = getattr(import_module(f"interlock.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
