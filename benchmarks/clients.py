"""Clients in processes of their own that make all they will send beforehand, as bytes.

So their work does not hide the server's. What they are answered is kept, and read when the time is
taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

Ready = Callable[[], None]


@dataclass(frozen=True, slots=True)
class BatchCallers:
    """Callers of BatchSetStates in one process; each has runs of its own and one call at a time."""

    target: str
    run_ids: Sequence[Sequence[str]]
    """The runs of each caller: as many as a batch has items."""
    batches: int
    """How many each caller sends."""


def call_batches(job: BatchCallers, ready: Ready) -> tuple[int, float]:
    """Send the batches, and answer how many proposals were accepted."""
    return uvloop.run(_call_batches(job, ready))


async def _call_batches(job: BatchCallers, ready: Ready) -> tuple[int, float]:
    import grpc
    from interlock.v1 import flow_run_pb2 as pb
    from interlock.v1 import state_pb2

    from benchmarks.requests import BATCH_SET_STATES, batch_set_states

    bodies = [
        [batch_set_states(list(run_ids)) for _ in range(job.batches)] for run_ids in job.run_ids
    ]
    answers: list[bytes] = []
    async with grpc.aio.insecure_channel(job.target, options=_ANY_SIZE) as channel:
        await channel.channel_ready()
        call: Any = channel.unary_unary(BATCH_SET_STATES)

        async def caller(own: list[bytes]) -> None:
            answers.extend([await call(body) for body in own])

        await asyncio.to_thread(ready)
        await asyncio.gather(*map(caller, bodies))
        ended = time.monotonic()
    accepted = sum(
        outcome.decision.verdict == state_pb2.VERDICT_ACCEPT
        for answer in answers
        for outcome in pb.FlowRunServiceBatchSetStatesResponse.FromString(answer).outcomes
    )
    return accepted, ended


@dataclass(frozen=True, slots=True)
class LogProducer:
    """One stream of AppendLogs, for one run."""

    target: str
    run_id: str
    seed: int
    batches: int
    lines: int
    """Of each batch."""


def produce_logs(job: LogProducer, ready: Ready) -> tuple[int, float]:
    """Send the batches, and answer how many lines were acknowledged as durable."""
    return uvloop.run(_produce_logs(job, ready))


async def _produce_logs(job: LogProducer, ready: Ready) -> tuple[int, float]:
    import grpc
    from interlock import log_columns
    from interlock.ids import uuid7
    from interlock.v1 import log_pb2 as pb

    from benchmarks.log_lines import LogLines
    from benchmarks.requests import APPEND_LOGS

    lines = LogLines(job.seed)
    bodies = [
        pb.AppendLogsRequest(
            number=number, run_id=job.run_id, records=log_columns.pack(lines.take(job.lines))
        ).SerializeToString()
        for number in range(1, job.batches + 1)
    ]
    hello = pb.AppendLogsRequest(producer_id=uuid7()).SerializeToString()

    async def sent() -> AsyncIterator[bytes]:
        yield hello
        await asyncio.to_thread(ready)
        for body in bodies:
            yield body

    acknowledged = refused = 0
    async with grpc.aio.insecure_channel(job.target, options=_ANY_SIZE) as channel:
        await channel.channel_ready()
        append: Any = channel.stream_stream(APPEND_LOGS)
        async for answer in append(sent()):
            response = pb.AppendLogsResponse.FromString(answer)
            acknowledged = response.acknowledged
            refused += len(response.refused)
        ended = time.monotonic()
    return (acknowledged - refused) * job.lines, ended


_ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True, slots=True)
class LiveLogs:
    """One stream of AppendLogs for many runs, each of which writes a line a second."""

    target: str
    run_ids: Sequence[str]
    seconds: int


HEAD_START = 16
"""How many lines the runs had before, at most: not all logs are merged at the same moment."""


def write_live_logs(job: LiveLogs, ready: Ready) -> tuple[int, float]:
    """Send each line at its time, and answer how many were acknowledged as durable."""
    return uvloop.run(_write_live_logs(job, ready))


async def _write_live_logs(job: LiveLogs, ready: Ready) -> tuple[int, float]:
    import grpc
    from interlock import log_columns
    from interlock.ids import uuid7
    from interlock.v1 import log_pb2 as pb

    from benchmarks.log_lines import LogLines
    from benchmarks.requests import APPEND_LOGS

    sources = [LogLines(seed) for seed in range(20)]
    before = [run_id for place, run_id in enumerate(job.run_ids) for _ in range(place % HEAD_START)]
    paced = list(job.run_ids) * job.seconds
    bodies = [
        pb.AppendLogsRequest(
            number=number,
            run_id=run_id,
            records=log_columns.pack(sources[number % len(sources)].take(1)),
        ).SerializeToString()
        for number, run_id in enumerate([*before, *paced], 1)
    ]
    hello = pb.AppendLogsRequest(producer_id=uuid7()).SerializeToString()

    async def sent() -> AsyncIterator[bytes]:
        yield hello
        for body in bodies[: len(before)]:
            yield body
        await asyncio.to_thread(ready)
        began = time.monotonic()
        for place, body in enumerate(bodies[len(before) :]):
            ahead = began + place / len(job.run_ids) - time.monotonic()
            if ahead > 0.005:
                await asyncio.sleep(ahead)
            yield body

    acknowledged = 0
    async with grpc.aio.insecure_channel(job.target, options=_ANY_SIZE) as channel:
        await channel.channel_ready()
        append: Any = channel.stream_stream(APPEND_LOGS)
        async for answer in append(sent()):
            response = pb.AppendLogsResponse.FromString(answer)
            acknowledged = response.acknowledged - len(response.refused)
        ended = time.monotonic()
    return acknowledged, ended
