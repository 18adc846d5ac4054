"""Which run the code that runs now belongs to: how a log record finds its run."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

RUN_LOGGER = "interlock.run"
"""Where the tracebacks of failed runs go: the one logger of ours whose records are shipped."""

flow_run_id: ContextVar[str] = ContextVar("interlock_flow_run_id", default="")
"""The id of the flow run that the current code is part of; empty: none."""

task_run_id: ContextVar[str] = ContextVar("interlock_task_run_id", default="")
"""The id of the task run that the current code is part of; empty: none."""

run_end_hooks: list[Callable[[str], None]] = []
"""Called with the id of a log's run once this process has nothing more to say about it."""


def run_ended(run_id: str) -> None:
    """Tell whoever ships logs that nothing more comes for this run."""
    for hook in tuple(run_end_hooks):
        hook(run_id)
