"""A fleet of producers of logs: lines like those of real logs, batches for many runs a stream."""

from __future__ import annotations

import asyncio
import random
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from interlock import AsyncClient
from interlock.log_columns import Line, pack
from interlock.logs import LogWriter
from interlock.v1.log_pb2 import AppendLogsRequest

from benchmarks.log_lines import Line as LogLine
from benchmarks.log_lines import LogLines
from tests.faults.load import PATIENCE
from tests.faults.log_digests import LogDigests, read_back
from tests.faults.producer import WINDOW, BatchProducer
from tests.faults.readback import check_database
from tests.support.servers import ServerProcess

PRODUCERS = 8
_SHARED, _OWN = 4, 3
"""How many logs all producers write to, and how many each one has for itself."""


class FleetLines:
    """What one of a fleet has to say: each part is noted in the digests before it is given out."""

    def __init__(self, fleet: Fleet, place: int, run_ids: Sequence[str]) -> None:
        self._name = f"worker-{place}"
        self._fleet = fleet
        self._run_ids = run_ids
        self._lines = LogLines(seed=place)
        self._random = random.Random(place)
        if self._lines.source.startswith("built-in"):
            warnings.warn("REAL LOGS NOT USED: lines come from built-in templates", stacklevel=1)

    def take(self, lines: int, largest: int) -> Iterator[tuple[str, list[LogLine]]]:
        """Make so many lines, in parts of at most `largest`, each for a run of its own."""
        while lines > 0:
            count = min(lines, self._random.randint(1, largest))
            lines -= count
            run_id = self._random.choice(self._run_ids)
            taken = [
                (time, level, f"{self._name}.{logger}", message, task_run_id, goes_on)
                for time, level, logger, message, task_run_id, goes_on in self._lines.take(count)
            ]
            self._fleet.sent.add(run_id, taken)
            yield run_id, taken


class FleetProducer(BatchProducer):
    """One of a fleet that speaks the protocol itself."""

    def __init__(self, fleet: Fleet, lines: FleetLines) -> None:
        super().__init__(fleet.note, window=fleet.window)
        self.batch_runs: dict[int, str] = {}
        """Whose log each batch is for."""
        self.lines_done = 0
        """How many lines are durable, or refused."""
        self._lines = lines

    async def run(self, target: str, lines: int, largest: int) -> None:
        """Send so many lines in batches of at most `largest`; return when all are answered."""
        await self.send(target, self._batches(lines, largest), PATIENCE)

    def _batches(self, lines: int, largest: int) -> Iterator[AppendLogsRequest]:
        for number, (run_id, taken) in enumerate(self._lines.take(lines, largest), 1):
            self.batch_runs[number] = run_id
            yield AppendLogsRequest(number=number, run_id=run_id, records=pack(taken))

    def _on_answer(self, request: AppendLogsRequest) -> None:
        super()._on_answer(request)
        self.lines_done += len(request.records.messages)


class FleetWriter:
    """One of a fleet that uses the client's writer, in a thread of its own."""

    def __init__(self, fleet: Fleet, lines: FleetLines) -> None:
        self.lines_done = 0
        """How many lines are written: durable, or in the writer's bounded queue."""
        self._fleet = fleet
        self._lines = lines

    async def run(self, target: str, lines: int, largest: int) -> None:
        """Write so many lines, runs taking turns; return when all are durable."""
        loop = asyncio.get_running_loop()

        def write() -> None:
            with LogWriter(target, close_timeout=PATIENCE, max_queue_records=10_000) as writer:
                for run_id, taken in self._lines.take(lines, largest):
                    for line in taken:
                        writer.write(run_id, Line(*line))
                    self.lines_done += len(taken)
                    loop.call_soon_threadsafe(self._fleet.note)

        # Not a thread of the loop's own few: whoever restarts the server needs one.
        with ThreadPoolExecutor(1) as thread:
            await loop.run_in_executor(thread, write)


def small_fleet() -> Fleet:
    """A fleet that takes as long for its work as the clients of a short `Load`, about."""
    return Fleet(16_000, largest=40, window=2)


class Fleet:
    """Producers, the runs that they write to, and digests of all that they send."""

    def __init__(self, lines: int, largest: int, window: int = WINDOW) -> None:
        """Plan so many lines, all together, in batches of at most `largest`.

        `window` is how many batches of a producer are under way.
        """
        self.lines = lines
        self.window = window
        self.sent = LogDigests()
        self.producers: list[FleetProducer] = []
        """Those that speak the protocol."""
        self.shared_run_ids: list[str] = []
        """The runs to which all producers write."""
        self._largest = largest
        self._members: Sequence[FleetProducer] | Sequence[FleetWriter] = ()
        self._milestones: list[tuple[float, asyncio.Event]] = []

    async def work(self, target: str) -> None:
        """Send all lines; return when all are answered."""
        await self._run(target, [FleetProducer(self, lines) for lines in await self._plan(target)])

    async def write(self, target: str) -> None:
        """Write all lines by the client's writers; return when all are durable."""
        await self._run(target, [FleetWriter(self, lines) for lines in await self._plan(target)])

    async def _plan(self, target: str) -> list[FleetLines]:
        async with AsyncClient(target, timeout=PATIENCE) as client:
            flow = await client.create_flow("fleet")

            async def make(count: int) -> list[str]:
                return [(await client.create_flow_run(flow)).id for _ in range(count)]

            self.shared_run_ids = await make(_SHARED)
            return [
                FleetLines(self, place, [*self.shared_run_ids, *await make(_OWN)])
                for place in range(PRODUCERS)
            ]

    async def _run(
        self, target: str, members: Sequence[FleetProducer] | Sequence[FleetWriter]
    ) -> None:
        self._members = members
        self.producers = [member for member in members if isinstance(member, FleetProducer)]
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(member.run(target, self.lines // PRODUCERS, self._largest))

    async def reaches(self, share: float) -> None:
        """Wait until a share of the lines, from 0 to 1, is acknowledged."""
        event = asyncio.Event()
        self._milestones.append((share * self.lines, event))
        self.note()
        await event.wait()

    def note(self) -> None:
        """See which milestones are reached."""
        done = sum(member.lines_done for member in self._members)
        for milestone, event in self._milestones:
            if done >= milestone:
                event.set()

    @property
    def resent(self) -> int:
        """How many batches were sent once more."""
        return sum(producer.resent for producer in self.producers)

    def refusals(self) -> dict[str, set[str]]:
        """The reasons for which batches were refused, by the runs that they were for."""
        found: dict[str, set[str]] = {}
        for producer in self.producers:
            for number, refused in producer.refused.items():
                found.setdefault(producer.batch_runs[number], set()).add(refused.error.reason)
        return found

    async def check(self, server: ServerProcess) -> None:
        """Fail if anything was lost, doubled or reordered, or the server finds something amiss."""
        await check_logs(server, self.sent)


async def check_logs(server: ServerProcess, sent: LogDigests) -> None:
    """Fail if logs do not read back as they were sent, or the server finds something amiss."""
    found = await read_back(server.target, sent.run_ids)
    differences = sent.differences(found)
    assert not differences, "\n".join(differences[:20])
    await check_database(server)
