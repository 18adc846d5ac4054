"""What a subflow does is seen at the task run that tracks it in the parent flow run."""

from typing import Any

import pytest

from tests.support.runs import (
    ACCEPT,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    SCHEDULED,
    FlowRuns,
    TaskRuns,
    make_flow_run,
    make_task_run,
    proposal,
)
from tests.support.stubs import Stubs


@pytest.fixture
def flows(stubs: Stubs) -> FlowRuns:
    return FlowRuns(stubs)


@pytest.fixture
def tasks(stubs: Stubs) -> TaskRuns:
    return TaskRuns(stubs)


@pytest.fixture
def tracker(stubs: Stubs, flows: FlowRuns) -> Any:
    parent = make_flow_run(stubs)
    flows.propose(proposal(parent.id, RUNNING))
    return make_task_run(stubs, flow_run_id=parent.id)


def test_a_task_run_follows_the_subflow_that_it_tracks(
    stubs: Stubs, flows: FlowRuns, tasks: TaskRuns, tracker: Any
) -> None:
    state = {"type": SCHEDULED, "name": "Later"}
    subflow = make_flow_run(stubs, parent_task_run_id=tracker.id, state=state)
    followed = tasks.get(tracker.id).state
    assert (followed.type, followed.name) == (SCHEDULED, "Later")
    assert followed.details.child_flow_run_id == subflow.id

    flows.propose(proposal(subflow.id, RUNNING))
    flows.propose(proposal(subflow.id, COMPLETED, message="done", result={"storage_key": "k"}))
    run = tasks.get(tracker.id)
    assert (run.state.type, run.state.message) == (COMPLETED, "done")
    assert run.state.result.storage_key == "k"
    assert run.run_count == 1
    assert run.HasField("end_time")
    lines = tasks.history(tracker.id)
    assert [line.state.type for line in lines] == [PENDING, SCHEDULED, RUNNING, COMPLETED]
    assert {line.rule for line in lines[1:]} == {"follow_the_subflow"}
    assert lines[-1].proposed_by == f"subflow {subflow.id}"


def test_a_retry_that_the_rules_wrote_is_followed(
    stubs: Stubs, flows: FlowRuns, tasks: TaskRuns, tracker: Any
) -> None:
    subflow = make_flow_run(
        stubs, parent_task_run_id=tracker.id, retry_policy={"max_retries": 1, "delay": {}}
    )
    flows.propose(proposal(subflow.id, RUNNING))
    flows.propose(proposal(subflow.id, FAILED))
    assert tasks.get(tracker.id).state.name == "AwaitingRetry"


def test_a_proposal_that_writes_nothing_is_not_followed(
    stubs: Stubs, flows: FlowRuns, tasks: TaskRuns, tracker: Any
) -> None:
    subflow = make_flow_run(stubs, parent_task_run_id=tracker.id)
    before = tasks.history(tracker.id)
    flows.propose(proposal(subflow.id, PENDING))  # it is taken already
    assert tasks.history(tracker.id) == before


def test_a_subflow_outlives_the_task_run_that_tracked_it(
    stubs: Stubs, flows: FlowRuns, tasks: TaskRuns, tracker: Any
) -> None:
    subflow = make_flow_run(stubs, parent_task_run_id=tracker.id)
    tasks.delete(tracker.id)
    assert flows.propose(proposal(subflow.id, RUNNING)).verdict == ACCEPT


def test_a_subflow_and_its_tracker_may_move_in_one_batch_of_calls(
    stubs: Stubs, flows: FlowRuns, tasks: TaskRuns, tracker: Any
) -> None:
    subflows = [make_flow_run(stubs, parent_task_run_id=tracker.id) for _ in range(3)]
    outcomes = flows.propose_all([proposal(run.id, RUNNING) for run in subflows])
    assert [outcome.decision.verdict for outcome in outcomes] == [ACCEPT] * 3
    times = [line.decide_time.ToNanoseconds() for line in tasks.history(tracker.id)]
    assert times == sorted(set(times))
    assert tasks.get(tracker.id).run_count == 3
