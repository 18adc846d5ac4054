"""The facts of a run that rules look at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from interlock_server.rules.states import Micros, State
from interlock_server.rules.values import value


class RetryType(StrEnum):
    """How a run that waits to run again will be run."""

    IN_PROCESS = "in_process"
    """By the process that ran it before."""
    RESCHEDULE = "reschedule"
    """By whoever takes it next."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a run that fails is tried again.

    `delays` are microseconds before the first, second, ... retry, the last one repeating; none
    means at once. `jitter_factor` spreads a delay, see `task_runs.jittered`.
    """

    max_retries: int = 0
    delays: tuple[Micros, ...] = ()
    jitter_factor: float = 0.0
    retry_crashes: bool = False
    """Whether a run whose heartbeats cease is tried again as one that fails is."""

    def delay_before(self, retry: int) -> Micros:
        """Answer the delay before the given retry, the first being 1."""
        return self.delays[min(retry, len(self.delays)) - 1] if self.delays else 0


NEVER = RetryPolicy()


@value
@dataclass(frozen=True, slots=True)
class Progress:
    """What transitions have done to a run so far."""

    run_count: int = 0
    start_time: Micros | None = None
    end_time: Micros | None = None
    total_run_time: Micros = 0
    expected_start_time: Micros | None = None
    next_scheduled_start_time: Micros | None = None
    flow_run_run_count: int = 0
    """Task runs: the flow run's run count when this run last entered RUNNING."""
    resuming: bool = False
    """Flow runs: a resume was let through, so that the next RUNNING is no new run."""
    pause_keys: tuple[str, ...] = ()
    """Flow runs: the pauses that have fired in this attempt."""
    retry_type: RetryType | None = None
    """Flow runs: how the run will be run again, while it waits for that."""


FRESH = Progress()


@value
@dataclass(frozen=True, slots=True)
class ParentFlowRun:
    """What a task run's rules look at in the flow run that it is part of."""

    state: State | None
    run_count: int
