"""Plays a trace against a server, as a fleet would, and reads back what the server made of it.

The player is the workflow system: it makes the flow run and its task runs, submits each task when
its parents are through (`schedule`), and has a pool of workers play what follows (`script`). At the
end it asks the server for all that it told it (`readback`) and compares (`expectation`).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from interlock import AsyncClient, InterlockError, states, uuid7
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.task_run_pb2 import CreateTaskRunRequest

from interlock_server.replay.expectation import Check, compare
from interlock_server.replay.outcome import end_of
from interlock_server.replay.pool import LocalPool, Pool, ProcessPool, WorkerProcessError
from interlock_server.replay.readback import read_back
from interlock_server.replay.schedule import Schedule
from interlock_server.replay.script import CREATED, Line, write_script
from interlock_server.replay.trace import Attempt, Trace, TraceTask
from interlock_server.replay.worker import TIMEOUT, Settings, Worker

_PATIENCE = 5.0
"""Seconds that a server has for its first answer."""
_MOST_PARENTS = 100
"""Of how many parents a task run's inputs tell the ids: a thousand task runs go in one message."""
_PARTING = 2.0
"""Seconds that a replay that was broken off may take to say so to the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a trace is played."""

    target: str
    """Where the server is."""
    workers: int
    """How many tasks may run at once."""
    processes: int
    """How many processes the workers live in; 1: this one."""
    time_scale: float
    """Seconds of the replay for each second of the trace; 0: as fast as it goes."""
    name: str = ""
    """The flow run's name; empty: the server makes one."""
    logs: bool = True


@dataclass(slots=True)
class Progress:
    """How far a replay has come."""

    total: int
    """How many tasks are to be played; those that never ran are not."""
    stage: str = "creating task runs"
    running: int = 0
    ended: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a replay."""

    flow_run_id: str
    flow_run_name: str
    end: tuple[str, str]
    """The type of the flow run's last state, and its message."""
    play_seconds: float
    """How long the tasks took, from the first submission to the last end."""
    states: int
    """How many states of task runs the server was to write."""
    problems: tuple[str, ...]
    """What went otherwise than it should while it was played."""
    checks: tuple[Check, ...]

    @property
    def agrees(self) -> bool:
        """Whether the server tells exactly what the trace says."""
        return not self.problems and all(check.agrees for check in self.checks)


async def replay(
    path: Path, trace: Trace, options: Options, tell: Callable[[Progress], None]
) -> Report:
    """Play a trace and check what came of it.

    Args:
        path: of the trace's file, which worker processes read, too.
        trace: what is in it.
        options: how.
        tell: called whenever the replay has come further.

    Raises:
        InterlockError: the server could not be reached for long, or refused what was asked.
        WorkerProcessError: a worker process ended before its work.
    """
    async with AsyncClient(options.target, timeout=TIMEOUT, proposed_by="replay") as client:
        return await _Player(client, path, trace, options, tell).run()


