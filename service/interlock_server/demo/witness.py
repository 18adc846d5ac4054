"""Writes down what a process reports as it reports it, to be compared with what the server keeps.

Two bystanders: a client that notes each answer, and a `logging` handler beside Interlock's own.
A worker of yours needs neither.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from interlock import Client, context
from interlock.v1 import (
    VERDICT_ACCEPT,
    VERDICT_WAIT,
    Decision,
    FlowRun,
    LogRecord,
    State,
    StateType,
    TaskRun,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class SeenState:
    """One entry of a run's history: a proposal, and the state that it led to."""

    proposal_id: str
    verdict: str
    type: str
    name: str
    message: str
    time_us: int
    """When the service wrote it, in microseconds since 1970."""

    def __str__(self) -> str:
        return f"{self.name} ({self.verdict}, proposal {self.proposal_id})"

    @classmethod
    def of(cls, proposal_id: str, verdict: Verdict.ValueType, state: State) -> SeenState:
        """Take what is to be compared from the contract's messages."""
        return cls(
            proposal_id,
            Verdict.Name(verdict).removeprefix("VERDICT_"),
            StateType.Name(state.type).removeprefix("STATE_TYPE_"),
            state.name,
            state.message,
            state.timestamp.ToMicroseconds(),
        )


@dataclass(slots=True)
class SeenLog:
    """The lines of one run: how many, and the digest of all that they say, in order."""

    lines: int = 0
    sha256: str = ""

    def add(self, time_us: int, level: int, logger: str, message: str) -> None:
        """Take in one line; its time is in microseconds since 1970."""
        said = repr((self.sha256, time_us, level, logger, message))
        self.sha256 = hashlib.sha256(said.encode("utf-8", "backslashreplace")).hexdigest()
        self.lines += 1

    def add_record(self, record: LogRecord) -> None:
        """Take in one line as the service hands it out."""
        self.add(record.time.ToMicroseconds(), record.level, record.logger, record.message)


@dataclass(slots=True)
class Seen:
    """States and logs by the id of the run, a flow run or a task run, that they belong to."""

    states: dict[str, list[SeenState]] = field(default_factory=dict)
    logs: dict[str, SeenLog] = field(default_factory=dict)

    def log(self, run_id: str) -> SeenLog:
        """Answer what is known of a run's log."""
        return self.logs.setdefault(run_id, SeenLog())

    def merge(self, others: Iterable[Seen]) -> None:
        """Take in what other processes have seen. Each run must be reported by one process."""
        for other in others:
            _join(self.states, other.states)
            _join(self.logs, other.logs)


class WitnessedClient(Client):
    """A client that notes what it was answered about the runs that it made and moved."""

    def __init__(self, target: str, seen: Seen, **options: Any) -> None:
        super().__init__(target, **options)
        self._seen = seen

    def create_flow_run(self, *arguments: Any, **options: Any) -> FlowRun:
        """See `Client`."""
        run = super().create_flow_run(*arguments, **options)
        self._note_first(run.id, run.state)
        return run

    def create_task_run(self, *arguments: Any, **options: Any) -> TaskRun:
        """See `Client`."""
        run = super().create_task_run(*arguments, **options)
        self._note_first(run.id, run.state)
        return run

    def set_flow_run_state(self, run: FlowRun | str, *arguments: Any, **options: Any) -> Decision:
        """See `Client`."""
        return self._note(run, super().set_flow_run_state(run, *arguments, **options))

    def set_task_run_state(self, run: TaskRun | str, *arguments: Any, **options: Any) -> Decision:
        """See `Client`."""
        return self._note(run, super().set_task_run_state(run, *arguments, **options))

    def _note_first(self, run_id: str, state: State) -> None:
        self._seen.states.setdefault(run_id, []).append(
            SeenState.of(state.id, VERDICT_ACCEPT, state)
        )

    def _note(self, run: FlowRun | TaskRun | str, decision: Decision) -> Decision:
        # WAIT leaves no trace in the history.
        if decision.verdict != VERDICT_WAIT:
            run_id = run if isinstance(run, str) else run.id
            self._seen.states.setdefault(run_id, []).append(
                SeenState.of(decision.proposal_id, decision.verdict, decision.state)
            )
        return decision


class WitnessHandler(logging.Handler):
    """Notes each record of a run, as `InterlockHandler` is to ship it."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record."""
        if run_id := context.task_run_id.get() or context.flow_run_id.get():
            time_us = int(record.created * 1_000_000)
            self._seen.log(run_id).add(time_us, record.levelno, record.name, self.format(record))


def _join(mine: dict[str, Any], theirs: Mapping[str, Any]) -> None:
    if twice := mine.keys() & theirs.keys():
        raise ValueError(f"Two processes have reported the same run: {sorted(twice)}")
    mine.update(theirs)
