"""The client works with the oldest gRPC and protobuf that it says it works with."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import grpc
import pytest
from interlock import v1

from tests.clients.fake_server import FakeServer

ROOT = Path(__file__).resolve().parents[2]
FLOOR = ROOT / "constraints-floor.txt"
PACKAGES = ("grpcio", "protobuf", "googleapis-common-protos", "typing-extensions")

CONVERSATION = """
    import asyncio, json, logging, sys
    from importlib.metadata import version
    import interlock
    from interlock import AsyncClient, Client, InterlockHandler, NotFound, RetryPolicy

    handler = InterlockHandler()
    logging.basicConfig(level="INFO", handlers=[handler])

    def double(number):
        if not logged:
            logged.append(number)
            raise ValueError("once")
        return 2 * number

    logged = []
    with Client(retry=RetryPolicy(initial_delay=0.01)) as client:
        with client.flow_run("nightly", parameters={"a": 1}) as run:
            logging.info("hello")
            assert run.run_task(double, 21, retries=1) == 42
        assert [each.id for each in client.list_flow_runs()] == [run.id]
        try:
            client.get_flow_run("none")
        except NotFound as error:
            assert error.reason == "FLOW_RUN_NOT_FOUND"
    assert handler.flush(10)

    async def main():
        async with AsyncClient() as client:
            return [record.message async for record in client.tail_logs(run.id)]

    lines = asyncio.run(main())
    handler.close()
    print(json.dumps({"run": run.id, "first": lines[0], "grpcio": version("grpcio"),
                      "protobuf": version("protobuf")}))
    """


def floor_python() -> Path:
    """Answer the interpreter of an environment at the floor, made once for these constraints."""
    cache = Path(os.environ.get("INTERLOCK_TEST_CACHE") or ROOT / ".cache")
    recipe = FLOOR.read_bytes() + repr((PACKAGES, sys.version_info[:2])).encode()
    folder = cache / f"floor-{hashlib.sha256(recipe).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(FLOOR), *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the floor can not be installed here: {done.stderr[-500:]}")
        ready.touch()
    return python


@pytest.mark.timeout(300)
def test_the_client_works_at_the_floor(server: FakeServer) -> None:
    server.fail("CreateFlow", grpc.StatusCode.UNAVAILABLE)
    server.tail_end = v1.TAIL_END_DRAINED
    done = subprocess.run(
        [str(floor_python()), "-c", textwrap.dedent(CONVERSATION)],
        env={
            **os.environ,
            "INTERLOCK_TARGET": server.target,
            "PYTHONPATH": str(ROOT / "clients" / "python"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"first": "hello"' in done.stdout
    pinned = dict(line.split("==") for line in FLOOR.read_text().splitlines() if "==" in line)
    assert f'"grpcio": "{pinned["grpcio"]}"' in done.stdout
    assert f'"protobuf": "{pinned["protobuf"]}"' in done.stdout
    [run] = server.flow_runs.values()
    assert run.state.type == v1.STATE_TYPE_COMPLETED
