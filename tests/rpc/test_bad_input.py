"""Input that can not be taken is refused with its field's path, and nothing is written."""

import base64
import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import StatusCode
from interlock.v1 import (
    deployment_pb2,
    flow_pb2,
    flow_run_pb2,
    log_pb2,
    run_heartbeat_pb2,
    state_pb2,
    task_run_pb2,
)

from tests.rpc.conftest import Specimens
from tests.support.heartbeats import beat
from tests.support.refusals import refusal_of, refused
from tests.support.runs import unique
from tests.support.stubs import Stubs

pytestmark = [
    pytest.mark.usefixtures("nothing_is_written"),
    # Input is read before a database is asked: two that are far apart stand for all.
    pytest.mark.parametrize(
        "dialect_server", ["sqlite_324", "postgresql_13"], indirect=True, scope="session"
    ),
]

MIB = 1024 * 1024
AN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
STUBS = {
    "flow_pb2": "flows",
    "deployment_pb2": "deployments",
    "flow_run_pb2": "flow_runs",
    "task_run_pb2": "task_runs",
    "log_pb2": "logs",
    "run_heartbeat_pb2": "heartbeats",
}


def call(stubs: Stubs, request: Message) -> Any:
    """Send a request to the method that it is named after."""
    module, name = type(request).__module__.rpartition(".")[2], type(request).__name__
    method = name.removesuffix("Request").removeprefix("FlowRunService")
    answer = getattr(getattr(stubs, STUBS[module]), method.removeprefix("TaskRunService"))(request)
    # A stream is refused as it is read.
    return list(answer) if method == "SearchLogs" else answer


def search_logs(field: str, value: Any) -> Callable[[Specimens], Message]:
    return lambda it: log_pb2.SearchLogsRequest(run_ids=[it.flow_run], **{field: value})


def list_logs(there: Specimens, **text: Any) -> log_pb2.ListLogsRequest:
    wanted = log_pb2.LogFilter(text=log_pb2.TextPattern(**text))
    return log_pb2.ListLogsRequest(run_id=there.flow_run, filter=wanted)


def create_flow(**content: Any) -> flow_pb2.CreateFlowRequest:
    return flow_pb2.CreateFlowRequest(**{"name": unique("flow"), **content})


def create_deployment(**content: Any) -> deployment_pb2.CreateDeploymentRequest:
    return deployment_pb2.CreateDeploymentRequest(**content)


def create_run(there: Specimens, **content: Any) -> flow_run_pb2.CreateFlowRunRequest:
    return flow_run_pb2.CreateFlowRunRequest(**{"flow_id": there.flow, **content})


def create_task(**content: Any) -> task_run_pb2.CreateTaskRunRequest:
    return task_run_pb2.CreateTaskRunRequest(**{"task_key": unique("task"), **content})


def pause(there: Specimens, **content: Any) -> flow_run_pb2.FlowRunServicePauseRequest:
    return flow_run_pb2.FlowRunServicePauseRequest(flow_run_id=there.flow_run, **content)


def set_state(run_id: str, **state: Any) -> flow_run_pb2.FlowRunServiceSetStateRequest:
    request = flow_run_pb2.FlowRunServiceSetStateRequest()
    request.proposal.run_id = run_id
    request.proposal.state.CopyFrom(state_pb2.StateDraft(**{"type": 3, **state}))
    return request


def update_run(run: dict[str, Any], *paths: str) -> flow_run_pb2.UpdateFlowRunRequest:
    request = flow_run_pb2.UpdateFlowRunRequest(flow_run=flow_run_pb2.FlowRun(**run))
    request.update_mask.paths.extend(paths)
    return request


def send(*heartbeats: run_heartbeat_pb2.Heartbeat) -> run_heartbeat_pb2.SendHeartbeatsRequest:
    return run_heartbeat_pb2.SendHeartbeatsRequest(heartbeats=heartbeats)


