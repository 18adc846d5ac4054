"""The state model a second time, from its description alone (RULES.md, sections 2 to 6).

It shares no code with the service, so that what both get wrong in the same way had to be thought
wrong twice. `QUIRKS` are the peer's ways that the service does not follow: with all of them a run
answers as the peer's server was recorded to, with none as Interlock has to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

TERMINAL = frozenset({"CANCELLED", "COMPLETED", "FAILED", "CRASHED"})

MARKS_RESUMING_AFTERWARDS = "marks-resuming-afterwards"
"""Whoever leaves a pause, or tries to, is marked as resuming only after it was decided."""

QUIRKS = frozenset({MARKS_RESUMING_AFTERWARDS})


@dataclass(frozen=True, slots=True, repr=False)
class State:
    """A state, proposed or written. Times are seconds of whatever clock the caller has."""

    type: str
    name: str = ""
    scheduled: float | None = None
    pause_timeout: float | None = None
    pause_key: str | None = None
    pause_reschedule: bool = False
    result: bool = False
    retriable: bool = True
    cache_key: str | None = None
    cache_expiration: float | None = None
    refresh_cache: bool = False

    def __repr__(self) -> str:
        """Show only what is said of the state."""
        said = [f"{it.name}={value!r}" for it in fields(self) if (value := getattr(self, it.name))]
        return f"State({', '.join(said)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Do so in Hypothesis's reports, too."""
        printer.text(repr(self))

    def at(self, now: float) -> State:
        """Answer the state with its times, which count from `now`, as times of the clock."""

        def then(seconds: float | None) -> float | None:
            return None if seconds is None else now + seconds

        return replace(
            self,
            scheduled=then(self.scheduled),
            pause_timeout=then(self.pause_timeout),
            cache_expiration=then(self.cache_expiration),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided, why, and for WAIT how many seconds to wait."""

    status: str
    reason: str = ""
    delay: float | None = None


ACCEPT = Verdict("ACCEPT")


def reject(reason: str) -> Verdict:
    """The proposed state was not written."""
    return Verdict("REJECT", reason)


def abort(reason: str) -> Verdict:
    """Nothing was written."""
    return Verdict("ABORT", reason)


class Line(NamedTuple):
    """A line of a run's history. `proposal` is empty where the service made the id."""

    proposal: str
    status: str
    reason: str
    written: str
    """The type of the state that was written; empty: none."""


@dataclass(slots=True)
class Run:
    """A run of either kind, and all that its rules look at."""

    kind: str
    retries: int = 0
    retry_delay: float = 0
    deployment: bool = False
    infrastructure: bool = False
    parent: Run | None = None
    """Task runs: the flow run that it is part of. Flow runs: the task run that tracks it."""
    cache: dict[str, list[tuple[Run, State]]] = field(default_factory=dict)
    """What was remembered under each cache key, the newest last. All runs share it."""
    quirks: frozenset[str] = frozenset()

    state: State | None = None
    state_id: str = ""
    """The proposal that led to the state; empty where the service made the id."""
    version: int = 0
    history: list[Line] = field(default_factory=list)
    deleted: bool = False
    run_count: int = 0
    start_time: float | None = None
    end_time: float | None = None
    expected_start: float | None = None
    next_scheduled: float | None = None
    flow_run_run_count: int = 0
    resuming: bool = False
    pause_keys: frozenset[str] = frozenset()

    def create(self, first: State, now: float) -> None:
        """Write the first state, which no rule is asked about."""
        self.enter(first, now)
        self.remember("", ACCEPT, first)

    def propose(self, proposed: State, now: float, force: bool = False, id_: str = "") -> Verdict:
        """Decide about a proposal, and do what was decided."""
        was, before = self.state, replace(self)
        proposed = replace(proposed, name=proposed.name or proposed.type.capitalize())
        decide = self._flow_run_rules if self.kind == "flow_run" else self._task_run_rules
        verdict, written = decide(proposed, now, force)
        if verdict.status != "ACCEPT" and verdict.reason != "RETRYING":
            # What rules did to the run rested on a decision that did not come about.
            self.resuming, self.pause_keys = before.resuming, before.pause_keys
            self.run_count, self.flow_run_run_count = before.run_count, before.flow_run_run_count
        if verdict.status != "WAIT":
            self.history.append(
                Line(id_, verdict.status, verdict.reason, written.type if written else "")
            )
        if written is not None:
            self.enter(written, now, id_)
        if MARKS_RESUMING_AFTERWARDS in self.quirks and was is not None and not force:
            self.resuming |= self.kind == "flow_run" and was.type == "PAUSED" != proposed.type
        return verdict

    def resume(self, now: float, id_: str = "") -> Verdict:
        """Decide about a resume, and do what was decided."""
        if self.state is None or self.state.type != "PAUSED":
            self.remember(id_, verdict := abort("NOT_PAUSED"))
            return verdict
        if self.state.pause_reschedule:
            return self.propose(State("SCHEDULED", "Resuming", scheduled=now), now, id_=id_)
        return self.propose(State("RUNNING"), now, id_=id_)

    def remember(self, id_: str, verdict: Verdict, written: State | None = None) -> None:
        """Add a line to the history, unless it was to wait."""
        if verdict.status != "WAIT":
            wrote = "" if written is None else written.type
            self.history.append(Line(id_, verdict.status, verdict.reason, wrote))

    # --- section 3 ---

    def _flow_run_rules(
        self, proposed: State, now: float, force: bool
    ) -> tuple[Verdict, State | None]:
        current, to = self.state, proposed.type
        was = current.type if current else None

        throws_away = was == "COMPLETED" and current is not None and current.result
        if throws_away and to == "COMPLETED" and not proposed.result:
            return reject("RESULT_PERSISTED"), None
        nothing_runs = (was == "SCHEDULED" and not self.infrastructure) or (
            current is not None
            and (current.name == "Resuming" or (was == "PAUSED" and current.pause_reschedule))
        )
        cancelled = reject("NOTHING_RUNNING"), State("CANCELLED", "Cancelled")
        if force:
            return cancelled if to == "CANCELLING" and nothing_runs else (ACCEPT, proposed)

        if was in TERMINAL:
            if to in {"PAUSED", "CANCELLING", "CRASHED"}:
                return abort("RUN_FINISHED"), None
            if throws_away and to not in TERMINAL:
                return reject("RESULT_PERSISTED"), None
            if to == "SCHEDULED" and not self.deployment:
                return abort("NO_DEPLOYMENT"), None
            if to not in TERMINAL:
                self.resuming, self.pause_keys = False, frozenset()
        if was == "CANCELLING" and to != "CANCELLED":
            return reject("CANCELLING"), None
        if to == "CANCELLING" and nothing_runs:
            return cancelled
        if to == "PENDING" and was in {"PENDING", "RUNNING", "CANCELLING", "CANCELLED"}:
            assert current is not None
            if was != "PENDING" or proposed.name in {"Pending", current.name}:
                return abort("ALREADY_TAKEN"), None
            if proposed.scheduled is None:
                proposed = replace(proposed, scheduled=current.scheduled)
        if proposed.name == "Late" and to == "SCHEDULED" and current is not None:
            if was != "SCHEDULED":
                return reject("NOT_SCHEDULED"), None
            if current.name == "Late":
                return reject("ALREADY_LATE"), None
        if to == "PAUSED":
            if current is None:
                return abort("NO_STATE"), None
            if was != "RUNNING":
                return reject("NOT_RUNNING"), None
            if proposed.pause_key in self.pause_keys:
                return reject("PAUSE_FIRED"), None
            if proposed.pause_reschedule and self.parent is not None:
                return abort("SUBFLOW"), None
            if proposed.pause_reschedule and not self.deployment:
                return abort("NO_DEPLOYMENT"), None
            if proposed.pause_key is not None:
                self.pause_keys |= {proposed.pause_key}
        if was == "PAUSED":
            assert current is not None
            over = current.pause_timeout is not None and current.pause_timeout < now
            if to == "PENDING":
                return reject("NOT_RESUMABLE"), None
            if current.pause_reschedule and not self.deployment:
                return reject("NO_DEPLOYMENT"), None
            if over and to != "CANCELLING":
                return reject("PAUSE_EXPIRED"), State("FAILED", "Failed")
            self.resuming |= MARKS_RESUMING_AFTERWARDS not in self.quirks
        if wait := self._not_due(to, now):
            return wait, None
        if was == "RUNNING" and to == "FAILED" and 0 < self.run_count <= self.retries:
            self.resuming, self.pause_keys = False, frozenset()
            return reject("RETRYING"), self._awaiting_retry(proposed, now)
        return ACCEPT, self._with_scheduled_time(proposed)

    # --- section 4 ---

    def _task_run_rules(
        self, proposed: State, now: float, force: bool
    ) -> tuple[Verdict, State | None]:
        current, to, flow = self.state, proposed.type, self.parent
        was = current.type if current else None
        if force:
            return ACCEPT, proposed

        if to == "RUNNING" and proposed.cache_key and not proposed.refresh_cache:
            for run, entry in reversed(self.cache.get(proposed.cache_key, [])):
                fresh = entry.cache_expiration is None or entry.cache_expiration > now
                if fresh and not run.deleted:
                    return reject("CACHED"), replace(entry, name="Cached")
        if was in TERMINAL and to in {"PAUSED", "CANCELLING", "CRASHED"}:
            return abort("RUN_FINISHED"), None
        if was == "COMPLETED" and current is not None and current.result:
            return reject("RESULT_PERSISTED"), None
        if was in TERMINAL and to not in TERMINAL:
            self.run_count = 0
            if to == "RUNNING" and flow and flow.run_count > self.flow_run_run_count:
                proposed = replace(proposed, name="Retrying")
        if to == "RUNNING" and flow is not None:
            state = flow.state
            if state is not None and state.type == "PAUSED":
                return reject("FLOW_PAUSED"), replace(state, name="NotReady", pause_key=None)
            if state is None or state.type != "RUNNING":
                return abort("FLOW_NOT_RUNNING"), None
        if wait := self._not_due(to, now):
            return wait, None
        fails = was == "RUNNING" and to == "FAILED" and proposed.retriable
        if fails and 0 < self.run_count <= self.retries:
            return reject("RETRYING"), self._awaiting_retry(proposed, now)
        if to == "RUNNING":
            if self.run_count > 0:
                retrying = current is not None and current.name == "AwaitingRetry"
                proposed = replace(proposed, name="Retrying" if retrying else "Rerunning")
            if flow is not None:
                self.flow_run_run_count = flow.run_count
        proposed = self._with_scheduled_time(proposed)
        if to == "COMPLETED" and proposed.cache_key:
            self.cache.setdefault(proposed.cache_key, []).append((self, proposed))
        return ACCEPT, proposed

    # --- shared by both ---

    def _not_due(self, to: str, now: float) -> Verdict | None:
        current = self.state
        if to != "RUNNING" or current is None or current.type not in {"SCHEDULED", "PENDING"}:
            return None
        delay = round(current.scheduled - now) if current.scheduled is not None else 0
        return Verdict("WAIT", "NOT_DUE", delay) if delay > 0 else None

    def _with_scheduled_time(self, proposed: State) -> State:
        current = self.state
        if current is None or (current.type, proposed.type) != ("SCHEDULED", "PENDING"):
            return proposed
        due = current.scheduled if proposed.scheduled is None else proposed.scheduled
        return replace(proposed, scheduled=due)

    def _awaiting_retry(self, failed: State, now: float) -> State:
        due = now + self.retry_delay
        return State("SCHEDULED", "AwaitingRetry", scheduled=due, result=failed.result)

    # --- section 6 ---

    def enter(self, written: State, now: float, id_: str = "") -> None:
        """Write a state, and do to the run what it does."""
        was, to = (self.state.type if self.state else None), written.type
        due = now if written.scheduled is None else written.scheduled
        if to == "RUNNING":
            self.run_count += not (self.kind == "flow_run" and self.resuming and self.run_count > 0)
        if (to == "RUNNING" or to in TERMINAL) and self.start_time is None:
            self.start_time = now
        if to in TERMINAL:
            self.end_time = self.end_time if was in TERMINAL else now
        else:
            self.end_time = None
        self.resuming &= to != "RUNNING" and to not in TERMINAL
        self.next_scheduled = due if to == "SCHEDULED" else None
        if self.expected_start is None:
            self.expected_start = due if to == "SCHEDULED" else now
        self.state, self.state_id = written, id_
        self.version += 1
        if self.kind == "flow_run" and self.parent is not None and not self.parent.deleted:
            self.parent.enter(written, now)
            self.parent.remember("", Verdict("ACCEPT", "SUBFLOW_MOVED"), written)
