"""The common model of a recorded workflow run, whatever system recorded it.

A `Trace` is one run of one workflow. Its tasks form a directed acyclic graph, and each task has
the attempts that were made at it, oldest first: a task that was retried has several, of which all
but the last failed in some way; a task that never ran (a parent of it failed, say) has none.

Times are seconds since the trace's start, durations are seconds. A time is what the source
recorded or what follows from two of its columns; where it recorded none, it is None, and
`interlock_server.replay.graph.with_synthetic_starts` can supply one that says that it is made up.
"""

from dataclasses import dataclass
from enum import StrEnum

_PROBLEM_LENGTH = 400
"""Longer ones quote something that is of no use at full length."""


class TraceError(ValueError):
    """A trace that can not be read, or that contradicts itself.

    Its text is one line: where (file and line, or file and JSON path), what is wrong there, and
    what to do about it.
    """

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(where, problem, remedy)
        self.where = where
        self.problem = (
            problem if len(problem) <= _PROBLEM_LENGTH else f"{problem[: _PROBLEM_LENGTH - 3]}..."
        )
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.remedy}"


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "COMPLETED"
    CACHED = "CACHED"
    """An earlier run's result was used: nothing was executed."""
    FAILED = "FAILED"
    """The task's own program, or the check of its result, said no."""
    CRASHED = "CRASHED"
    """What the task ran on gave way: evicted, held, refused by the scheduler."""
    CANCELLED = "CANCELLED"
    """Somebody, or the workflow system, stopped it."""
    UNFINISHED = "UNFINISHED"
    """The trace ends before the attempt does."""

    @property
    def state(self) -> tuple[str, str] | None:
        """Interlock's state type and name for this outcome; None where there was no end."""
        return _STATES[self]


_STATES: dict[Outcome, tuple[str, str] | None] = {
    Outcome.COMPLETED: ("COMPLETED", "Completed"),
    Outcome.CACHED: ("COMPLETED", "Cached"),
    Outcome.FAILED: ("FAILED", "Failed"),
    Outcome.CRASHED: ("CRASHED", "Crashed"),
    Outcome.CANCELLED: ("CANCELLED", "Cancelled"),
    Outcome.UNFINISHED: None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One program that ran inside an attempt.

    Its times are left out on purpose: they come from the clock of the machine that ran it, which
    in real traces is hours away from the clock of the attempt.
    """

    transformation: str
    """The program's logical name."""
    task_id: str | None
    """The abstract workflow's task that it carried out; None for helpers and scripts."""
    duration: float
    """Seconds."""
    exit_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a task."""

    outcome: Outcome
    duration: float
    """Seconds of execution: never negative; 0 for what never began to execute; until the end of
    the trace for what had not ended by then."""
    submitted: float | None = None
    started: float | None = None
    """None for what was never executed, and for sources that record no times."""
    ended: float | None = None
    exit_code: int | None = None
    """What the task's own program returned, also where a later check overruled it."""
    host: str | None = None
    message: str = ""
    """Why it ended as it did, where the outcome alone does not say."""
    logs: tuple[str, ...] = ()
    """The lines that it wrote, as far as the source kept them: standard output, then error."""
    invocations: tuple[Invocation, ...] = ()

    @property
    def has_times(self) -> bool:
        """Whether the source says when any of this happened."""
        return any(time is not None for time in (self.submitted, self.started, self.ended))


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTask:
    """One node of the workflow that was run."""

    id: str
    """Unique in its trace."""
    name: str
    """For people; several tasks may share one."""
    parents: tuple[str, ...] = ()
    """Ids of the tasks that had to end first, each once."""
    attempts: tuple[Attempt, ...] = ()
    """Oldest first; empty for a task that never ran."""
    kind: str = ""
    """The source's word for what sort of work this is (Pegasus: "compute", "stage-in-tx"...)."""
    abstract_tasks: tuple[str, ...] = ()
    """Ids of the tasks of the abstract workflow that were clustered into this one."""

    @property
    def outcome(self) -> Outcome | None:
        """The last attempt's outcome; None for a task that never ran."""
        return self.attempts[-1].outcome if self.attempts else None

    @property
    def retries(self) -> int:
        """How many attempts followed the first."""
        return max(0, len(self.attempts) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One recorded run of a workflow."""

    name: str
    source_format: str
    """The format's own name, with its version where it has one."""
    tasks: tuple[TraceTask, ...]
    """In the source's order, which need not respect the graph."""
    makespan: float
    """Seconds from the run's start to its end: as stated by the source, else the time of the last
    event that it recorded."""
    starts_are_synthetic: bool = False
    """True when times were made up from the graph and the durations."""
    notes: tuple[str, ...] = ()
    """What a reader of this trace should know: what was missing, assumed or mended."""

    @property
    def edge_count(self) -> int:
        """How many (parent, child) pairs the graph has."""
        return sum(len(task.parents) for task in self.tasks)

    @property
    def attempt_count(self) -> int:
        """How many attempts were made at all tasks together."""
        return sum(len(task.attempts) for task in self.tasks)