def write(there: Specimens, **records: Any) -> log_pb2.WriteLogsRequest:
    columns = {"messages": ["one", "two"], "base_time": {"seconds": 1}, **records}
    return log_pb2.WriteLogsRequest(
        id=AN_ID, run_id=there.flow_run, records=log_pb2.LogColumns(**columns)
    )


def due(**time: int) -> dict[str, Any]:
    return {"type": 1, "details": {"scheduled_time": time}}


CASES: dict[str, tuple[str, Callable[[Specimens], Message]]] = {
    # --- ids ---
    "no id": ("id", lambda it: flow_run_pb2.GetFlowRunRequest()),
    "no key": ("id", lambda it: flow_pb2.GetFlowRequest()),
    "malformed id": ("id", lambda it: task_run_pb2.GetTaskRunRequest(id="42")),
    "id without hyphens": (
        "id",
        lambda it: flow_run_pb2.GetFlowRunRequest(id=it.flow_run.replace("-", "")),
    ),
    "id in braces": ("id", lambda it: flow_run_pb2.GetFlowRunRequest(id=f"{{{it.flow_run}}}")),
    "id with a newline": ("id", lambda it: flow_run_pb2.GetFlowRunRequest(id=it.flow_run + "\n")),
    "id in other digits": ("id", lambda it: flow_pb2.GetFlowRequest(id="\u0660" + it.flow[1:])),
    "id of 1 MiB": ("id", lambda it: flow_run_pb2.GetFlowRunRequest(id="a" * MIB)),
    "malformed parent": ("flow_id", lambda it: create_run(it, flow_id="flow")),
    "no flow of a deployment": ("flow_id", lambda it: create_deployment(name="x")),
    "malformed deployment": (
        "deployment_id",
        lambda it: create_run(it, deployment_id="nightly"),
    ),
    "malformed id in a filter of deployments": (
        "filter.flow_ids[0]",
        lambda it: deployment_pb2.CountDeploymentsRequest(
            filter=deployment_pb2.DeploymentFilter(flow_ids=["x"])
        ),
    ),
    "malformed id in a filter": (
        "filter.ids[1]",
        lambda it: flow_run_pb2.ListFlowRunsRequest(
            filter=flow_run_pb2.FlowRunFilter(ids=[it.flow_run, "x"])
        ),
    ),
    "malformed child": (
        "proposal.state.details.child_flow_run_id",
        lambda it: set_state(it.flow_run, details={"child_flow_run_id": "x"}),
    ),
    # --- texts ---
    "empty name": ("name", lambda it: create_flow(name="")),
    "name of 501 bytes": ("name", lambda it: create_flow(name="é" * 250 + "x")),
    "name of 1 MiB": ("name", lambda it: create_flow(name="x" * MIB)),
    "NUL in a name": ("name", lambda it: create_flow(name="a\0b")),
    "NUL in a name looked for": ("name", lambda it: flow_pb2.GetFlowRequest(name="a\0b")),
    "NUL in a filter": (
        "filter.names[0]",
        lambda it: flow_pb2.CountFlowsRequest(filter=flow_pb2.FlowFilter(names=["\0"])),
    ),
    "NUL in a tag": ("tags[1]", lambda it: create_flow(tags=["a", "b\0"])),
    "empty tag": ("tags[0]", lambda it: create_flow(tags=[""])),
    "101 tags": ("tags", lambda it: create_flow(tags=map(str, range(101)))),
    "101 labels": ("labels", lambda it: create_flow(labels={str(i): "" for i in range(101)})),
    "NUL in a message": (
        "proposal.state.message",
        lambda it: set_state(it.flow_run, message="\0"),
    ),
    "message of 64 KiB and one": (
        "proposal.state.message",
        lambda it: set_state(it.flow_run, message="x" * 65_537),
    ),
    "state name of 201 bytes": (
        "proposal.state.name",
        lambda it: set_state(it.flow_run, name="x" * 201),
    ),
    "no name of a deployment": ("name", lambda it: create_deployment(flow_id=it.flow)),
    "101 tags of a deployment": (
        "tags",
        lambda it: create_deployment(flow_id=it.flow, name="x", tags=map(str, range(101))),
    ),
    "no task key": ("task_key", lambda it: create_task(task_key="")),
    "key of 2,001 bytes": (
        "idempotency_key",
        lambda it: create_run(it, idempotency_key="x" * 2001),
    ),
    "no storage key": (
        "proposal.state.result.storage_key",
        lambda it: set_state(it.flow_run, result={}),
    ),
    "name made empty": ("flow_run.name", lambda it: update_run({"id": it.flow_run}, "name")),
    # --- JSON ---
    "no JSON": ("parameters_json", lambda it: create_run(it, parameters_json="{")),
    "NaN": ("parameters_json", lambda it: create_run(it, parameters_json='{"a": NaN}')),
    "infinity": ("inputs_json", lambda it: create_task(inputs_json="[-Infinity]")),
    "101 levels": ("inputs_json", lambda it: create_task(inputs_json="[" * 101 + "]" * 101)),
    "10,000 levels": (
        "parameters_json",
        lambda it: create_run(it, parameters_json='{"a":' * 10_000 + "1" + "}" * 10_000),
    ),
    "10,000 levels never closed": ("inputs_json", lambda it: create_task(inputs_json="[" * 10_000)),
    "duplicate keys": (
        "parameters_json",
        lambda it: create_run(it, parameters_json='{"a": {"k": 1, "k": 1}}'),
    ),
    "keys that are the same without escapes": (
        "inputs_json",
        lambda it: create_task(inputs_json=r'{"a": 1, "\u0061": 2}'),
    ),
    # These took minutes, in which nobody was served.
    "a text that does not end": (
        "inputs_json",
        lambda it: create_task(inputs_json='"' + r"\"" * (MIB // 2 - 1)),
    ),
    "a text that ends in an escape": (
        "inputs_json",
        lambda it: create_task(inputs_json='"' + r"\"" * (MIB // 2 - 1) + "\\"),
    ),
    "twice the last of many keys": (
        "inputs_json",
        lambda it: create_task(
            inputs_json="{" + ",".join(f'"{i}":1' for i in (*range(80_000), 79_999)) + "}"
        ),
    ),
    "two texts in one": ("inputs_json", lambda it: create_task(inputs_json="{} {}")),
    "NUL in JSON": ("inputs_json", lambda it: create_task(inputs_json='"\0"')),
    "JSON of 1 MiB and one": (
        "parameters_json",
        lambda it: create_run(it, parameters_json=f'"{"x" * (MIB - 1)}"'),
    ),
    "JSON in an update": (
        "flow_run.parameters_json",
        lambda it: update_run({"id": it.flow_run, "parameters_json": "x"}, "parameters_json"),
    ),
    # --- times and numbers ---
    "year 0": (
        "state.details.scheduled_time",
        lambda it: create_run(it, state=due(seconds=-62_135_596_801)),
    ),
    "year 10000": (
        "state.details.scheduled_time",
        lambda it: create_run(it, state=due(seconds=253_402_300_800)),
    ),
    "far beyond": (
        "state.details.scheduled_time",
        lambda it: create_task(state=due(seconds=2**62)),
    ),
    "negative nanos": ("state.details.scheduled_time", lambda it: create_task(state=due(nanos=-1))),
    "a second of nanos": (
        "state.details.scheduled_time",
        lambda it: create_task(state=due(nanos=10**9)),
    ),
    "a log's time": (
        "filter.since",
        lambda it: log_pb2.ListLogsRequest(
            run_id=it.flow_run,
            filter=log_pb2.LogFilter(since={"seconds": 10**15}),  # type: ignore
        ),
    ),
    "negative delay": (
        "retry_policy.delay",
        lambda it: create_run(it, retry_policy={"max_retries": 1, "delay": {"seconds": -1}}),
    ),
    "delay of centuries": (
        "retry_policy.delays[1]",
        lambda it: create_task(retry_policy={"delays": [{}, {"seconds": 10**11}]}),
    ),
    "51 delays": (
        "retry_policy.delays",
        lambda it: create_task(retry_policy={"delays": [{}] * 51}),
    ),
    "negative retries": (
        "retry_policy.max_retries",
        lambda it: create_run(it, retry_policy={"max_retries": -1}),
    ),
    "10,001 retries": (
        "retry_policy.max_retries",
        lambda it: create_task(retry_policy={"max_retries": 10_001}),
    ),
    "jitter that is no number": (
        "retry_policy.jitter_factor",
        lambda it: create_task(retry_policy={"jitter_factor": float("nan")}),
    ),
    "endless jitter": (
        "retry_policy.jitter_factor",
        lambda it: create_task(retry_policy={"jitter_factor": float("inf")}),
    ),
    "negative page size": ("page_size", lambda it: flow_pb2.ListFlowsRequest(page_size=-1)),
    "negative page size of a history": (
        "page_size",
        lambda it: flow_run_pb2.FlowRunServiceListStatesRequest(
            flow_run_id=it.flow_run, page_size=-(2**31)
        ),
    ),
    "negative page size of a log": (
        "page_size",
        lambda it: log_pb2.ListLogsRequest(run_id=it.flow_run, page_size=-1),
    ),
    "level beyond 100": (
        "filter.min_level",
        lambda it: log_pb2.ListLogsRequest(
            run_id=it.flow_run, filter=log_pb2.LogFilter(min_level=101)
        ),
    ),
    # --- text in logs ---
    "text that is empty": ("filter.text.substring", lambda it: list_logs(it, substring="")),
    "text without a pattern": ("filter.text", lambda it: list_logs(it, ignore_case=True)),
    "a long text": ("filter.text.regex", lambda it: list_logs(it, regex="é" * 501)),
    "no regular expression": ("filter.text.regex", lambda it: list_logs(it, regex="(a")),
    "a regular expression that looks back": (
        "filter.text.regex",
        lambda it: list_logs(it, regex="(?<=a)b"),
    ),
    "a large regular expression": (
        "filter.text.regex",
        lambda it: list_logs(it, regex="((a{100}){100}){100}"),
    ),
    "runs that are both named and described": (
        "run_ids",
        lambda it: log_pb2.SearchLogsRequest(run_ids=[it.flow_run], flow_runs={}),  # type: ignore
    ),
    "too many runs": ("run_ids", lambda it: log_pb2.SearchLogsRequest(run_ids=[AN_ID] * 501)),
    "a run that is no id": (
        "run_ids[1]",
        lambda it: log_pb2.SearchLogsRequest(run_ids=[AN_ID, "x"]),
    ),
    "a flow of runs that is no id": (
        "flow_runs.any_of[0].flow_ids[0]",
        lambda it: log_pb2.SearchLogsRequest(
            flow_runs=flow_run_pb2.FlowRunFilter(
                any_of=[flow_run_pb2.FlowRunFilter(flow_ids=["x"])]
            )
        ),
    ),
    **{
        f"{field} of {value}": (field, search_logs(field, value))
        for field, value in (
            *(("context_before", 101), ("context_before", -1), ("context_after", 101)),
            *(("max_matches", 100_001), ("max_matches", -1), ("max_scanned", -1)),
            *(("resume_token", "x"), ("resume_token", "AAAA"), ("resume_token", "é")),
        )
    },
    "a logger without a name": (
        "filter.loggers[1]",
        lambda it: log_pb2.ListLogsRequest(
            run_id=it.flow_run, filter=log_pb2.LogFilter(loggers=["a", ""])
        ),
    ),
    # --- enums, masks, etags, batches ---
    "no state": (
        "proposal.state",
        lambda it: flow_run_pb2.FlowRunServiceSetStateRequest(
            proposal=state_pb2.Proposal(run_id=it.flow_run)
        ),
    ),
    "no proposal": ("proposal", lambda it: flow_run_pb2.FlowRunServiceSetStateRequest()),
    "no state type": ("proposal.state.type", lambda it: set_state(it.flow_run, type=0)),
    "unknown state type": ("proposal.state.type", lambda it: set_state(it.flow_run, type=99)),
    "unknown state type in a filter": (
        "filter.state_types[0]",
        lambda it: flow_run_pb2.CountFlowRunsRequest(
            filter=flow_run_pb2.FlowRunFilter(state_types=[-1])  # type: ignore[list-item]
        ),
    ),
    "unknown order": ("order_by", lambda it: flow_run_pb2.ListFlowRunsRequest(order_by=99)),  # type: ignore[arg-type]
    "unknown order of flows": ("order_by", lambda it: flow_pb2.ListFlowsRequest(order_by=-1)),  # type: ignore[arg-type]
    "no mask": ("update_mask", lambda it: update_run({"id": it.flow_run, "name": "x"})),
    "unknown path": ("update_mask", lambda it: update_run({"id": it.flow_run}, "nome")),
    "path that can not be changed": (
        "update_mask",
        lambda it: update_run({"id": it.flow_run}, "name", "state"),
    ),
    "foreign etag": ("etag", lambda it: flow_pb2.DeleteFlowRequest(id=it.flow, etag="W/abc")),
    "etag beyond 64 bits": (
        "etag",
        lambda it: flow_run_pb2.DeleteFlowRunRequest(id=it.flow_run, etag="9" * 30),
    ),
    "no proposals": ("proposals", lambda it: flow_run_pb2.FlowRunServiceBatchSetStatesRequest()),
    "1,001 proposals": (
        "proposals",
        lambda it: flow_run_pb2.FlowRunServiceBatchSetStatesRequest(
            proposals=[set_state(it.flow_run).proposal] * 1001
        ),
    ),
    "one bad proposal of two": (
        "proposals[1].state.type",
        lambda it: flow_run_pb2.FlowRunServiceBatchSetStatesRequest(
            proposals=[set_state(it.flow_run).proposal, set_state(it.flow_run, type=0).proposal]
        ),
    ),
    "no creations": ("requests", lambda it: task_run_pb2.BatchCreateTaskRunsRequest()),
    "one bad creation of two": (
        "requests[1].task_key",
        lambda it: task_run_pb2.BatchCreateTaskRunsRequest(
            requests=[create_task(), create_task(task_key="")]
        ),
    ),
    # --- heartbeats ---
    "no heartbeats": ("heartbeats", lambda it: run_heartbeat_pb2.SendHeartbeatsRequest()),
    "1,001 heartbeats": ("heartbeats", lambda it: send(*[beat("flow_run", it.flow_run, 1)] * 1001)),
    "heartbeat of no run": (
        "heartbeats[1]",
        lambda it: send(beat("flow_run", it.flow_run, 1), run_heartbeat_pb2.Heartbeat(attempt=1)),
    ),
    "heartbeat of a malformed id": (
        "heartbeats[0].task_run_id",
        lambda it: send(beat("task_run", "42", 1)),
    ),
    "heartbeat of no attempt": (
        "heartbeats[0].attempt",
        lambda it: send(beat("flow_run", it.flow_run, 0)),
    ),
    "heartbeat without a timeout": (
        "heartbeats[0].timeout",
        lambda it: send(run_heartbeat_pb2.Heartbeat(flow_run_id=it.flow_run, attempt=1)),
    ),
    "heartbeat for 99 milliseconds": (
        "heartbeats[0].timeout",
        lambda it: send(beat("flow_run", it.flow_run, 1, timeout=0.099)),
    ),
    "heartbeat for more than a day": (
        "heartbeats[0].timeout",
        lambda it: send(beat("flow_run", it.flow_run, 1, timeout=86_400.001)),
    ),
    # --- logs in single calls ---
    "call without an id": ("id", lambda it: log_pb2.WriteLogsRequest(run_id=it.flow_run)),
    "call of no run": ("run_id", lambda it: log_pb2.WriteLogsRequest(id=AN_ID)),
    "call without records": (
        "records",
        lambda it: log_pb2.WriteLogsRequest(id=AN_ID, run_id=it.flow_run),
    ),
    "call of no record": ("records.messages", lambda it: write(it, messages=[])),
    "call of 10,001 records": ("records.messages", lambda it: write(it, messages=[""] * 10_001)),
    "call with a line of 1 MiB and one": (
        "records.messages[1]",
        lambda it: write(it, messages=["", "x" * (MIB + 1)]),
    ),
    "call without a time": ("records.base_time", lambda it: write(it, base_time=None)),
    "call from the year 0": (
        "records.time_offsets_us",
        lambda it: write(it, time_offsets_us=[0, -(2**62)]),
    ),
    "call with a level too few": ("records.levels", lambda it: write(it, levels=[20])),
    "call with a level beyond 100": ("records.levels", lambda it: write(it, levels=[20, 101])),
    "call with a logger that is not named": (
        "records.logger_indexes",
        lambda it: write(it, loggers=["a"], logger_indexes=[0, 1]),
    ),
    "call with a malformed task run": (
        "records.task_run_ids[1]",
        lambda it: write(it, task_run_ids=[it.task_run, "x"], task_run_indexes=[1, 2]),
    ),
    "call that goes on past its end": ("records.continued", lambda it: write(it, continued=[2])),
    # --- deleting logs ---
    "deleting the log of no run": ("run_id", lambda it: log_pb2.DeleteLogsRequest()),
    "deleting what came before the year 0": (
        "before",
        lambda it: log_pb2.DeleteLogsRequest(
            run_id=it.flow_run,
            before={"seconds": -62_135_596_801},  # type: ignore[arg-type]
        ),
    ),
    # --- steering ---
    "pause without a run": ("flow_run_id", lambda it: flow_run_pb2.FlowRunServicePauseRequest()),
    "malformed proposal id": (
        "proposal_id",
        lambda it: flow_run_pb2.FlowRunServiceCancelRequest(
            flow_run_id=it.flow_run, proposal_id="x"
        ),
    ),
    "negative pause": ("timeout", lambda it: pause(it, timeout={"seconds": -1})),
    "pause of 11 years": ("timeout", lambda it: pause(it, timeout={"seconds": 11 * 366 * 86_400})),
    "key of a pause of 501 bytes": ("pause_key", lambda it: pause(it, pause_key="x" * 501)),
    "schema that is no JSON": ("input_schema_json", lambda it: pause(it, input_schema_json="{")),
    "schema of 64 KiB and one": (
        "input_schema_json",
        lambda it: pause(it, input_schema_json="true".ljust(64 * 1024 + 1)),
    ),
    "schema with a pattern that is none": (
        "input_schema_json",
        lambda it: pause(it, input_schema_json='{"pattern": "("}'),
    ),
    "negative version": ("expected_version", lambda it: pause(it, expected_version=-1)),
    "input that is no JSON": (
        "input_json",
        lambda it: flow_run_pb2.FlowRunServiceResumeRequest(
            flow_run_id=it.flow_run, input_json="yes"
        ),
    ),
    "input of 256 KiB and one": (
        "input_json",
        lambda it: flow_run_pb2.FlowRunServiceResumeRequest(
            flow_run_id=it.flow_run, input_json="1".ljust(256 * 1024 + 1)
        ),
    ),
    "input of no key": (
        "pause_key",
        lambda it: flow_run_pb2.GetFlowRunInputRequest(flow_run_id=it.flow_run),
    ),
    # --- page tokens ---
    "foreign token": ("page_token", lambda it: flow_pb2.ListFlowsRequest(page_token="abc")),
    "token that is no base64": ("page_token", lambda it: flow_pb2.ListFlowsRequest(page_token="é")),
    "token of 1 MiB": ("page_token", lambda it: flow_pb2.ListFlowsRequest(page_token="A" * MIB)),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_with_the_path_of_its_field(
    stubs: Stubs, specimens: Specimens, case: str
) -> None:
    field, make = CASES[case]
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field):
        call(stubs, make(specimens))


def test_upper_case_ids_are_taken(stubs: Stubs, specimens: Specimens) -> None:
    found = call(stubs, flow_run_pb2.GetFlowRunRequest(id=specimens.flow_run.upper()))
    assert found.flow_run.id == specimens.flow_run


def test_ids_of_things_of_another_kind_are_not_found(stubs: Stubs, specimens: Specimens) -> None:
    with refused(StatusCode.NOT_FOUND, "FLOW_RUN_NOT_FOUND"):
        call(stubs, flow_run_pb2.GetFlowRunRequest(id=specimens.task_run))
    with refused(StatusCode.NOT_FOUND, "TASK_RUN_NOT_FOUND"):
        call(stubs, task_run_pb2.GetTaskRunRequest(id=specimens.flow_run))
    with refused(StatusCode.NOT_FOUND, "FLOW_RUN_NOT_FOUND"):
        call(stubs, set_state(specimens.task_run))
    with refused(StatusCode.NOT_FOUND, "FLOW_NOT_FOUND"):
        call(stubs, create_run(specimens, flow_id=specimens.flow_run))


@pytest.mark.parametrize(
    "position",
    [
        [],
        [1],
        ["x", AN_ID],
        [2**63, AN_ID],
        [-(2**63) - 1, AN_ID],
        [1.5, AN_ID],
        [True, AN_ID],
        [None, AN_ID],
        [1, "x"],
        [1, "\0"],
        [1, AN_ID, 1],
        [[1], AN_ID],
        {"a": 1},
    ],
    ids=repr,
)
def test_a_forged_page_token_is_refused(stubs: Stubs, specimens: Specimens, position: Any) -> None:
    run_id = specimens.flow_run
    request = flow_run_pb2.FlowRunServiceListStatesRequest(flow_run_id=run_id, page_size=1)
    real = call(stubs, request).next_page_token
    made_for, *_ = json.loads(base64.urlsafe_b64decode(real))
    content = json.dumps([made_for, *position] if isinstance(position, list) else position)
    request.page_token = base64.urlsafe_b64encode(content.encode()).decode()
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "page_token"):
        call(stubs, request)


def test_a_message_beyond_the_limit_is_refused_by_its_size(stubs: Stubs) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs.flows.CreateFlow(flow_pb2.CreateFlowRequest(name="x" * 16 * MIB))
    refusal = refusal_of(caught.value)
    assert refusal.code is StatusCode.RESOURCE_EXHAUSTED
    assert str(16 * MIB) in refusal.message


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"\x0a\x05abc",
        b"\x0a\x01\xff",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"x",
    ],
    ids=repr,
)
def test_bytes_that_are_no_protobuf_are_refused(stubs: Stubs, data: bytes) -> None:
    raw = stubs.channel.unary_unary("/interlock.v1.FlowService/CreateFlow")  # type: ignore[var-annotated]
    with refused(StatusCode.INVALID_ARGUMENT, "UNDECODABLE"):
        raw(data)
    stream = stubs.channel.unary_stream("/interlock.v1.LogService/TailLogs")  # type: ignore[var-annotated]
    with refused(StatusCode.INVALID_ARGUMENT, "UNDECODABLE"):
        list(stream(data))
    both = stubs.channel.stream_stream("/interlock.v1.LogService/AppendLogs")  # type: ignore[var-annotated]
    with refused(StatusCode.INVALID_ARGUMENT, "UNDECODABLE"):
        list(both(iter([data])))


def test_there_are_no_other_methods(stubs: Stubs) -> None:
    for path in (
        "/interlock.v1.FlowService/Nothing",
        "/interlock.admin.v1.MigrationService/Upgrade",
    ):
        raw = stubs.channel.unary_unary(path)  # type: ignore[var-annotated]
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"")
        assert refusal_of(caught.value).code is StatusCode.UNIMPLEMENTED


def test_a_resume_token_is_bound_to_its_search(stubs: Stubs, specimens: Specimens) -> None:
    request = log_pb2.SearchLogsRequest(run_ids=[specimens.flow_run], max_matches=1)
    (*_, last) = call(stubs, request)
    assert last.end == log_pb2.SEARCH_END_ENOUGH_MATCHES
    request.resume_token, request.max_matches = last.resume_token, 2
    call(stubs, request)
    request.context_after = 1
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "resume_token"):
        call(stubs, request)
