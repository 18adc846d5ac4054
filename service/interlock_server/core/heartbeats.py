"""Heartbeats of runs, and the end of runs that have none any more.

A heartbeat changes no run: it has a row of its own. Who writes that row has locked the run, the
sender for reading, the reaper for writing, so that of a heartbeat and a verdict on the same run one
comes first and the other one knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from interlock.ids import uuid7

from interlock_server.core.errors import CallError, run_not_found
from interlock_server.core.terms import LOOPS, Session
from interlock_server.core.transitions import (
    SERVICE,
    Proposal,
    parent_of,
    record,
    transition_to,
)
from interlock_server.rules.heartbeats import (
    Advice,
    advice,
    crash,
    flow_run_lost,
    is_carried,
    task_run_lost,
)
from interlock_server.rules.states import Id, Micros, State, StateType
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.records import Heartbeat, RunFacts, RunKind

_BYTES = 300
"""What a heartbeat takes in memory, about."""

_LOST = {RunKind.FLOW_RUN: flow_run_lost, RunKind.TASK_RUN: task_run_lost}


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat: an attempt of a run lives, and does so for `timeout` to come."""

    kind: RunKind
    run_id: Id
    attempt: int
    timeout: Micros


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """The answer to a heartbeat."""

    advice: Advice
    state: State | None
    run_count: int
    deadline: Micros | None
    """Until when the run counts as alive; None: it is not watched."""


class SendHeartbeats:
    """Notes heartbeats of runs of both kinds; each is answered by itself, in order."""

    command_class = CommandClass.URGENT
    replayable = True
    exclusive = False

    def __init__(self, beats: Sequence[Beat]) -> None:
        self._beats = beats
        self.weight = len(beats)
        self.size = _BYTES * len(beats)

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        for beat in self._beats:
            needs.runs_to_read[beat.kind].add(beat.run_id)

    def decide(self, facts: Facts) -> list[BeatAnswer | CallError]:
        """Answer each heartbeat, and watch the runs that are carried."""
        outcomes: list[BeatAnswer | CallError] = []
        for beat in self._beats:
            try:
                outcomes.append(_heard(beat, facts))
            except CallError as error:
                outcomes.append(error)
        return outcomes


def _heard(beat: Beat, facts: Facts) -> BeatAnswer:
    run = facts.runs[beat.kind].get(beat.run_id)
    if run is None:
        raise run_not_found(beat.kind, beat.run_id, beat.run_id in facts.deleted_runs)
    run_count = run.progress.run_count
    told = advice(run.state, run_count, beat.attempt, parent_of(beat.kind, run, facts))
    deadline = None
    if beat.attempt == run_count and is_carried(run.state):
        deadline = facts.now + beat.timeout
        heartbeat = Heartbeat(beat.run_id, beat.attempt, beat.timeout, facts.now, deadline)
        facts.beat(beat.kind, heartbeat)
    return BeatAnswer(told, run.state, run_count, deadline)


class ReapRuns:
    """Ends, or schedules again, those of some runs whose time has passed without a heartbeat.

    Answers how many. Nothing is done by a session that has lost its term, or that lost time.
    """

    command_class = CommandClass.URGENT
    replayable = True
    exclusive = False

    def __init__(self, kind: RunKind, run_ids: Sequence[Id], session: Session) -> None:
        self._kind = kind
        self._run_ids = run_ids
        self._session = session
        self.weight = len(run_ids)
        self.size = _BYTES * len(run_ids)

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.terms.add(LOOPS)
        needs.runs_to_write[self._kind].update(self._run_ids)
        needs.heartbeats[self._kind].update(self._run_ids)
        if self._kind is RunKind.FLOW_RUN:
            needs.trackers_of.update(self._run_ids)

    def decide(self, facts: Facts) -> int:
        """Look at each run again, now that it is locked."""
        if not self._session.may_act(facts):
            return 0
        reaped = 0
        for run_id in self._run_ids:
            heartbeat = facts.heartbeats[self._kind].get(run_id)
            if heartbeat is not None and heartbeat.deadline <= facts.now:
                reaped += self._reap(heartbeat, facts)
        return reaped

    def _reap(self, heartbeat: Heartbeat, facts: Facts) -> bool:
        run = facts.runs[self._kind].get(heartbeat.run_id)
        carried = run is not None and is_carried(run.state)
        if run is None or not carried or heartbeat.attempt != run.progress.run_count:
            facts.end_heartbeats(self._kind, heartbeat.run_id)
            return False
        assert run.state is not None
        if run.state.type is StateType.PAUSED:
            # A pause ends by its own time. Once it runs again it has to be heard of.
            later = replace(heartbeat, deadline=facts.now + heartbeat.timeout)
            facts.beat(self._kind, later)
            return False
        begun = run.state.timestamp
        if run.state.type is StateType.RUNNING and begun > heartbeat.heard:
            # Resumed: the heartbeat is of before the pause, and perhaps of another process.
            deadline = begun + heartbeat.timeout
            if deadline > facts.now:
                facts.beat(self._kind, replace(heartbeat, deadline=deadline))
                return False
        facts.end_heartbeats(self._kind, heartbeat.run_id)
        self._lose(run, facts.now - heartbeat.heard, facts)
        return True

    def _lose(self, run: RunFacts, silence: Micros, facts: Facts) -> None:
        draft = crash(silence)
        decision = _LOST[self._kind](transition_to(self._kind, run, draft, facts), silence)
        proposal = Proposal(uuid7(), run.id, draft, b"", proposed_by=SERVICE)
        record(self._kind, run, proposal, decision, facts)
