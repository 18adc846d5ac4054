"""Playing scenarios on a server, and noting what it answers.

Scenarios are played in step: what comes first in each of them goes out in one call, what comes
second in the next. So thousands of proposals take seconds, and runs of all sorts meet in the
service's batches, as in life.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from interlock.ids import uuid7
from interlock.v1 import flow_run_pb2, state_pb2, task_run_pb2

from tests.model import wire
from tests.support.runs import FlowRuns, TaskRuns, make_deployment, make_flow, unique
from tests.support.stubs import Stubs
from tests.vectors.recorded import Answer, Scenario, Setup, Step

_T = TypeVar("_T")

_IN_STEP = 400
"""Scenarios that are played in step: few enough that they are through within a few seconds."""

_CALLS_AT_ONCE = 50
"""Flow runs have no call that makes many; so many of those that make one are under way at once."""


@dataclass(slots=True)
class Played:
    """What a server answered to a scenario's steps."""

    scenario: Scenario
    answers: list[Answer] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """How long the scenario had been under way when each step was answered."""


@dataclass(slots=True)
class _Playing:
    played: Played
    begun: float
    run_ids: dict[str, str]

    def step(self, number: int) -> Step:
        return self.played.scenario.steps[number]


class Player:
    """Plays scenarios on one server: many in step, or by itself each with a call for a proposal."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs
        self._services: dict[str, Any] = {
            "flow_run": FlowRuns(stubs),
            "task_run": TaskRuns(stubs),
        }
        self._flow = make_flow(stubs).id
        self._deployment = make_deployment(stubs, self._flow).id

    def play_in_step(self, scenarios: Sequence[Scenario]) -> Iterator[Played]:
        """Play scenarios, hundreds at a time."""
        for group in _chunks(scenarios, _IN_STEP):
            playing = self._begin(group)
            for number in range(max(len(scenario.steps) for scenario in group)):
                steps = [it for it in playing if number < len(it.played.scenario.steps)]
                self._take_step(steps, number)
            yield from (it.played for it in playing)

    def play_alone(self, scenario: Scenario) -> Played:
        """Play one scenario as a worker would: a call for each proposal, and one for the run."""
        (playing,) = self._begin([scenario])
        for step in scenario.steps:
            run_id, kind = playing.run_ids[step.run], scenario.runs[step.run].kind
            service, now = self._services[kind], time.time()
            if step.propose is None:
                resume = flow_run_pb2.FlowRunServiceResumeRequest(flow_run_id=run_id)
                decision = self._stubs.flow_runs.Resume(resume).decision
            else:
                decision = service.propose(_proposal(run_id, step, now))
            _note(playing, decision, service.get(run_id), now)
        return playing.played

    def _take_step(self, playing: Sequence[_Playing], number: int) -> None:
        by_kind = defaultdict(list)
        for it in playing:
            by_kind[it.played.scenario.runs[it.step(number).run].kind].append(it)
        for kind, group in by_kind.items():
            service, now = self._services[kind], time.time()
            ids = [it.run_ids[it.step(number).run] for it in group]
            proposals = [
                _proposal(run_id, it.step(number), now)
                for run_id, it in zip(ids, group, strict=True)
            ]
            outcomes = service.propose_all(proposals)
            runs = {run.id: run for run in service.page(filter={"ids": ids}, page_size=len(ids))[0]}
            for it, outcome, run_id in zip(group, outcomes, ids, strict=True):
                assert outcome.HasField("decision"), (it.played.scenario.name, outcome.error)
                _note(it, outcome.decision, runs[run_id], now)

    # --- setting up ---

    def _begin(self, scenarios: Sequence[Scenario]) -> list[_Playing]:
        begun = time.time()
        playing = [
            _Playing(Played(scenario), begun, {name: uuid7() for name in scenario.runs})
            for scenario in scenarios
        ]
        setups = [
            (it.run_ids[name], setup, it.run_ids.get(setup.flow, ""))
            for it in playing
            for name, setup in it.played.scenario.runs.items()
        ]
        # A subflow's flow run would come after the task run that tracks it; there is none here.
        flow_runs = [self._flow_run(it[0], it[1]) for it in setups if it[1].kind == "flow_run"]
        for group in _chunks(flow_runs, _CALLS_AT_ONCE):
            for call in [self._stubs.flow_runs.CreateFlowRun.future(it) for it in group]:
                call.result()
        task_runs = [_task_run(*it) for it in setups if it[1].kind == "task_run"]
        if task_runs:
            request = task_run_pb2.BatchCreateTaskRunsRequest(requests=task_runs)
            for outcome in self._stubs.task_runs.BatchCreateTaskRuns(request).outcomes:
                assert outcome.created, outcome.error
        return playing

    def _flow_run(self, run_id: str, setup: Setup) -> flow_run_pb2.CreateFlowRunRequest:
        return flow_run_pb2.CreateFlowRunRequest(
            id=run_id,
            flow_id=self._flow,
            deployment_id=self._deployment if setup.deployment else "",
            state=wire.draft(setup.initial.at(time.time())),
            retry_policy=flow_run_pb2.FlowRunRetryPolicy(
                max_retries=setup.retries, delay=wire.duration(setup.retry_delay)
            ),
        )


def _task_run(run_id: str, setup: Setup, flow_run_id: str) -> task_run_pb2.CreateTaskRunRequest:
    return task_run_pb2.CreateTaskRunRequest(
        id=run_id,
        flow_run_id=flow_run_id,
        task_key=unique("task"),
        state=wire.draft(setup.initial.at(time.time())),
        retry_policy=task_run_pb2.TaskRunRetryPolicy(
            max_retries=setup.retries, delays=[wire.duration(setup.retry_delay)]
        ),
    )


def _proposal(run_id: str, step: Step, now: float) -> state_pb2.Proposal:
    assert step.propose is not None
    return state_pb2.Proposal(
        id=uuid7(), run_id=run_id, state=wire.draft(step.propose.at(now)), force=step.force
    )


# --- what is seen ---------------------------------------------------------------------------------


def _note(playing: _Playing, decision: state_pb2.Decision, run: Any, now: float) -> None:
    waits = decision.verdict == state_pb2.VERDICT_WAIT
    seen = {
        "status": wire.status(decision.verdict),
        "delay_seconds": decision.retry_after.seconds if waits else None,
        "decided_state": wire.type_and_name(decision.state),
        "decided_scheduled_in": wire.seconds(decision.state.details, "scheduled_time", now),
    }
    playing.played.answers.append({**seen, **wire.run_of_service(run, now)})
    playing.played.seconds.append(time.time() - playing.begun)


def _chunks(items: Sequence[_T], size: int) -> Iterable[Sequence[_T]]:
    return (items[i : i + size] for i in range(0, len(items), size))
