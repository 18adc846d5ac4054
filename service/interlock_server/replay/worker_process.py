"""A worker that is a process of its own: `python -m interlock_server.replay.worker_process`.

It reads lines of JSON: first its `Settings`, answered by `{"ready": true}` once it can begin; then
`{"play": TASK_ID, "run_id": ID}` for each task, answered by `{"run_id": ID, "problem": TEXT}` or
`{"run_id": ID, "error": TEXT}`; at last `{"finish": true}`, answered by `{"undelivered": LINES}`.
Where its input ends without that, its owner is gone, and it drops everything.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from interlock import AsyncClient, InterlockError

from interlock_server.replay.detect import load
from interlock_server.replay.script import Script, write_script
from interlock_server.replay.worker import TIMEOUT, Settings, Worker


async def run() -> None:
    """Do what the standard input says, until it ends."""
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    settings = Settings(**json.loads(await orders.readline()))
    scripts = {task.id: write_script(task) for task in load(Path(settings.trace)).tasks}
    playing: set[asyncio.Task[None]] = set()
    async with AsyncClient(settings.target, timeout=TIMEOUT) as client:
        worker = Worker(client, settings)
        _answer({"ready": True})
        async for line in orders:
            order = json.loads(line)
            if "finish" in order:
                await asyncio.gather(*playing)
                _answer({"undelivered": await worker.finish()})
                return
            script = scripts[order["play"]]
            task = asyncio.create_task(_play(worker, script, order["run_id"], settings.name))
            playing.add(task)
            task.add_done_callback(playing.discard)
    # The owner is gone. There is nobody to deliver anything for.
    os._exit(1)


async def _play(worker: Worker, script: Script, run_id: str, name: str) -> None:
    try:
        problem = await worker.play(script, run_id, name)
    except InterlockError as error:
        _answer({"run_id": run_id, "error": str(error)})
    else:
        _answer({"run_id": run_id, "problem": problem})


def _answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(run())
