"""Flow runs and task runs: made once, read, changed, deleted."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import flow_run_pb2, log_pb2, task_run_pb2

from tests.support.logs import append, messages_of, read_log, record_batch
from tests.support.refusals import refused
from tests.support.runs import (
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    SCHEDULED,
    FlowRuns,
    Runs,
    TaskRuns,
    make_flow,
    make_flow_run,
    make_task_run,
    proposal,
    unique,
)
from tests.support.stubs import Stubs


def reason(runs: Any, word: str) -> str:
    return f"{runs.kind.upper()}_{word}"


def without_time_passing(run: Any) -> Any:
    """The run without what grows while one looks."""
    same = type(run)()
    same.CopyFrom(run)
    for field in ("lateness", "estimated_run_time"):
        same.ClearField(field)
    return same


# --- creating -------------------------------------------------------------------------------------


def test_a_run_begins_pending(runs: Runs) -> None:
    run = runs.make()
    assert (run.state.type, run.state.name) == (PENDING, "Pending")
    assert run.run_count == 0
    assert run.expected_start_time == run.state.timestamp == run.create_time
    assert not run.HasField("start_time")
    assert not run.HasField("end_time")
    assert without_time_passing(runs.get(run.id)) == without_time_passing(run)


def test_a_run_begins_in_the_state_given(runs: Runs) -> None:
    due = {"seconds": 4_000_000_000, "nanos": 123_456_000}
    state = {"type": SCHEDULED, "message": "later", "details": {"scheduled_time": due}}
    run = runs.make(state=state)
    assert (run.state.name, run.state.message) == ("Scheduled", "later")
    assert run.next_scheduled_start_time == run.expected_start_time
    assert run.expected_start_time.nanos == 123_456_000

    running = runs.make(state={"type": RUNNING})
    assert running.run_count == 1
    assert running.start_time == running.state.timestamp

    ended = runs.make(state={"type": COMPLETED, "name": "Cached"})
    assert ended.state.name == "Cached"
    assert ended.start_time == ended.end_time == ended.state.timestamp


def test_a_flow_run_keeps_all_it_was_made_with(stubs: Stubs) -> None:
    tracker = make_task_run(stubs)
    flow = make_flow(stubs)
    content = {
        "name": "nightly",
        "parameters_json": '{"b": 1, "a": [1.0]}',
        "labels": {"k": "v"},
        "flow_version": "v7",
        "idempotency_key": "once",
        "parent_task_run_id": tracker.id,
        "infrastructure_pid": "host:42",
        "created_by": "cron",
    }
    policy = {"max_retries": 3, "delay": {"seconds": 1, "nanos": 500_000_000}}
    made = make_flow_run(stubs, flow.id, tags=["t"], retry_policy=policy, **content)
    run = FlowRuns(stubs).get(made.id)
    assert {field: getattr(run, field) for field in content} == content
    assert list(run.tags) == ["t"]
    assert run.flow_id == flow.id
    assert run.retry_policy.max_retries == 3
    assert run.retry_policy.delay.ToMilliseconds() == 1500


def test_a_task_run_keeps_all_it_was_made_with(stubs: Stubs) -> None:
    flow_run = make_flow_run(stubs)
    content: dict[str, Any] = {
        "flow_run_id": flow_run.id,
        "task_key": "extract",
        "dynamic_key": "7",
        "name": "extract seven",
        "inputs_json": '{"x": null}',
        "labels": {"k": "v"},
        "task_version": "v7",
    }
    policy: dict[str, Any] = {
        "max_retries": 2,
        "delays": [{"seconds": 1}, {"seconds": 5}],
        "jitter_factor": 0.25,
    }
    run = TaskRuns(stubs).get(make_task_run(stubs, retry_policy=policy, **content).id)
    assert {field: getattr(run, field) for field in content} == content
    assert run.retry_policy == task_run_pb2.TaskRunRetryPolicy(**policy)


def test_a_create_sent_again_answers_the_run_as_it_is_now(runs: Runs) -> None:
    request = runs.creation()
    first = runs.create(request)
    runs.propose(proposal(request.id, RUNNING))
    second = runs.create(request)

    assert first.created
    assert not second.created
    (field,) = (name for name in ("flow_run", "task_run") if hasattr(second, name))
    assert getattr(second, field).id == request.id
    assert getattr(second, field).state.type == RUNNING


def test_an_id_is_not_given_to_a_second_run(runs: Runs) -> None:
    request = runs.creation()
    runs.create(request)
    other = runs.creation(id=request.id, name="other content")
    with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
        runs.create(other)
    assert runs.get(request.id).name != "other content"


def test_a_run_of_one_kind_has_no_id_of_the_other_kind(stubs: Stubs) -> None:
    """They would share a log, and the one that is deleted would take it along."""
    kinds: tuple[Runs, Runs] = FlowRuns(stubs), TaskRuns(stubs)
    for kind, other in (kinds, kinds[::-1]):
        run = kind.make()
        with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
            other.create(other.creation(id=run.id))


def test_one_create_sent_many_times_at_once_makes_one_run(runs: Runs) -> None:
    request = runs.creation()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(runs.create, [request] * 32))
    assert sum(answer.created for answer in answers) == 1
    assert len(runs.history(request.id)) == 1


def test_a_flow_has_one_run_of_an_idempotency_key(stubs: Stubs) -> None:
    flow, other = make_flow(stubs), make_flow(stubs)
    flow_runs = FlowRuns(stubs)
    requests = [flow_runs.creation(flow_id=flow.id, idempotency_key="daily") for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(flow_runs.create, requests))
    assert sum(answer.created for answer in answers) == 1
    assert len({answer.flow_run.id for answer in answers}) == 1
    elsewhere = make_flow_run(stubs, other.id, idempotency_key="daily")
    assert elsewhere.id != answers[0].flow_run.id


def test_a_flow_run_has_one_task_run_of_a_task_and_dynamic_key(stubs: Stubs) -> None:
    task_runs = TaskRuns(stubs)
    for flow_run_id in (make_flow_run(stubs).id, ""):
        key = {"flow_run_id": flow_run_id, "task_key": unique("task"), "dynamic_key": "1"}
        requests = [task_runs.creation(**key) for _ in range(16)]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(task_runs.create, requests))
        assert sum(answer.created for answer in answers) == 1
        assert len({answer.task_run.id for answer in answers}) == 1
        another = task_runs.create(task_runs.creation(**key | {"dynamic_key": "2"}))
        assert another.created


def test_a_run_of_what_is_not_there_is_not_made(stubs: Stubs) -> None:
    with refused(StatusCode.NOT_FOUND, "FLOW_NOT_FOUND"):
        make_flow_run(stubs, uuid7())
    with refused(StatusCode.NOT_FOUND, "TASK_RUN_NOT_FOUND"):
        make_flow_run(stubs, parent_task_run_id=uuid7())
    with refused(StatusCode.NOT_FOUND, "FLOW_RUN_NOT_FOUND"):
        make_task_run(stubs, flow_run_id=uuid7())


def test_a_batch_makes_what_it_can_and_says_why_not_for_the_rest(stubs: Stubs) -> None:
    task_runs = TaskRuns(stubs)
    flow_run = make_flow_run(stubs)
    there = task_runs.creation(flow_run_id=flow_run.id)
    task_runs.create(there)
    requests = [
        task_runs.creation(flow_run_id=flow_run.id, id=""),
        task_runs.creation(flow_run_id=uuid7()),
        there,
        task_runs.creation(id=there.id),
        twice := task_runs.creation(),
        twice,
    ]
    batch = task_run_pb2.BatchCreateTaskRunsRequest(requests=requests)
    outcomes = stubs.task_runs.BatchCreateTaskRuns(batch).outcomes

    assert [outcome.created for outcome in outcomes] == [True, False, False, False, True, False]
    errors = {i: o.error for i, o in enumerate(outcomes) if o.WhichOneof("outcome") == "error"}
    assert {i: error.reason for i, error in errors.items()} == {
        1: "FLOW_RUN_NOT_FOUND",
        3: "ID_REUSED",
    }
    assert errors[1].code == StatusCode.NOT_FOUND.value[0]
    assert errors[1].field.startswith("requests[1]")
    assert task_runs.get(outcomes[0].task_run_id).flow_run_id == flow_run.id
    assert outcomes[2].task_run_id == there.id
    assert outcomes[4].task_run_id == outcomes[5].task_run_id == twice.id


# --- changing -------------------------------------------------------------------------------------


def test_only_what_the_mask_names_is_changed(runs: Runs) -> None:
    run = runs.make(tags=["old"], labels={"old": "1"})
    change = type(run)(id=run.id, name="new", tags=["new"], labels={"new": "2"})
    changed = runs.update(change, "name", "tags")
    assert (changed.name, list(changed.tags)) == ("new", ["new"])
    assert dict(changed.labels) == {"old": "1"}
    assert changed.etag != run.etag
    assert changed.state == run.state


def test_a_flow_runs_parameters_and_retries_can_be_changed(stubs: Stubs) -> None:
    flow_runs = FlowRuns(stubs)
    run = flow_runs.make(state={"type": RUNNING})
    policy = flow_run_pb2.FlowRunRetryPolicy(max_retries=1)
    change = type(run)(id=run.id, parameters_json='{"n": 1}', retry_policy=policy)
    changed = flow_runs.update(change, "parameters_json", "retry_policy")
    assert changed.parameters_json == '{"n": 1}'
    assert changed.retry_policy.max_retries == 1
    assert flow_runs.propose(proposal(run.id, FAILED)).state.name == "AwaitingRetry"


def test_a_run_that_has_changed_since_is_neither_changed_nor_deleted(runs: Runs) -> None:
    seen = runs.make()
    runs.propose(proposal(seen.id, RUNNING))
    change = type(seen)(id=seen.id, etag=seen.etag, name="mine")
    with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
        runs.update(change, "name")
    with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
        runs.delete(seen.id, seen.etag)
    now = runs.get(seen.id)
    assert now.name == seen.name
    runs.delete(seen.id, now.etag)


def test_changes_and_transitions_at_once_lose_nothing(runs: Runs) -> None:
    run = runs.make()

    def change(i: int) -> None:
        if i % 2:
            runs.update(type(run)(id=run.id, tags=[f"tag-{i}"]), "tags")
        else:
            runs.propose(proposal(run.id, RUNNING))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(change, range(32)))
    now = runs.get(run.id)
    assert now.run_count == 16
    assert int(now.etag) == int(run.etag) + 32


# --- deleting -------------------------------------------------------------------------------------


def test_a_deleted_run_is_gone_for_good(runs: Runs) -> None:
    request = runs.creation()
    run_id = request.id
    runs.create(request)
    runs.delete(run_id)

    with refused(StatusCode.NOT_FOUND, reason(runs, "NOT_FOUND")):
        runs.get(run_id)
    with refused(StatusCode.NOT_FOUND, reason(runs, "NOT_FOUND")):
        runs.history(run_id)
    with refused(StatusCode.NOT_FOUND, "DELETED"):
        runs.create(request)
    with refused(StatusCode.NOT_FOUND, "DELETED"):
        runs.propose(proposal(run_id, RUNNING))
    with refused(StatusCode.NOT_FOUND, "DELETED"):
        runs.delete(run_id)
    (outcome,) = runs.propose_all([proposal(run_id, RUNNING)])
    assert outcome.error.reason == "DELETED"
    assert runs.count(ids=[run_id]) == 0


def test_what_never_was_is_not_found(runs: Runs) -> None:
    run_id = uuid7()
    with refused(StatusCode.NOT_FOUND, reason(runs, "NOT_FOUND")):
        runs.propose(proposal(run_id, RUNNING))
    with refused(StatusCode.NOT_FOUND, reason(runs, "NOT_FOUND")):
        runs.delete(run_id)
    with refused(StatusCode.NOT_FOUND, reason(runs, "NOT_FOUND")):
        runs.history(run_id)


def test_with_a_flow_run_go_its_task_runs_and_its_log(stubs: Stubs) -> None:
    flow_run = make_flow_run(stubs)
    creation = TaskRuns(stubs).creation(flow_run_id=flow_run.id)
    TaskRuns(stubs).create(creation)
    producer = uuid7()
    append(stubs, producer, [record_batch(flow_run.id, "line", number=1)])
    FlowRuns(stubs).delete(flow_run.id)

    with refused(StatusCode.NOT_FOUND, "DELETED"):
        TaskRuns(stubs).create(creation)
    with refused(StatusCode.NOT_FOUND, "DELETED"):
        TaskRuns(stubs).propose(proposal(creation.id, RUNNING))
    with refused(StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        stubs.logs.ListLogs(log_pb2.ListLogsRequest(run_id=flow_run.id))
    late = append(stubs, producer, [record_batch(flow_run.id, "late", number=2)])
    assert [batch.error.reason for batch in late.refused] == ["DELETED"]


def test_a_task_runs_lines_stay_in_its_flow_runs_log(stubs: Stubs) -> None:
    flow_run = make_flow_run(stubs)
    task = make_task_run(stubs, flow_run_id=flow_run.id)
    batch = record_batch(flow_run.id, "line", number=1, task_run_ids=[task.id])
    append(stubs, uuid7(), [batch])
    TaskRuns(stubs).delete(task.id)
    assert messages_of(read_log(stubs, flow_run.id)) == ["line"]
