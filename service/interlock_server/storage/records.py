"""What the tables hold, as frozen dataclasses. Times are microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from interlock_server.rules.frame import Verdict
from interlock_server.rules.runs import FRESH, Progress, RetryPolicy
from interlock_server.rules.states import Id, Micros, State, StateType
from interlock_server.rules.values import value


class RunKind(StrEnum):
    """The two kinds of runs, which share their state model."""

    FLOW_RUN = "flow_run"
    TASK_RUN = "task_run"


@dataclass(frozen=True, slots=True)
class Flow:
    """A named program whose runs are tracked."""

    id: Id
    name: str
    tags: tuple[str, ...]
    labels: dict[str, str]
    created: Micros
    updated: Micros
    version: int = 1


@dataclass(frozen=True, slots=True)
class Deployment:
    """A flow as it is run somewhere: what its runs have in common."""

    id: Id
    flow_id: Id
    name: str
    tags: tuple[str, ...]
    labels: dict[str, str]
    created_by: str
    created: Micros = 0
    updated: Micros = 0
    version: int = 1

    @property
    def key(self) -> tuple[Id, str]:
        """What is unique beside the id."""
        return (self.flow_id, self.name)


@dataclass(frozen=True, slots=True)
class FlowRun:
    """One run of a flow."""

    id: Id
    flow_id: Id
    name: str
    retry: RetryPolicy
    parameters: str
    tags: tuple[str, ...]
    labels: dict[str, str]
    flow_version: str
    idempotency_key: str | None
    parent_task_run_id: Id | None
    infrastructure_pid: str
    created_by: str
    digest: bytes
    """Of the request that made it, so that its id is not taken for another's."""
    deployment_id: Id | None = None
    created: Micros = 0
    updated: Micros = 0
    version: int = 1
    state: State | None = None
    progress: Progress = FRESH


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One run of a task, in a flow run or by itself."""

    id: Id
    flow_run_id: Id | None
    task_key: str
    dynamic_key: str
    name: str
    retry: RetryPolicy
    inputs: str
    tags: tuple[str, ...]
    labels: dict[str, str]
    task_version: str
    digest: bytes
    """Of the request that made it, so that its id is not taken for another's."""
    created: Micros = 0
    updated: Micros = 0
    version: int = 1
    state: State | None = None
    progress: Progress = FRESH


@value
@dataclass(frozen=True, slots=True)
class RunFacts:
    """The part of a run, of either kind, that transitions read and write."""

    id: Id
    parent_id: Id | None
    """A flow run's flow; a task run's flow run."""
    digest: bytes
    version: int
    retry: RetryPolicy
    state: State | None
    progress: Progress
    deployment_id: Id | None = None
    """Flow runs: the deployment that it is a run of."""
    tracker_id: Id | None = None
    """Subflows: the task run in the parent flow run that follows it."""
    infrastructure_pid: str = ""
    """Flow runs: what carries the run; empty: nobody has said so."""

    def moved(self, state: State, progress: Progress) -> RunFacts:
        """Answer the run as it is once a state is written, with all that this does to it."""
        return RunFacts(
            self.id,
            self.parent_id,
            self.digest,
            self.version + 1,
            self.retry,
            state,
            progress,
            self.deployment_id,
            self.tracker_id,
            self.infrastructure_pid,
        )


@dataclass(frozen=True, slots=True)
class FlowRunInput:
    """What a flow run was given when it was resumed, as JSON text."""

    run_id: Id
    pause_key: str
    value: str
    proposed_by: str
    created: Micros


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A COMPLETED state of a task run that others find under its cache key."""

    state_id: Id
    run_id: Id
    cache_key: str
    created: Micros
    expiration: Micros | None


@value
@dataclass(frozen=True, slots=True)
class Transition:
    """One remembered proposal of a run: its history, and what a proposal sent again is answered."""

    id: Id
    run_id: Id
    decided: Micros
    verdict: Verdict
    rule: str
    reason: str
    explanation: str
    proposed_type: StateType
    proposed_name: str
    proposed_by: str
    force: bool
    digest: bytes
    """Of the proposal, so that its id is not taken for another's."""
    run_count: int
    state: State | None
    """The state that was written; None where none was."""
    answered_state_id: Id | None = None
    """Where none was written: the id of the state that the run stayed in."""
    version: int = 0
    """The run's version after the decision."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What is known of the life of a run that is watched by heartbeats."""

    run_id: Id
    attempt: int
    """The run count of the attempt that the heartbeats are of."""
    timeout: Micros
    """How long it counts as alive after a heartbeat."""
    heard: Micros
    """When the last heartbeat came."""
    deadline: Micros
    """Until when it counts as alive: an outage of the service gives it one more timeout."""


@dataclass(frozen=True, slots=True)
class Term:
    """Who of several servers does something, and when it last said so."""

    name: str
    holder: Id
    renewed: Micros


LEVELS = (10, 20, 30, 40, 50)
"""Where the classes of log levels begin: debug, info, warning, error, critical; below: trace."""


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where a run's log begins and ends, and how far its chunks are merged."""

    run_id: Id
    next_ordinal: int
    appended: Micros
    first_ordinal: int = 0
    """That of the oldest record that was not deleted."""
    small_chunks: int = 0
    """How many chunks came since the last merge that are smaller than one should be."""
    sealed_ordinal: int = 0
    """What is before it is in chunks that stay as they are."""


@dataclass(frozen=True, slots=True)
class LogProducer:
    """What one producer has delivered to one run's log."""

    producer_id: Id
    run_id: Id
    last_number: int
    closed: bool
    updated: Micros
    digest: bytes | None = None
    """Of the records of a single call, so that its id is not taken for another's."""


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Consecutive records of one run's log, packed and compressed (see `core.logs.chunks`)."""

    run_id: Id
    first_ordinal: int
    last_ordinal: int
    first_time: Micros
    last_time: Micros
    level_counts: tuple[int, ...]
    """How many records are of each class of `LEVELS`, the class below the first one first."""
    raw_bytes: int
    data: bytes
    task_run_ids: tuple[Id, ...]
    level: int = 0
    """0: as it came; above: how often its records were merged."""
    stored: Micros | None = None
    """When the last of its records came, by the database's clock; None: long ago."""


@dataclass(frozen=True, slots=True)
class ChunkOutline:
    """What it takes to know of a chunk to delete it."""

    first_ordinal: int
    last_ordinal: int
    raw_bytes: int
    stored: Micros | None
    task_runs: int
    """How many task runs lead to it."""

    @property
    def records(self) -> int:
        """How many records it has."""
        return self.last_ordinal - self.first_ordinal + 1

    def came_before(self, time: Micros) -> bool:
        """Answer whether all of its records came before a time."""
        return self.stored is None or self.stored < time
