"""Explaining runs over what is stored, on each dialect. The words are tested with the rules."""

import time
from typing import Any

import pytest
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import flow_run_pb2, task_run_pb2
from interlock.v1.explanation_pb2 import Explanation

from tests.support.heartbeats import beat, beats
from tests.support.refusals import refused
from tests.support.runs import (
    CANCELLING,
    COMPLETED,
    FAILED,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    FlowRuns,
    Runs,
    TaskRuns,
    make_flow_run,
    make_task_run,
    proposal,
    unique,
)
from tests.support.stubs import Stubs


@pytest.fixture
def explain(stubs: Stubs) -> Any:
    """Explain a run of either kind."""

    def explain(run: Any) -> Explanation:
        if isinstance(run, flow_run_pb2.FlowRun):
            request = flow_run_pb2.FlowRunServiceExplainRunRequest(id=run.id)
            return stubs.flow_runs.ExplainRun(request).explanation
        asked = task_run_pb2.TaskRunServiceExplainRunRequest(id=run.id)
        return stubs.task_runs.ExplainRun(asked).explanation

    return explain


def reasons(explanation: Explanation) -> list[str]:
    return [cause.reason for cause in explanation.causes]


def test_a_run_that_is_scheduled_waits_for_its_time(runs: Runs, explain: Any) -> None:
    due = {"seconds": int(time.time()) + 5 * 3600 + 1800}
    run = runs.make(state={"type": SCHEDULED, "details": {"scheduled_time": due}})
    told = explain(run)
    (cause,) = told.causes
    assert told.state == run.state
    assert told.summary == cause.explanation == "It is due in 5 hours."
    assert (cause.reason, cause.until_time) == ("NOT_DUE", run.state.details.scheduled_time)


def test_a_new_run_is_told_from_one_that_was_taken(runs: Runs, explain: Any) -> None:
    assert reasons(explain(runs.make())) == ["NOT_STARTED"]
    run = runs.make(state={"type": SCHEDULED})
    assert reasons(explain(run)) == ["DUE_NOT_TAKEN"]
    runs.propose(proposal(run.id, PENDING, proposed_by="worker-7"))
    told = explain(run)
    assert reasons(told) == ["TAKEN"]
    assert "by worker-7" in told.summary


def test_a_run_that_sends_heartbeats_says_until_when_it_counts_as_alive(
    stubs: Stubs, runs: Runs, explain: Any
) -> None:
    run = runs.make(state={"type": RUNNING})
    (outcome,) = beats(stubs, beat(runs.kind, run.id, 1))
    told = explain(run)
    assert reasons(told) == ["RUNNING", "HEARTBEATS"]
    assert told.causes[1].until_time == outcome.answer.deadline_time
    runs.propose(proposal(run.id, RUNNING))
    assert reasons(explain(run)) == ["RUNNING", "NO_HEARTBEATS"]


def test_a_retry_is_explained_by_the_failure(runs: Runs, explain: Any) -> None:
    run = runs.make(retry_policy={"max_retries": 3}, state={"type": RUNNING})
    assert reasons(explain(run)) == ["RUNNING", "NO_HEARTBEATS"]
    runs.propose(proposal(run.id, FAILED, message="no space left"))
    told = explain(run)
    assert reasons(told) == ["DUE_NOT_TAKEN"]
    assert "retry 1 of 3" in told.summary
    assert "no space left" in told.summary


def test_what_ended_a_run_is_told_with_what_others_tried_since(runs: Runs, explain: Any) -> None:
    run = runs.make(state={"type": RUNNING})
    runs.propose(proposal(run.id, PENDING, proposed_by="before"))
    runs.propose(proposal(run.id, COMPLETED, message="all done", proposed_by="etl"))
    for number in range(5):
        runs.propose(proposal(run.id, CANCELLING, proposed_by=f"late-{number}"))
    told = explain(run)
    assert told.summary.endswith("ago: all done.")
    assert reasons(told) == ["COMPLETED", *3 * ["RUN_FINISHED"]]
    assert told.causes[0].explanation.endswith("etl said so.")
    proposers = [cause.explanation.partition(" proposed ")[0][-6:] for cause in told.causes[1:]]
    assert proposers == ["late-4", "late-3", "late-2"]


