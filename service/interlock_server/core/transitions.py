"""Proposing states: the command that every transition goes through."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from interlock.ids import uuid7

from interlock_server.core.errors import CallError, IdReusedError, run_not_found
from interlock_server.rules.effects import entered, timestamp_after
from interlock_server.rules.flow_runs import FLOW_RUN_POLICY, MINIMAL_FLOW_RUN_POLICY
from interlock_server.rules.frame import Decision, Policy, Verdict
from interlock_server.rules.frame import Transition as Proposed
from interlock_server.rules.runs import ParentFlowRun
from interlock_server.rules.states import TERMINAL, Id, Micros, State, StateDraft, StateType
from interlock_server.rules.task_runs import MINIMAL_TASK_RUN_POLICY, TASK_RUN_POLICY
from interlock_server.rules.values import value
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.records import CacheEntry, RunFacts, RunKind, Transition

# Indexed by whether the proposal is forced.
_POLICIES = {
    RunKind.FLOW_RUN: (FLOW_RUN_POLICY, MINIMAL_FLOW_RUN_POLICY),
    RunKind.TASK_RUN: (TASK_RUN_POLICY, MINIMAL_TASK_RUN_POLICY),
}

SERVICE = "interlock"
"""Who proposes what the service does by itself."""

_PROPOSAL_BYTES = 1000
"""What a proposal takes in memory beside its texts, about."""


@value
@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal to move one run to a state. `digest` tells its content from another's."""

    id: Id
    run_id: Id
    draft: StateDraft
    digest: bytes
    force: bool = False
    proposed_by: str = ""
    expected_version: int = 0
    """The version that the proposer has seen; 0: any."""


@value
@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a proposal: the decision, and the run's state after it."""

    proposal_id: Id
    verdict: Verdict
    state: State | None
    rule: str
    reason: str
    explanation: str
    run_count: int
    version: int
    retry_after: Micros = 0


class ProposeStates:
    """Proposes states for runs of one kind; each proposal is answered by itself, in order."""

    replayable = True
    exclusive = False

    def __init__(self, kind: RunKind, proposals: Sequence[Proposal]) -> None:
        self._kind = kind
        self._proposals = proposals
        self.weight = len(proposals)
        self.size = sum(_PROPOSAL_BYTES + draft_bytes(p.draft) for p in proposals)
        ends = all(proposal.draft.type in TERMINAL for proposal in proposals)
        self.command_class = CommandClass.URGENT if ends else CommandClass.TRANSITIONS

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        run_ids = [proposal.run_id for proposal in self._proposals]
        needs.runs_to_write[self._kind].update(run_ids)
        needs.transitions[self._kind].update(proposal.id for proposal in self._proposals)
        if self._kind is RunKind.FLOW_RUN:
            needs.trackers_of.update(run_ids)
            return
        for proposal in self._proposals:
            if (key := _cache_key_asked_for(proposal)) is not None:
                needs.cache_keys.add(key)

    def decide(self, facts: Facts) -> list[Answer | CallError]:
        """Decide each proposal over what the ones before it have left."""
        outcomes: list[Answer | CallError] = []
        for proposal in self._proposals:
            try:
                outcomes.append(_answer(self._kind, proposal, facts))
            except CallError as error:
                outcomes.append(error)
        return outcomes


def _answer(kind: RunKind, proposal: Proposal, facts: Facts) -> Answer:
    if (before := remembered(kind, proposal, facts)) is not None:
        return before
    run = facts.runs[kind][proposal.run_id]
    decision = decide(kind, proposal, run, facts, _POLICIES[kind][proposal.force])
    return settle(kind, run, proposal, decision, facts)


def remembered(kind: RunKind, proposal: Proposal, facts: Facts) -> Answer | None:
    """Answer a proposal that was sent again as it was the first time; None: it is a new one.

    Raises NotFoundError where its run is gone, IdReusedError where its id came with other content.
    """
    if proposal.run_id in facts.doomed_runs:
        # Its history goes piece by piece: what is left of it answers nothing any more.
        raise run_not_found(kind, proposal.run_id, deleted=True)
    if (before := facts.transitions[kind].get(proposal.id)) is not None:
        if before.digest != proposal.digest:
            raise IdReusedError(proposal.id)
        return _answer_of(kind, before, facts)
    if proposal.run_id not in facts.runs[kind]:
        raise run_not_found(kind, proposal.run_id, proposal.run_id in facts.deleted_runs)
    return None


def settle(
    kind: RunKind, run: RunFacts, proposal: Proposal, decision: Decision, facts: Facts
) -> Answer:
    """Write down what was decided, unless that is to wait, and answer it."""
    if decision.verdict is Verdict.WAIT:
        return Answer(
            proposal.id,
            Verdict.WAIT,
            run.state,
            decision.rule,
            decision.reason,
            decision.explanation,
            run.progress.run_count,
            run.version,
            decision.delay,
        )
    return _answer_of(kind, record(kind, run, proposal, decision, facts), facts)


