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
    from interlock import states as states
    from interlock._async.client import AsyncClient as AsyncClient
    from interlock._async.runs import (
        AsyncFlowRunContext as AsyncFlowRunContext,
    )
    from interlock._async.runs import (
        AsyncTaskRunContext as AsyncTaskRunContext,
    )
    from interlock._async.tail import AsyncLogTail as AsyncLogTail
    from interlock._service_config import service_config as service_config
    from interlock._sync.client import Client as Client
    from interlock._sync.runs import (
        FlowRunContext as FlowRunContext,
    )
    from interlock._sync.runs import (
        TaskRunContext as TaskRunContext,
    )
    from interlock._sync.tail import LogTail as LogTail
    from interlock.errors import (
        Aborted as Aborted,
    )
    from interlock.errors import (
        AlreadyExists as AlreadyExists,
    )
    from interlock.errors import (
        Cancelled as Cancelled,
    )
    from interlock.errors import (
        DataLoss as DataLoss,
    )
    from interlock.errors import (
        DeadlineExceeded as DeadlineExceeded,
    )
    from interlock.errors import (
        FailedPrecondition as FailedPrecondition,
    )
    from interlock.errors import (
        FieldViolation as FieldViolation,
    )
    from interlock.errors import (
        InterlockError as InterlockError,
    )
    from interlock.errors import (
        Internal as Internal,
    )
    from interlock.errors import (
        InvalidArgument as InvalidArgument,
    )
    from interlock.errors import (
        NotFound as NotFound,
    )
    from interlock.errors import (
        OutOfRange as OutOfRange,
    )
    from interlock.errors import (
        PermissionDenied as PermissionDenied,
    )
    from interlock.errors import (
        ResourceExhausted as ResourceExhausted,
    )
    from interlock.errors import (
        TransitionAborted as TransitionAborted,
    )
    from interlock.errors import (
        TransitionRefused as TransitionRefused,
    )
    from interlock.errors import (
        TransitionRejected as TransitionRejected,
    )
    from interlock.errors import (
        Unauthenticated as Unauthenticated,
    )
    from interlock.errors import (
        Unavailable as Unavailable,
    )
    from interlock.errors import (
        Unimplemented as Unimplemented,
    )
    from interlock.ids import uuid7 as uuid7
    from interlock.logs import InterlockHandler as InterlockHandler
    from interlock.retry import RetryPolicy as RetryPolicy

_HOMES = {
    "AsyncClient": "_async.client",
    "AsyncFlowRunContext": "_async.runs",
    "AsyncLogTail": "_async.tail",
    "AsyncTaskRunContext": "_async.runs",
    "Client": "_sync.client",
    "FlowRunContext": "_sync.runs",
    "InterlockHandler": "logs",
    "LogTail": "_sync.tail",
    "RetryPolicy": "retry",
    "TaskRunContext": "_sync.runs",
    "service_config": "_service_config",
    "uuid7": "ids",
} | dict.fromkeys(
    (
        "Aborted",
        "AlreadyExists",
        "Cancelled",
        "DataLoss",
        "DeadlineExceeded",
        "FailedPrecondition",
        "FieldViolation",
        "InterlockError",
        "Internal",
        "InvalidArgument",
        "NotFound",
        "OutOfRange",
        "PermissionDenied",
        "ResourceExhausted",
        "TransitionAborted",
        "TransitionRefused",
        "TransitionRejected",
        "Unauthenticated",
        "Unavailable",
        "Unimplemented",
    ),
    "errors",
)

__all__ = [*sorted(_HOMES), "states"]


def __getattr__(name: str) -> Any:
    if name == "states":
        return import_module("interlock.states")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'interlock' has no attribute {name!r}")
    value = getattr(import_module(f"interlock.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