class _Player:
    def __init__(
        self,
        client: AsyncClient,
        path: Path,
        trace: Trace,
        options: Options,
        tell: Callable[[Progress], None],
    ) -> None:
        self._client = client
        self._path = path
        self._trace = trace
        self._options = options
        self._tell = tell
        self._scripts = {task.id: write_script(task) for task in trace.tasks}
        self._run_ids = {task.id: uuid7() for task in trace.tasks}
        self._progress = Progress(total=sum(1 for task in trace.tasks if task.attempts))
        self._problems: list[str] = []
        self._began = 0.0

    async def run(self) -> Report:
        flow_run = await self._create_flow_run()
        settings = Settings(
            trace=str(self._path),
            target=self._options.target,
            flow_run_id=flow_run.id,
            time_scale=self._options.time_scale,
            logs=self._options.logs,
        )
        first_lines, last_line = self._own_lines()
        end = end_of(self._trace)
        worker = Worker(self._client, settings)
        try:
            await self._create_task_runs(flow_run.id)
            await self._client.set_flow_run_state(flow_run.id, states.running())
            worker.write(first_lines)
            async with self._pool(worker, settings) as pool:
                seconds = await self._play(worker, pool)
                self._come_to("delivering logs")
                undelivered = await pool.finish()
            worker.write([last_line])
            undelivered += await worker.finish()
            if undelivered:
                self._problems.append(f"{undelivered} log lines could not be delivered")
            await self._client.set_flow_run_state(flow_run.id, end[0], message=end[1])
        except BaseException as reason:
            await self._give_up(flow_run.id, reason)
            raise
        self._come_to("reading back")
        seen = await read_back(self._client, flow_run.id, self._run_ids)
        checks = compare(
            self._trace,
            self._scripts,
            seen,
            own_lines=(*first_lines, last_line),
            logs=self._options.logs,
        )
        self._come_to("done")
        return Report(
            flow_run_id=flow_run.id,
            flow_run_name=flow_run.name,
            end=end,
            play_seconds=seconds,
            states=sum(len(script.states) for script in self._scripts.values()),
            problems=tuple(self._problems),
            checks=tuple(checks),
        )

    async def _create_flow_run(self) -> FlowRun:
        client, options, trace = self._client, self._options, self._trace
        # Whoever starts a replay waits for an answer; later a server may be away for longer.
        await client.with_timeout(_PATIENCE).get_server_info()
        return await client.create_flow_run(
            await client.create_flow(trace.name),
            name=options.name,
            parameters={
                "file": self._path.name,
                "format": trace.source_format,
                "time_scale": options.time_scale,
                "workers": options.workers,
                "processes": options.processes,
            },
            tags=["replay"],
        )

    async def _create_task_runs(self, flow_run_id: str) -> None:
        answers = await self._client.create_task_runs(
            self._task_run(task, flow_run_id) for task in self._trace.tasks
        )
        for answer in answers:
            if isinstance(answer, InterlockError):
                raise answer

    def _task_run(self, task: TraceTask, flow_run_id: str) -> CreateTaskRunRequest:
        script = self._scripts[task.id]
        parents = [self._run_ids[parent] for parent in task.parents]
        inputs = {"parents": parents} if len(parents) <= _MOST_PARENTS else {}
        return self._client.new_task_run(
            task.name,
            flow_run=flow_run_id,
            dynamic_key=task.id,
            name=task.name,
            state=CREATED[0],
            retries=script.retries,
            retry_delay=[delay * self._options.time_scale for delay in script.retry_delays],
            inputs=inputs,
            run_id=self._run_ids[task.id],
        )

    def _pool(self, worker: Worker, settings: Settings) -> AbstractAsyncContextManager[Pool]:
        workers, processes = self._options.workers, self._options.processes
        if processes > 1:
            return ProcessPool(processes, workers, settings)
        return LocalPool(worker, self._scripts, workers)

    async def _play(self, worker: Worker, pool: Pool) -> float:
        """Play all tasks; answer how many seconds that took."""
        self._began = time.monotonic()
        schedule = Schedule(self._trace.tasks, self._options.time_scale)
        changed = asyncio.Event()
        self._come_to("playing")
        try:
            async with asyncio.TaskGroup() as group:
                while not schedule.is_over:
                    for task in schedule.take_due(self._now):
                        group.create_task(self._run_task(task, worker, pool, schedule, changed))
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), schedule.seconds_to_next(self._now))
                    changed.clear()
        except* (InterlockError, WorkerProcessError) as failures:
            raise failures.exceptions[0] from None
        return self._now

    async def _run_task(
        self,
        task: TraceTask,
        worker: Worker,
        pool: Pool,
        schedule: Schedule,
        changed: asyncio.Event,
    ) -> None:
        run_id = self._run_ids[task.id]
        problem = await worker.submit(self._scripts[task.id], run_id)
        if not problem:
            await self._sleep_until_begin(task.attempts[0])
            problem = await pool.play(task.id, run_id)
        if problem:
            self._problems.append(f"task {task.id}: {problem}")
        schedule.end(task.id)
        changed.set()
        self._progress.ended += 1
        self._progress.running = pool.busy
        self._tell(self._progress)

    async def _sleep_until_begin(self, attempt: Attempt) -> None:
        """Wait until the time at which a worker took the attempt, where the source has one."""
        begin = attempt.started if attempt.started is not None else attempt.ended
        wait = (begin or 0.0) * self._options.time_scale - self._now
        if wait > 0:
            await asyncio.sleep(wait)

    def _own_lines(self) -> tuple[list[Line], Line]:
        """The lines of the flow run's own log: before the tasks', and after them."""
        trace = self._trace
        words = f"replay of {trace.name} ({trace.source_format}), {len(trace.tasks)} tasks"
        first = [Line(logging.INFO, words), *(Line(logging.INFO, note) for note in trace.notes)]
        return first, Line(logging.INFO, end_of(trace)[1])

    async def _give_up(self, flow_run_id: str, reason: BaseException) -> None:
        """Tell the server that nobody plays this any more, if it can be told."""
        client = self._client.with_timeout(_PARTING)
        state = states.crashed(f"the replay broke off: {reason or type(reason).__name__}")
        if isinstance(reason, asyncio.CancelledError):
            state = states.cancelled("the replay was interrupted")
        with contextlib.suppress(InterlockError):
            await client.set_flow_run_state(flow_run_id, state)

    def _come_to(self, stage: str) -> None:
        self._progress.stage = stage
        self._progress.running = 0
        self._tell(self._progress)

    @property
    def _now(self) -> float:
        """Seconds since the playing began."""
        return time.monotonic() - self._began
