"""Recorded workflow runs, read into one model and played against a server.

`load` reads a file, `with_synthetic_starts` supplies times where it records none, and
`topological_order` says in which order its tasks can run.

`player.replay` plays what was read; gRPC is loaded only with it. Decided without any I/O: what is
done with a task (`script`), which task is due (`schedule`), how the run ends (`outcome`), what the
server should tell afterwards (`expectation`). The rest does it: `worker` and `proposer` through the
client, in this process or in others (`pool`, `worker_process`), and `readback` asks.
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
