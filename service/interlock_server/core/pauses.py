"""Pausing and resuming flow runs: proposals whose state is made when they are decided."""

from __future__ import annotations

from dataclasses import dataclass, replace

from interlock_server.core.engine import Engine
from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.input_checks import invalid_input
from interlock_server.core.transitions import (
    Answer,
    Proposal,
    ProposeStates,
    decide,
    remembered,
    settle,
)
from interlock_server.rules.flow_runs import (
    FLOW_RUN_POLICY,
    RESUME_FLOW_RUN_POLICY,
    resumed,
)
from interlock_server.rules.frame import Verdict
from interlock_server.rules.states import Micros, State, StateType
from interlock_server.storage import queries
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.records import FlowRunInput, RunKind

_KIND = RunKind.FLOW_RUN


class _FlowRunCommand:
    """One proposal for one flow run."""

    command_class = CommandClass.TRANSITIONS
    weight = 1
    replayable = True
    exclusive = False

    def __init__(self, proposal: Proposal) -> None:
        self._proposal = proposal
        self._needs = ProposeStates(_KIND, [proposal])
        self.size = self._needs.size

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        self._needs.add_needs(needs)


class PauseFlowRun(_FlowRunCommand):
    """Proposes PAUSED. The time that the pause may last begins when this is decided.

    A pause that the draft gives no key has the proposal's id for one.
    """

    def __init__(self, proposal: Proposal, timeout: Micros) -> None:
        super().__init__(proposal)
        self._timeout = timeout

    def decide(self, facts: Facts) -> Answer:
        """Decide it by the rules that every PAUSED is decided by."""
        proposal = self._proposal
        if (before := remembered(_KIND, proposal, facts)) is not None:
            return before
        run = facts.runs[_KIND][proposal.run_id]
        details = proposal.draft.details
        details = replace(
            details,
            pause_timeout=facts.now + self._timeout,
            pause_key=details.pause_key or proposal.id,
        )
        proposal = replace(proposal, draft=replace(proposal.draft, details=details))
        decision = decide(_KIND, proposal, run, facts, FLOW_RUN_POLICY)
        return settle(_KIND, run, proposal, decision, facts)


@dataclass(frozen=True, slots=True)
class CheckedInput:
    """What a run is to be resumed with (empty: nothing), checked by the schema that it had to meet.

    `error` is what was found to be wrong with it.
    """

    text: str
    schema: str | None
    error: InvalidArgumentError | None


class ResumeFlowRun(_FlowRunCommand):
    """Proposes the state that a paused run is to go on in, and keeps the input that comes along."""

    def __init__(self, proposal: Proposal, given: CheckedInput) -> None:
        super().__init__(proposal)
        self._given = given
        self.size += len(given.text)

    def decide(self, facts: Facts) -> Answer | None:
        """Decide it; None where the pause asks for input by another schema than it was checked by.

        Raises the input's error, where the run could go on but for that.
        """
        proposal, given = self._proposal, self._given
        if (before := remembered(_KIND, proposal, facts)) is not None:
            return before
        run = facts.runs[_KIND][proposal.run_id]
        paused = run.state
        proposal = replace(proposal, draft=resumed(paused, facts.now))
        decision = decide(_KIND, proposal, run, facts, RESUME_FLOW_RUN_POLICY)
        if decision.verdict is not Verdict.ACCEPT:
            return settle(_KIND, run, proposal, decision, facts)
        assert paused is not None, "what has no state is not paused"
        if paused.details.input_schema != given.schema:
            return None
        if given.error is not None:
            raise given.error
        answer = settle(_KIND, run, proposal, decision, facts)
        if given.text:
            facts.add_input(
                FlowRunInput(run.id, pause_key(paused), given.text, proposal.proposed_by, facts.now)
            )
        return answer


def pause_key(paused: State) -> str:
    """Answer the key of the pause that a run is in."""
    return paused.details.pause_key or paused.id


async def resume_flow_run(
    engine: Engine, proposal: Proposal, field: str, text: str, timeout: float | None
) -> Answer:
    """Resume a flow run; `text` is the input, or empty, and `field` the path that it came in.

    The input is checked before the run is locked, by the schema that its pause names then. Raises
    InvalidArgumentError `INPUT_INVALID`, and what the pipeline raises.
    """
    while True:
        schema = await _schema_asked_for(engine, proposal.run_id)
        error = None
        if schema is None and text:
            error = invalid_input(field, "The run waits for no input; resume it without any.")
        elif schema is not None and not text:
            error = invalid_input(field, "The run waits for input: JSON that meets its schema.")
        elif schema is not None:
            error = await engine.input_checks.check_input(schema, field, text)
        command = ResumeFlowRun(proposal, CheckedInput(text, schema, error))
        answer = await engine.pipeline.submit(command, timeout)
        if answer is not None:
            return answer


async def _schema_asked_for(engine: Engine, run_id: str) -> str | None:
    run = await queries.get_run(engine.database, _KIND, run_id)
    if run is None or run.state is None or run.state.type is not StateType.PAUSED:
        return None
    return run.state.details.input_schema
