"""What becomes of the task runs and subflows of a flow run that was cancelled."""

from __future__ import annotations

from dataclasses import replace

from interlock_server.rules.flow_runs import FLOW_RUN_POLICY
from interlock_server.rules.frame import Decision, Transition, Verdict
from interlock_server.rules.states import DEFAULT_NAMES, StateDraft, StateType

_WORDS = "The flow run that it is part of was cancelled."


def stop(has_deployment: bool) -> StateDraft:
    """Answer the state that is proposed for what is part of a cancelled flow run.

    What a deployment runs has a process of its own, which is told to stop; all else ran in the flow
    run's process.
    """
    type_ = StateType.CANCELLING if has_deployment else StateType.CANCELLED
    return StateDraft(type_, DEFAULT_NAMES[type_], _WORDS)


def cancelled_with_its_flow_run(transition: Transition) -> Decision:
    """Decide about a run that is proposed to stop since its flow run was cancelled."""
    decision = Decision(Verdict.ACCEPT, transition.progress, transition.proposed)
    if transition.proposed.type is StateType.CANCELLING:
        decision = FLOW_RUN_POLICY.decide(transition)
        if decision.verdict is not Verdict.ACCEPT:
            return decision
    return replace(
        decision,
        rule="cancelled_with_its_flow_run",
        reason="FLOW_RUN_CANCELLED",
        explanation=_WORDS,
    )
