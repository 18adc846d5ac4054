"""Recorded workflow runs, read into one model, to be played against a server.

`load` reads a file, `with_synthetic_starts` supplies times where it records none, and
`topological_order` says in which order its tasks can run.
"""

from interlock_server.replay.detect import load
from interlock_server.replay.graph import topological_order, validate, with_synthetic_starts
from interlock_server.replay.trace import (
    Attempt,
    Invocation,
    Outcome,
    Trace,
    TraceError,
    TraceTask,
)

__all__ = [
    "Attempt",
    "Invocation",
    "Outcome",
    "Trace",
    "TraceError",
    "TraceTask",
    "load",
    "topological_order",
    "validate",
    "with_synthetic_starts",
]
