"""Many live runs at a line a second, with the merging of small chunks and without it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from interlock_server.storage import tables
from interlock_server.storage.dialects import open_database
from sqlalchemy import Connection, func, select

from benchmarks.clients import LiveLogs, write_live_logs
from benchmarks.content import count_lines, make_running_runs
from benchmarks.databases import Databases
from benchmarks.log_lines import LogLines
from benchmarks.measure_states import WorkMissing
from benchmarks.processes import interlock_server, together
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread
from benchmarks.usage import Usage

_PATIENCE = 2.0
"""Seconds after the last line, in which what was due then is merged."""

_ROW_BYTES = 100
"""What a chunk takes beside its data, about: its row and its place in the indexes."""


@dataclass(frozen=True, slots=True)
class _Stored:
    chunks: int
    data_bytes: int
    most_chunks: int
    """Of one log."""
    overdue: int
    """How many logs should have been merged."""


@dataclass(frozen=True, slots=True)
class _Pass:
    lines: int
    seconds: float
    cpu_us: float
    """Of the server, for each line."""
    stored: _Stored
    disk_bytes: int

    @property
    def bytes_per_line(self) -> float:
        return (self.stored.data_bytes + _ROW_BYTES * self.stored.chunks) / self.lines


def measure_live_logs(databases: Databases, scale: Scale) -> Result:
    """Measure how many bytes a line takes, and what it costs to merge while runs go on."""
    plain = _pass(databases, scale, merging=False)
    merged = _pass(databases, scale, merging=True)
    if merged.stored.overdue:
        raise WorkMissing(f"Merging does not keep up: {merged.stored.overdue} logs wait.")
    cpu = merged.cpu_us * merged.lines / 1e6
    return Result(
        f"Logs of {scale.live_runs:,} live runs",
        databases.dialect,
        "bytes/line",
        Spread.of([merged.bytes_per_line]),
        "not merged",
        Spread.of([plain.bytes_per_line]),
        Spread.of([merged.bytes_per_line / plain.bytes_per_line]),
        Target(0.75, "ratio", at_most=True),
        details={
            "lines": merged.lines,
            "lines/s sent": scale.live_runs,
            "lines/s acknowledged": scale.live_runs * scale.live_seconds / merged.seconds,
            "chunks per 1,000 lines": merged.stored.chunks / merged.lines * 1000,
            "chunks of a log at most": merged.stored.most_chunks,
            "logs that wait at the end": merged.stored.overdue,
            "data bytes per line": merged.stored.data_bytes / merged.lines,
            "data bytes per line, not merged": plain.stored.data_bytes / plain.lines,
            "bytes on disk per line": merged.disk_bytes / merged.lines,
            "bytes on disk per line, not merged": plain.disk_bytes / plain.lines,
            "server CPU us per line": merged.cpu_us,
            "server CPU us per line, not merged": plain.cpu_us,
            "CPU share of merging": 1 - plain.cpu_us / merged.cpu_us,
            "server CPU per second": cpu / merged.seconds,
            "lines from": LogLines(0).source,
        },
    )


def _pass(databases: Databases, scale: Scale, *, merging: bool) -> _Pass:
    url = databases.new()
    with interlock_server(url, loops=merging) as server:
        run_ids = make_running_runs(server, scale.live_runs)
        empty = databases.bytes(url)
        usage = Usage(server)
        with usage.window():
            job = LiveLogs(server.target, run_ids, scale.live_seconds)
            (acknowledged,), seconds = together(write_live_logs, [job])
            ended = time.time()
            # Not a wait for anything: what is not merged by then counts as not kept up with.
            time.sleep(_PATIENCE)
        if count_lines(server, run_ids) != acknowledged:
            raise WorkMissing("Lines that were acknowledged are not there.")
    stored = asyncio.run(_stored(url, round(ended * 1e6)))
    grown = databases.bytes(url) - empty
    return _Pass(acknowledged, seconds, usage.cpu_us_per(acknowledged), stored, grown)


async def _stored(url: str, due: int) -> _Stored:
    chunk, merge = tables.log_chunk.c, tables.log_merge.c
    chunks = select(func.count(), func.sum(func.length(chunk.data)))
    of_log = select(func.count(chunk.run_id).label("number")).group_by(chunk.run_id).subquery()

    def read(connection: Connection) -> _Stored:
        number, size = connection.execute(chunks).one()
        most = connection.execute(select(func.max(of_log.c.number))).scalar_one()
        overdue = connection.execute(select(func.count()).where(merge.due <= due)).scalar_one()
        return _Stored(number, size, most, overdue)

    database = open_database(url)
    try:
        return await database.migrate(read)
    finally:
        await database.close()
