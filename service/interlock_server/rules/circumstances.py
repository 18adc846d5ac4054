"""What an explanation of a run is made of: its state, how that came about, what is around it."""

from __future__ import annotations

from dataclasses import dataclass

from interlock_server.rules.frame import Verdict
from interlock_server.rules.overdue import PATIENCE, Patience
from interlock_server.rules.runs import FRESH, NEVER, Progress, RetryPolicy
from interlock_server.rules.states import Id, Micros, State


@dataclass(frozen=True, slots=True)
class Written:
    """How the run's state came to be: the line of its history."""

    verdict: Verdict
    rule: str = ""
    reason: str = ""
    explanation: str = ""
    proposed_by: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A proposal that changed nothing."""

    decided: Micros
    proposed_name: str
    verdict: Verdict
    reason: str
    explanation: str
    proposed_by: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """That a run is watched: when its last heartbeat came, and when it counts as dead."""

    last: Micros
    deadline: Micros


@dataclass(frozen=True, slots=True)
class Relative:
    """Another run that has to do with this one."""

    id: Id
    name: str
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that an explanation is made of."""

    id: Id
    state: State | None
    now: Micros
    is_task_run: bool = False
    progress: Progress = FRESH
    retry: RetryPolicy = NEVER
    created: Micros = 0
    patience: Patience = PATIENCE
    """How long the service lets a flow run stay in a state."""
    written: Written | None = None
    refused: tuple[Refused, ...] = ()
    """Proposals that were refused in this state, the newest first."""
    heartbeat: Heartbeat | None = None
    flow_run: Relative | None = None
    """Task runs: the flow run that it is part of."""
    failed_task_runs: tuple[Relative, ...] = ()
    """Flow runs: the first of its task runs that failed or crashed."""
    more_failed: bool = False
    """Flow runs: whether there are more of these."""
    cached_from: Id | None = None
    """Task runs that are Cached: the one that computed the result."""
