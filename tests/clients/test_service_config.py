from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import MethodOptions
from interlock import service_config, v1
from interlock.v1 import (
    deployment_pb2,
    flow_pb2,
    flow_run_pb2,
    log_pb2,
    run_event_pb2,
    run_heartbeat_pb2,
    server_pb2,
    task_run_pb2,
)

from tests.clients.fake_server import FakeServer

FILES = (
    flow_pb2,
    deployment_pb2,
    flow_run_pb2,
    task_run_pb2,
    run_event_pb2,
    run_heartbeat_pb2,
    log_pb2,
    server_pb2,
)
WITH_IDS = {
    "FlowRunService.CreateFlowRun",
    "FlowRunService.SetState",
    "FlowRunService.BatchSetStates",
    "FlowRunService.Pause",
    "FlowRunService.Resume",
    "FlowRunService.Cancel",
    "TaskRunService.CreateTaskRun",
    "TaskRunService.BatchCreateTaskRuns",
    "TaskRunService.SetState",
    "TaskRunService.BatchSetStates",
}


def methods() -> dict[str, Any]:
    return {
        f"{service.name}.{method.name}": method
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def configured(config: str) -> dict[str, dict[str, Any]]:
    answer: dict[str, dict[str, Any]] = {}
    for entry in json.loads(config)["methodConfig"]:
        for name in entry["name"]:
            key = f"{name['service'].removeprefix('interlock.v1.')}.{name['method']}"
            assert key not in answer
            answer[key] = entry
    return answer


def test_every_method_is_configured_and_only_what_can_be_repeated_is_retried() -> None:
    config = configured(service_config())
    assert set(config) == set(methods()) - {"LogService.AppendLogs"}
    reads = {
        name
        for name, method in methods().items()
        if method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    }
    retried = {name for name, entry in config.items() if "retryPolicy" in entry}
    assert retried == reads | {
        "FlowService.CreateFlow",
        "RunHeartbeatService.SendHeartbeats",
        "DeploymentService.CreateDeployment",
        "LogService.WriteLogs",
        "ServerService.GetServerInfo",
    }
    assert {name for name, entry in config.items() if "timeout" not in entry} == {
        "LogService.SearchLogs",
        "LogService.TailLogs",
        "RunEventService.WatchRuns",
    }


def test_with_ids_of_their_own_creations_and_proposals_are_retried_too() -> None:
    without = {n for n, entry in configured(service_config()).items() if "retryPolicy" in entry}
    config = configured(service_config(client_ids=True))
    assert {n for n, entry in config.items() if "retryPolicy" in entry} == without | WITH_IDS


@pytest.mark.parametrize("client_ids", [False, True])
def test_grpc_does_what_it_says(server: FakeServer, client_ids: bool) -> None:
    options = [("grpc.service_config", service_config(client_ids=client_ids))]
    with grpc.insecure_channel(server.target, options=options) as channel:
        flows, runs = v1.FlowServiceStub(channel), v1.FlowRunServiceStub(channel)
        server.fail("CreateFlow", grpc.StatusCode.UNAVAILABLE, times=2)
        flow = flows.CreateFlow(v1.CreateFlowRequest(name="x", id="1")).flow
        assert server.calls["CreateFlow"] == 3
        server.fail("CreateFlowRun", grpc.StatusCode.UNAVAILABLE, times=1)
        request = v1.CreateFlowRunRequest(flow_id=flow.id, id="2")
        if client_ids:
            assert runs.CreateFlowRun(request).flow_run.id == "2"
        else:
            with pytest.raises(grpc.RpcError):
                runs.CreateFlowRun(request)
