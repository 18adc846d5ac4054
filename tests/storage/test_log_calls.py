"""Writing to logs in single calls: durable, and once, whatever is sent again."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb
from interlock_server.storage import failpoints

from tests.support.logs import append, log_call, messages_of, read_log, record_batch
from tests.support.refusals import refused
from tests.support.runs import COMPLETED, FlowRuns, make_flow_run, make_task_run
from tests.support.servers import QUIET, ServerProcess
from tests.support.stubs import Stubs, connected


def test_records_of_a_call_come_back_with_all_that_was_said_of_them(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    task = make_task_run(stubs, flow_run_id=run.id)
    stubs.logs.WriteLogs(
        log_call(
            run.id,
            "one\0",
            "two",
            levels=[10, 40],
            loggers=["app"],
            task_run_ids=[task.id],
            task_run_indexes=[0, 1],
        )
    )
    stubs.logs.WriteLogs(log_call(run.id, "three"))

    one, two, three = read_log(stubs, run.id)
    assert [one.message, two.message, three.message] == ["one\0", "two", "three"]
    assert [one.ordinal, two.ordinal, three.ordinal] == [0, 1, 2]
    assert [one.level, two.level, three.level] == [10, 40, 20]
    assert [one.logger, two.logger, three.logger] == ["app", "app", ""]
    assert [one.task_run_id, two.task_run_id] == ["", task.id]
    assert read_log(stubs, run.id, filter=pb.LogFilter(task_run_ids=[task.id])) == [two]


def test_a_call_sent_again_writes_nothing_also_many_at_once(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    calls = [log_call(run.id, f"line {n}") for n in range(10)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(stubs.logs.WriteLogs, [*calls, *calls, *calls]))
    assert sorted(messages_of(read_log(stubs, run.id))) == [f"line {n}" for n in range(10)]


def test_an_id_stands_for_one_call(stubs: Stubs) -> None:
    run, other = make_flow_run(stubs), make_flow_run(stubs)
    first = log_call(run.id, "line", "line")
    stubs.logs.WriteLogs(first)
    for reused in (
        log_call(run.id, "line", id=first.id),
        log_call(run.id, "line", "lime", id=first.id),
        log_call(run.id, "line", "line", id=first.id, levels=[10, 20]),
        log_call(other.id, "line", "line", id=first.id),
    ):
        with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
            stubs.logs.WriteLogs(reused)
    stubs.logs.WriteLogs(first)
    assert messages_of(read_log(stubs, run.id)) == ["line", "line"]
    assert read_log(stubs, other.id) == []


def test_an_id_is_that_of_a_call_or_that_of_a_stream(stubs: Stubs) -> None:
    run, other = make_flow_run(stubs), make_flow_run(stubs)
    call = log_call(run.id, "call")
    stubs.logs.WriteLogs(call)
    appended = append(stubs, call.id, [record_batch(run.id, "call", number=1)])
    assert [refused.error.reason for refused in appended.refused] == ["ID_REUSED"]

    producer = uuid7()
    append(stubs, producer, [record_batch(run.id, "stream", number=1)])
    for run_id in (run.id, other.id):
        with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
            stubs.logs.WriteLogs(log_call(run_id, "stream", id=producer))
    assert messages_of(read_log(stubs, run.id)) == ["call", "stream"]


def test_the_task_runs_of_a_call_may_be_named_in_capitals(stubs: Stubs) -> None:
    run = make_flow_run(stubs)
    task = make_task_run(stubs, flow_run_id=run.id)
    call = log_call(run.id, "line", task_run_ids=[task.id.upper()])
    stubs.logs.WriteLogs(call)
    stubs.logs.WriteLogs(log_call(run.id, "line", id=call.id, task_run_ids=[task.id]))
    (record,) = read_log(stubs, run.id)
    assert record.task_run_id == task.id


def test_there_has_to_be_such_a_log(stubs: Stubs) -> None:
    with refused(StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        stubs.logs.WriteLogs(log_call(uuid7(), "line"))
    run = make_flow_run(stubs)
    inside = make_task_run(stubs, flow_run_id=run.id)
    with refused(StatusCode.INVALID_ARGUMENT, "TASK_RUN_IN_FLOW_RUN", "run_id"):
        stubs.logs.WriteLogs(log_call(inside.id, "line"))
    call = log_call(run.id, "line")
    stubs.logs.WriteLogs(call)
    FlowRuns(stubs).delete(run.id)
    with refused(StatusCode.NOT_FOUND, "DELETED"):
        stubs.logs.WriteLogs(call)


def test_calls_hold_up_no_tail_of_a_run_that_has_ended(stubs: Stubs) -> None:
    run = make_flow_run(stubs, state={"type": COMPLETED})
    for n in range(3):
        stubs.logs.WriteLogs(log_call(run.id, f"line {n}"))
    parts = list(stubs.logs.TailLogs(pb.TailLogsRequest(run_id=run.id), timeout=30))
    assert parts[-1].end == pb.TAIL_END_DRAINED
    assert messages_of(record for part in parts for record in part.records) == [
        "line 0",
        "line 1",
        "line 2",
    ]


@pytest.mark.parametrize("dialect", ["sqlite_file", "postgresql_18"])
def test_a_call_is_answered_alike_after_the_server_was_killed(
    dialect: str, request: pytest.FixtureRequest
) -> None:
    if dialect == "sqlite_file":
        answered_alike_after_kill(ServerProcess(environment=QUIET))
        return
    with request.getfixturevalue(dialect).database() as url:
        answered_alike_after_kill(ServerProcess(url, environment=QUIET))


def answered_alike_after_kill(server: ServerProcess) -> None:
    with server, connected(server.target) as stubs:
        run = make_flow_run(stubs)
        calls = [log_call(run.id, f"line {n}") for n in range(3)]
        stubs.logs.WriteLogs(calls[0])
        # Committed, but not answered.
        server.arm(f"{failpoints.AFTER_COMMIT}=crash")
        with pytest.raises(grpc.RpcError):
            stubs.logs.WriteLogs(calls[1])
        server.wait_for_death()
        server.start()
        for call in (*calls, *calls):
            stubs.logs.WriteLogs(call, wait_for_ready=True)
        with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
            stubs.logs.WriteLogs(log_call(run.id, "other", id=calls[1].id))
        assert messages_of(read_log(stubs, run.id)) == ["line 0", "line 1", "line 2"]
