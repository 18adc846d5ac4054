"""How soon a server serves, and how much memory it has while nothing happens."""

from __future__ import annotations

import time
from statistics import median

from interlock.v1 import server_pb2

from benchmarks.content import make_running_runs
from benchmarks.databases import Databases
from benchmarks.processes import plain_interlock_server, resident_bytes
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread
from tests.support.stubs import connected

_RUNS = 500


def measure_start(databases: Databases, scale: Scale) -> list[Result]:
    """Measure from the command to the first answered call, on a database that has been used."""
    url = databases.new()
    with plain_interlock_server(url) as server:
        make_running_runs(server, _RUNS)
    seconds, cpu, memory = [], [], []
    for _ in range(scale.starts):
        began = time.monotonic()
        with plain_interlock_server(url) as server, connected(server.target) as stubs:
            stubs.server.GetServerInfo(server_pb2.GetServerInfoRequest(), wait_for_ready=True)
            seconds.append(time.monotonic() - began)
            cpu.append(server.cpu_seconds())
            memory.append(resident_bytes(server.pid) / 1024 / 1024)
    return [
        Result(
            "start to serving",
            databases.dialect,
            "s",
            Spread.of(seconds),
            target=Target(1.5, "value", at_most=True),
            details={"CPU s": median(cpu)},
        ),
        Result("memory, idle", databases.dialect, "MiB", Spread.of(memory)),
    ]