def test_a_pause_is_explained_with_its_input_and_its_end(stubs: Stubs, explain: Any) -> None:
    run = make_flow_run(stubs, state={"type": RUNNING})
    paused = stubs.flow_runs.Pause(
        flow_run_pb2.FlowRunServicePauseRequest(
            flow_run_id=run.id, pause_key="gate", input_schema_json='{"type": "boolean"}'
        )
    ).decision
    told = explain(run)
    assert reasons(told) == ["PAUSED", "INPUT_AWAITED"]
    assert [cause.until_time for cause in told.causes] == 2 * [paused.state.details.pause_timeout]
    assert '{"type": "boolean"}' in told.causes[1].explanation


def test_a_task_run_waits_for_its_flow_run(stubs: Stubs, explain: Any) -> None:
    flow_run = make_flow_run(stubs, name="nightly")
    task_run = make_task_run(stubs, flow_run_id=flow_run.id)
    told = explain(task_run)
    assert reasons(told) == ["FLOW_NOT_RUNNING", "NOT_STARTED"]
    assert told.summary == "Its flow run nightly is Pending."
    cause = told.causes[0]
    assert (cause.resource_type, cause.resource_id) == ("flow_run", flow_run.id)

    FlowRuns(stubs).propose(proposal(flow_run.id, RUNNING))
    FlowRuns(stubs).propose(proposal(flow_run.id, PAUSED))
    TaskRuns(stubs).propose(proposal(task_run.id, RUNNING))
    assert reasons(explain(task_run)) == ["FLOW_PAUSED"]


def test_a_flow_run_that_failed_names_its_failed_task_runs(stubs: Stubs, explain: Any) -> None:
    flow_run = make_flow_run(stubs, state={"type": RUNNING})
    tasks = [
        make_task_run(
            stubs,
            flow_run_id=flow_run.id,
            name=f"load-{number}",
            state={"type": FAILED if number else COMPLETED, "message": f"boom {number}"},
        )
        for number in range(5)
    ]
    FlowRuns(stubs).propose(proposal(flow_run.id, FAILED))
    told = explain(flow_run)
    assert reasons(told) == ["FAILED", *4 * ["TASK_RUN_FAILED"]]
    assert [cause.resource_id for cause in told.causes[1:]] == [*(t.id for t in tasks[1:4]), ""]
    assert told.causes[1].explanation == "Its task run load-1 is Failed: boom 1."


def test_a_cached_task_run_names_the_one_that_computed_the_result(
    stubs: Stubs, explain: Any
) -> None:
    key = unique("key")
    first, second = (make_task_run(stubs) for _ in range(2))
    runs = TaskRuns(stubs)
    details = {"cache_key": key}
    runs.propose(proposal(first.id, RUNNING, details=details))
    runs.propose(proposal(first.id, COMPLETED, details=details))
    runs.propose(proposal(second.id, RUNNING, details=details))
    told = explain(second)
    assert reasons(told) == ["CACHED"]
    assert (told.causes[0].resource_type, told.causes[0].resource_id) == ("task_run", first.id)


def test_a_run_that_is_not_there_can_not_be_explained(
    stubs: Stubs, runs: Runs, explain: Any
) -> None:
    run = runs.make()
    runs.delete(run.id)
    with refused(StatusCode.NOT_FOUND, f"{runs.kind.upper()}_NOT_FOUND"):
        explain(run)
    run.id = uuid7()
    with refused(StatusCode.NOT_FOUND, f"{runs.kind.upper()}_NOT_FOUND"):
        explain(run)
