"""What a script expects the server to write is what the server's own rules decide."""

from hypothesis import given
from hypothesis import strategies as st
from interlock_server.replay import Attempt, Outcome, TraceTask
from interlock_server.replay.script import CREATED, write_script
from interlock_server.rules.effects import entered, timestamp_after
from interlock_server.rules.frame import Transition
from interlock_server.rules.runs import FRESH, ParentFlowRun, Progress, RetryPolicy
from interlock_server.rules.states import DEFAULT_NAMES, State, StateDetails, StateDraft, StateType
from interlock_server.rules.task_runs import TASK_RUN_POLICY

SECOND = 1_000_000
RUNNING_FLOW = ParentFlowRun(State("f", StateType.RUNNING, "Running", 0), run_count=1)


@st.composite
def attempts(draw: st.DrawFn) -> list[Attempt]:
    """Attempts one after the other, with or without times, executed or not."""
    timed = draw(st.booleans())
    made, now = [], 0.0
    for outcome in draw(st.lists(st.sampled_from(Outcome), min_size=1, max_size=7)):
        started = now + draw(st.integers(0, 3))
        now = started + draw(st.integers(0, 3))
        executed = draw(st.booleans())
        made.append(
            Attempt(
                outcome=outcome,
                duration=now - started,
                submitted=started if timed else None,
                started=started if timed and executed else None,
                ended=now if timed and outcome is not Outcome.UNFINISHED else None,
            )
        )
    return made


@given(attempts())
def test_the_rules_write_what_the_script_expects(made: list[Attempt]) -> None:
    script = write_script(TraceTask(id="t", name="t", attempts=tuple(made)))
    retry = RetryPolicy(script.retries, tuple(int(d * SECOND) for d in script.retry_delays))
    current = State("0", StateType(CREATED[0]), CREATED[1], 0, details=StateDetails(0))
    progress: Progress = entered(FRESH, None, StateDraft(current.type, current.name), 0)
    now = 0
    assert script.submission is not None
    written = [CREATED]
    for move, wait in [
        (script.submission, 0.0),
        *((step.move, step.wait) for step in script.steps),
    ]:
        now += int(wait * SECOND)
        if move is None:
            continue
        proposed = StateDraft(
            move.type,
            move.name or DEFAULT_NAMES[move.type],
            details=StateDetails(retriable=None if move.retriable else False),
        )
        decision = TASK_RUN_POLICY.decide(
            Transition(current, proposed, progress, now, retry, parent=RUNNING_FLOW)
        )
        assert decision.write is not None, decision
        moment = timestamp_after(current, now)
        progress = entered(decision.progress, current, decision.write, moment)
        draft = decision.write
        current = State("n", draft.type, draft.name, moment, draft.message, draft.details)
        written.append((draft.type, draft.name))
    assert tuple(written) == script.states
    assert progress.run_count == script.run_count
