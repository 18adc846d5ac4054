"""What the model answers to a scenario, as Interlock should and as the peer did."""

from __future__ import annotations

from collections.abc import Collection

from tests.model import wire
from tests.model.rules import Run, State, Verdict
from tests.vectors.recorded import Answer, Scenario

_NOW = 0.0
"""The model's clock stands still: the peer answered each scenario within a moment."""


def answers(scenario: Scenario, quirks: Collection[str] = ()) -> list[Answer]:
    """Answer what each step of a scenario should be answered by a server with these quirks."""
    runs: dict[str, Run] = {}
    cache: dict[str, list[tuple[Run, State]]] = {}
    for name, setup in scenario.runs.items():
        run = Run(
            setup.kind,
            setup.retries,
            setup.retry_delay,
            setup.deployment,
            parent=runs[setup.flow] if setup.flow else None,
            cache=cache,
            quirks=frozenset(quirks),
        )
        run.create(setup.initial, _NOW)
        runs[name] = run
    return [
        _seen(runs[step.run], runs[step.run].propose(step.propose, _NOW, step.force))
        if step.propose is not None
        else _seen(runs[step.run], runs[step.run].resume(_NOW))
        for step in scenario.steps
    ]


def _seen(run: Run, verdict: Verdict) -> Answer:
    state = run.state
    assert state is not None
    seen = {
        "status": verdict.status,
        "delay_seconds": verdict.delay,
        "decided_state": [state.type, state.name],
        "decided_scheduled_in": state.scheduled,
    }
    return {**seen, **wire.run_of_model(run, _NOW)}