def decide(
    kind: RunKind, proposal: Proposal, run: RunFacts, facts: Facts, policy: Policy
) -> Decision:
    """Decide a new proposal. Nothing is changed by that."""
    expected = proposal.expected_version
    if expected and expected != run.version:
        return Decision(
            Verdict.ABORT,
            run.progress,
            rule="expected_version",
            reason="VERSION_MISMATCH",
            explanation=f"The run has version {run.version}, not {expected}: it was changed since.",
        )
    key = _cache_key_asked_for(proposal) if kind is RunKind.TASK_RUN else None
    cached = facts.cached.get(key) if key is not None else None
    proposed = transition_to(kind, run, proposal.draft, facts, cached)
    return policy.decide(proposed)


def transition_to(
    kind: RunKind, run: RunFacts, draft: StateDraft, facts: Facts, cached: State | None = None
) -> Proposed:
    """Put together what rules are asked about a run for which a state is proposed."""
    return Proposed(
        run.state,
        draft,
        run.progress,
        facts.now,
        run.retry,
        has_deployment=run.deployment_id in facts.deployments,
        has_infrastructure=run.infrastructure_pid != "",
        is_subflow=run.tracker_id is not None,
        parent=parent_of(kind, run, facts),
        cached=cached,
        draw=random.random(),
    )


def record(
    kind: RunKind, run: RunFacts, proposal: Proposal, decision: Decision, facts: Facts
) -> Transition:
    """Write down what was decided, other than to wait: the state, if one is written, and the line
    of the run's history.

    What a subflow does is written to the task run that tracks it, too.
    """
    # In a run's history no two lines have one time, so that it reads in the order of decision.
    decided = max(
        timestamp_after(run.state, facts.now), facts.last_decided.get(run.id, facts.now - 1) + 1
    )
    written = None
    if decision.write is not None:
        written = state_of(proposal.id, decision.write, decided)
        progress = entered(decision.progress, run.state, decision.write, decided)
        run = run.moved(written, progress)
        facts.move_run(kind, run)
    transition = Transition(
        proposal.id,
        run.id,
        decided,
        decision.verdict,
        decision.rule,
        decision.reason,
        decision.explanation,
        proposal.draft.type,
        proposal.draft.name,
        proposal.proposed_by,
        proposal.force,
        proposal.digest,
        run.progress.run_count,
        written,
        None if written is not None or run.state is None else run.state.id,
        run.version,
    )
    facts.add_transition(kind, transition)
    if written is not None:
        if decision.remember_result and (key := written.details.cache_key) is not None:
            expiration = written.details.cache_expiration
            facts.cache_result(CacheEntry(written.id, run.id, key, decided, expiration), written)
        if run.tracker_id is not None:
            mirror(run.id, written, run.tracker_id, facts)
    return transition


def mirror(subflow_id: Id, state: State, tracker_id: Id, facts: Facts) -> None:
    """Write a subflow's state to the task run that tracks it in the parent flow run.

    Nothing is done where that task run is gone.
    """
    tracker = facts.runs[RunKind.TASK_RUN].get(tracker_id)
    if tracker is None:
        return
    details = replace(state.details, child_flow_run_id=subflow_id)
    draft = StateDraft(state.type, state.name, state.message, details, state.result)
    proposal = Proposal(uuid7(), tracker_id, draft, b"", proposed_by=f"subflow {subflow_id}")
    decision = Decision(
        Verdict.ACCEPT,
        tracker.progress,
        draft,
        rule="follow_the_subflow",
        reason="SUBFLOW_MOVED",
        explanation="The task run follows the subflow that it tracks.",
    )
    record(RunKind.TASK_RUN, tracker, proposal, decision, facts)


def _cache_key_asked_for(proposal: Proposal) -> str | None:
    draft = proposal.draft
    if draft.type is not StateType.RUNNING or draft.details.refresh_cache or proposal.force:
        return None
    return draft.details.cache_key


def parent_of(kind: RunKind, run: RunFacts, facts: Facts) -> ParentFlowRun | None:
    """Answer what rules look at in the flow run that a task run is part of."""
    if kind is RunKind.FLOW_RUN or run.parent_id is None:
        return None
    parent = facts.runs[RunKind.FLOW_RUN][run.parent_id]
    return ParentFlowRun(parent.state, parent.progress.run_count)


def _answer_of(kind: RunKind, transition: Transition, facts: Facts) -> Answer:
    state = transition.state
    if state is None and transition.answered_state_id is not None:
        state = facts.states[kind][transition.answered_state_id]
    return Answer(
        transition.id,
        transition.verdict,
        state,
        transition.rule,
        transition.reason,
        transition.explanation,
        transition.run_count,
        transition.version,
    )


def state_of(id_: Id, draft: StateDraft, timestamp: Micros) -> State:
    """Make the state that is written for a draft."""
    return State(id_, draft.type, draft.name, timestamp, draft.message, draft.details, draft.result)


def draft_bytes(draft: StateDraft) -> int:
    """Answer what a draft's texts take in memory, about."""
    result = draft.result
    details = draft.details
    size = len(draft.message) + len(details.run_input_keyset or "")
    size += len(details.input_schema or "")
    return size + (len(result.metadata or "") if result is not None else 0)
