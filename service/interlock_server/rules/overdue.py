"""What becomes of a flow run that stays in a state for too long (RULES.md, section 8).

`states.deadline` says from when on the service looks at a state; here stands how long it waits from
then on, and what it does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from interlock_server.rules.flow_runs import LATE_FLOW_RUN_POLICY, pause_expired
from interlock_server.rules.frame import Decision, Transition, Verdict
from interlock_server.rules.states import (
    DEFAULT_NAMES,
    LATE,
    Micros,
    State,
    StateDraft,
    StateType,
    deadline,
)

_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a state may last beyond its deadline before the service changes it."""

    late: Micros = 15 * _SECOND
    """What is scheduled, and due."""
    cancelling: Micros = 300 * _SECOND
    """What was told to stop."""

    def beyond(self, type_: StateType) -> Micros:
        """Answer how long a state of the type may last beyond its deadline."""
        match type_:
            case StateType.SCHEDULED:
                return self.late
            case StateType.CANCELLING:
                return self.cancelling
        return 0


PATIENCE = Patience()


def overdue_since(state: State | None, patience: Patience) -> Micros | None:
    """Answer from when on a state has lasted too long; None: it may last."""
    at = deadline(state)
    return None if at is None or state is None else at + patience.beyond(state.type)


def successor(state: State, now: Micros) -> StateDraft:
    """Answer the state that is proposed for a run that stays in `state` for too long."""
    match state.type:
        case StateType.SCHEDULED:
            details = replace(state.details, scheduled_time=deadline(state))
            return StateDraft(StateType.SCHEDULED, LATE, state.message, details)
        case StateType.PAUSED:
            ruling = pause_expired()
            assert ruling.write is not None
            return ruling.write
        case StateType.CANCELLING:
            asked = _seconds(now - state.timestamp)
            return StateDraft(
                StateType.CANCELLED,
                DEFAULT_NAMES[StateType.CANCELLED],
                f"The run was told to stop {asked} ago, and nobody has said that it has.",
            )
    raise ValueError(f"A run may be {state.name} for ever.")


def overdue(transition: Transition) -> Decision:
    """Decide about a run that is proposed the successor of a state that lasts for too long."""
    current, proposed = transition.current, transition.proposed
    assert current is not None
    match current.type:
        case StateType.SCHEDULED:
            decision = LATE_FLOW_RUN_POLICY.decide(transition)
            if decision.verdict is not Verdict.ACCEPT:
                return decision
            lateness = _seconds(transition.now - (deadline(current) or transition.now))
            return replace(
                decision,
                rule="mark_late",
                reason="LATE",
                explanation=f"The run was due {lateness} ago, and nobody has taken it.",
            )
        case StateType.PAUSED:
            ruling = pause_expired()
            rule, reason, explanation = "pause_expired", ruling.reason, ruling.explanation
        case _:
            rule, reason = "cancelling_takes_too_long", "CANCELLING_TIMEOUT"
            explanation = proposed.message
    return Decision(
        Verdict.ACCEPT,
        transition.progress,
        proposed,
        rule=rule,
        reason=reason,
        explanation=explanation,
    )


def _seconds(length: Micros) -> str:
    return f"{length / _SECOND:.0f} s"
