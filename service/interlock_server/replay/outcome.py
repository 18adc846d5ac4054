"""How a whole trace ended, in words: the state of its flow run."""

from collections import Counter

from interlock_server.replay.script import StateName
from interlock_server.replay.trace import Outcome, Trace
from interlock_server.rules.states import DEFAULT_NAMES, StateType

_GOOD = frozenset({Outcome.COMPLETED, Outcome.CACHED})

_WORDS = {
    Outcome.FAILED: "failed",
    Outcome.CRASHED: "crashed",
    Outcome.CANCELLED: "{were} cancelled",
    Outcome.UNFINISHED: "had not ended when the trace does",
    None: "never ran",
}


def end_of(trace: Trace) -> tuple[StateType, str]:
    """Answer the type of the flow run's last state, and a message that says why.

    It completed if all its tasks did; else it failed, and the message counts what went wrong.
    """
    outcomes = Counter(task.outcome for task in trace.tasks)
    total = len(trace.tasks)
    if all(outcome in _GOOD for outcome in outcomes):
        return StateType.COMPLETED, f"all {total} tasks completed"
    amiss = [
        f"{count} {words.format(were='was' if count == 1 else 'were')}"
        for outcome, words in _WORDS.items()
        if (count := outcomes[outcome])
    ]
    return StateType.FAILED, f"of {total} tasks {', '.join(amiss)}"


def flow_run_states(trace: Trace) -> tuple[StateName, ...]:
    """Answer the exact sequence of states that the flow run is to go through."""
    types = (StateType.PENDING, StateType.RUNNING, end_of(trace)[0])
    return tuple((kind, DEFAULT_NAMES[kind]) for kind in types)
