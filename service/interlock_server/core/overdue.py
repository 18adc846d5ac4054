"""What the service does to runs by itself: states that last too long, and what a cancelled flow run
takes along. Each command decides again, under the runs' locks, what a loop has found by reading."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.ids import uuid7

from interlock_server.core.transitions import SERVICE, Proposal, record, transition_to
from interlock_server.rules.frame import Decision, Verdict
from interlock_server.rules.overdue import Patience, overdue, overdue_since, successor
from interlock_server.rules.states import TERMINAL, Id, StateDraft, StateType
from interlock_server.rules.with_their_flow_run import cancelled_with_its_flow_run, stop
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.records import RunFacts, RunKind

_BYTES = 500
"""What a run's part of a command takes in memory, about."""


class MoveOverdue:
    """Moves those of some flow runs on whose state of a type has lasted too long.

    Answers how many.
    """

    command_class = CommandClass.TRANSITIONS
    replayable = True
    exclusive = False

    def __init__(self, type_: StateType, run_ids: Sequence[Id], patience: Patience) -> None:
        self._type = type_
        self._run_ids = run_ids
        self._patience = patience
        self.weight = len(run_ids)
        self.size = _BYTES * len(run_ids)

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        _need_flow_runs(needs, self._run_ids)

    def decide(self, facts: Facts) -> int:
        """Look at each run again, now that it is locked."""
        moved = 0
        for run_id in self._run_ids:
            run = facts.runs[RunKind.FLOW_RUN].get(run_id)
            if run is None or run.state is None or run.state.type is not self._type:
                continue
            since = overdue_since(run.state, self._patience)
            if since is None or since > facts.now:
                continue
            draft = successor(run.state, facts.now)
            decision = overdue(transition_to(RunKind.FLOW_RUN, run, draft, facts))
            moved += _write(RunKind.FLOW_RUN, run, draft, decision, facts)
        return moved


class CancelWithFlowRuns:
    """Cancels runs of one kind that are part of flow runs that were cancelled.

    Answers how many. A part whose flow run is not cancelled any more is left alone.
    """

    command_class = CommandClass.TRANSITIONS
    replayable = True
    exclusive = False

    def __init__(self, kind: RunKind, run_ids: Sequence[Id]) -> None:
        self._kind = kind
        self._run_ids = run_ids
        self.weight = len(run_ids)
        self.size = _BYTES * len(run_ids)

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        if self._kind is RunKind.FLOW_RUN:
            _need_flow_runs(needs, self._run_ids)
        else:
            needs.runs_to_write[self._kind].update(self._run_ids)

    def decide(self, facts: Facts) -> int:
        """Look at each run again, now that it is locked."""
        moved = 0
        for run_id in self._run_ids:
            run = facts.runs[self._kind].get(run_id)
            if run is None or (run.state is not None and run.state.type in TERMINAL):
                continue
            if not self._flow_run_is_cancelled(run, facts):
                continue
            draft = stop(has_deployment=run.deployment_id in facts.deployments)
            decision = cancelled_with_its_flow_run(transition_to(self._kind, run, draft, facts))
            moved += _write(self._kind, run, draft, decision, facts)
        return moved

    def _flow_run_is_cancelled(self, run: RunFacts, facts: Facts) -> bool:
        parent_id = run.parent_id
        if self._kind is RunKind.FLOW_RUN:
            tracker = facts.runs[RunKind.TASK_RUN].get(run.tracker_id or "")
            parent_id = None if tracker is None else tracker.parent_id
        parent = facts.runs[RunKind.FLOW_RUN].get(parent_id or "")
        state = None if parent is None else parent.state
        return state is not None and state.type is StateType.CANCELLED


class ForgetCancelled:
    """Notes that all parts of some cancelled flow runs were cancelled: nobody need look any more.

    Alone in its batch: it changes a column that a transition in the same batch may, too.
    """

    command_class = CommandClass.TRANSITIONS
    replayable = True
    exclusive = True

    def __init__(self, run_ids: Sequence[Id]) -> None:
        self._run_ids = run_ids
        self.weight = len(run_ids)
        self.size = _BYTES * len(run_ids)

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.runs_to_write[RunKind.FLOW_RUN].update(self._run_ids)

    def decide(self, facts: Facts) -> None:
        """Take away the deadlines of those that are still cancelled."""
        for run_id in self._run_ids:
            run = facts.runs[RunKind.FLOW_RUN].get(run_id)
            if run is not None and run.state is not None and run.state.type is StateType.CANCELLED:
                facts.edit_run(RunKind.FLOW_RUN, run, {"deadline": None})


def _need_flow_runs(needs: Needs, run_ids: Sequence[Id]) -> None:
    needs.runs_to_write[RunKind.FLOW_RUN].update(run_ids)
    needs.trackers_of.update(run_ids)


def _write(
    kind: RunKind, run: RunFacts, draft: StateDraft, decision: Decision, facts: Facts
) -> bool:
    """Write down what was decided; answer whether the run has moved."""
    if decision.write is None or decision.verdict is Verdict.WAIT:
        return False
    proposal = Proposal(uuid7(), run.id, draft, b"", proposed_by=SERVICE)
    record(kind, run, proposal, decision, facts)
    return True
