"""Server processes start, stop, die and come back as tests are told they do."""

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from interlock.admin.v1.migration_pb2 import GetStatusRequest
from interlock.admin.v1.migration_pb2_grpc import MigrationServiceStub
from interlock.v1.flow_pb2 import CreateFlowRequest, GetFlowRequest
from interlock_server.storage import failpoints

from tests.support.servers import QUIET, ServerFailed, ServerProcess, sqlite_url
from tests.support.stubs import Stubs, connected


def test_every_dialects_server_serves(dialect_server: ServerProcess, stubs: Stubs) -> None:
    answer = stubs.health.Check(HealthCheckRequest())
    assert answer.status == HealthCheckResponse.SERVING
    with grpc.insecure_channel(dialect_server.admin_target) as channel:
        assert MigrationServiceStub(channel).GetStatus(GetStatusRequest()).servable


def test_what_is_acknowledged_outlasts_a_kill_and_a_restart() -> None:
    with ServerProcess() as server, connected(server.target) as stubs:
        made = stubs.flows.CreateFlow(CreateFlowRequest(name="kept"))
        server.kill()
        server.start()
        first = stubs.flows.GetFlow(GetFlowRequest(name="kept"), wait_for_ready=True, timeout=20)
        server.restart()
        second = stubs.flows.GetFlow(GetFlowRequest(name="kept"), wait_for_ready=True, timeout=20)
        assert first.flow == second.flow == made.flow


def test_a_server_that_runs_can_be_told_where_to_die() -> None:
    # Loops commit, too.
    with ServerProcess(environment=QUIET) as server, connected(server.target) as stubs:
        server.arm(f"{failpoints.AFTER_COMMIT}=crash:2")
        stubs.flows.CreateFlow(CreateFlowRequest(name="lives"))
        with pytest.raises(grpc.RpcError):
            stubs.flows.CreateFlow(CreateFlowRequest(name="kept"))
        server.wait_for_death()
        server.start()
        request = GetFlowRequest(name="kept")
        assert stubs.flows.GetFlow(request, wait_for_ready=True, timeout=20).flow.name == "kept"


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    server = ServerProcess(sqlite_url(tmp_path))
    with pytest.raises(ServerFailed, match=f"{tmp_path} can not be opened"), server:
        pass


def test_a_server_does_not_outlive_its_owner() -> None:
    program = """
import sys
from tests.support.servers import ServerProcess
server = ServerProcess()
server.start()
print(server.pid, server.home, flush=True)
sys.stdin.read()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    pid, home = owner.stdout.readline().split()
    watched = os.pidfd_open(int(pid))

    owner.kill()
    owner.wait()

    assert select.select([watched], [], [], 10)[0], "the server still runs"
    os.close(watched)
    shutil.rmtree(home)
