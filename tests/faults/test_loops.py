"""The loops and what happens to them: servers that die, outages, clocks that are set."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from interlock.admin.v1 import maintenance_pb2
from interlock.admin.v1.maintenance_pb2_grpc import MaintenanceServiceStub
from interlock.v1 import run_heartbeat_pb2

from tests.support.heartbeats import beat, beats
from tests.support.postgresql import Postgresql
from tests.support.runs import CRASHED, RUNNING, FlowRuns, make_flow_run, until
from tests.support.servers import ServerProcess, server_on
from tests.support.stubs import Stubs, connected

HOUR = 3600 * 1_000_000
"""In microseconds."""

TICK = {"INTERLOCK_LOOPS_PERIOD": "0.5"}
CONTINUE = run_heartbeat_pb2.HEARTBEAT_ADVICE_CONTINUE


class Clock:
    """The clock of a server's database, which can be set."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.ahead = 0
        self.set(0)

    def set(self, ahead: int) -> None:
        """Set it ahead of this machine's clock, by so many microseconds."""
        self.ahead = ahead
        written = self.file.with_suffix(".new")
        written.write_text(str(ahead))
        written.replace(self.file)

    def now(self) -> int:
        return time.time_ns() // 1000 + self.ahead


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "skew")


@pytest.fixture(scope="module", params=["sqlite_324", "postgresql_18"])
def server(request: pytest.FixtureRequest, clock: Clock) -> Iterator[ServerProcess]:
    clock.set(0)
    environment = {**TICK, "INTERLOCK_CLOCK_SKEW_FILE": str(clock.file)}
    with server_on(request, request.param, environment) as server:
        until(lambda: running(server))
        yield server
        server.stop()
        assert "loop_failed" not in server.log


def running(server: ServerProcess) -> bool:
    """Whether this server's loops run."""
    with grpc.insecure_channel(server.admin_target) as channel:
        stub = MaintenanceServiceStub(channel)
        return stub.ListLoops(maintenance_pb2.ListLoopsRequest()).running


def watched(stubs: Stubs, timeout: float) -> str:
    """A run of which one heartbeat came."""
    run_id = make_flow_run(stubs, state={"type": RUNNING}).id
    (outcome,) = beats(stubs, beat("flow_run", run_id, 1, timeout=timeout))
    assert outcome.answer.advice == CONTINUE
    return run_id


def crashed(stubs: Stubs, run_id: str) -> Callable[[], bool]:
    return lambda: FlowRuns(stubs).get(run_id).state.type == CRASHED


def died_at(stubs: Stubs, run_id: str) -> int:
    """Wait until a run has crashed; answer when, by the database's clock."""
    until(crashed(stubs, run_id))
    line = FlowRuns(stubs).history(run_id)[-1]
    assert line.reason == "HEARTBEAT_LOST"
    return line.decide_time.ToMicroseconds()


def test_a_clock_set_forward_kills_nobody_who_is_alive(server: ServerProcess, clock: Clock) -> None:
    with connected(server.target) as stubs:
        alive, silent = watched(stubs, 60), watched(stubs, 1.0)
        clock.set(HOUR)
        jumped = clock.now()
        # The one that is silent has a timeout more, from when the jump was noticed on.
        assert died_at(stubs, silent) >= jumped + 1_000_000
        assert FlowRuns(stubs).get(alive).state.type == RUNNING


def test_a_clock_set_back_lets_nobody_live_for_ever(server: ServerProcess, clock: Clock) -> None:
    with connected(server.target) as stubs:
        alive, silent = watched(stubs, 60), watched(stubs, 1.0)
        clock.set(-HOUR)
        died_at(stubs, silent)
        assert FlowRuns(stubs).get(alive).state.type == RUNNING


def test_an_outage_gives_one_more_timeout(server: ServerProcess, clock: Clock) -> None:
    with connected(server.target) as stubs:
        silent, lucky = watched(stubs, 2.0), watched(stubs, 20.0)
    server.kill()
    clock.set(clock.ahead + HOUR)
    away = clock.now()
    server.start()
    with connected(server.target) as stubs:
        (outcome,) = beats(stubs, beat("flow_run", lucky, 1))
        assert outcome.answer.advice == CONTINUE
        assert died_at(stubs, silent) >= away + 2_000_000
        assert FlowRuns(stubs).get(lucky).state.type == RUNNING


def test_of_two_servers_one_runs_the_loops_and_the_other_follows(
    postgresql_18: Postgresql,
) -> None:
    with postgresql_18.database() as url, ExitStack() as stack:
        one, other = (stack.enter_context(ServerProcess(url, environment=TICK)) for _ in range(2))
        until(lambda: running(one) or running(other))
        holder, heir = (one, other) if running(one) else (other, one)
        assert not running(heir)
        with connected(heir.target) as stubs:
            first = watched(stubs, 0.2)
            died_at(stubs, first)
            assert not running(heir)
            second = watched(stubs, 0.2)
            holder.kill()
            died_at(stubs, second)
            assert running(heir)
            # Once, and by one of them.
            reasons = [line.reason for line in FlowRuns(stubs).history(second)]
            assert reasons.count("HEARTBEAT_LOST") == 1


def test_a_server_that_stops_leaves_the_loops_to_the_next_at_once(tmp_path: Path) -> None:
    # By itself its term would last for minutes.
    patient = {"INTERLOCK_LOOPS_PERIOD": "300"}
    with ServerProcess(environment=patient) as server:
        until(lambda: running(server))
        server.restart()
        until(lambda: running(server))
