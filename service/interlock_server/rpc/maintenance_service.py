"""MaintenanceService, for operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from google.protobuf.message import DecodeError
from interlock import log_columns
from interlock.admin.v1 import maintenance_pb2 as pb
from interlock.v1.log_pb2 import LogColumns

from interlock_server.background.loop import LoopReport
from interlock_server.background.loops import Loops
from interlock_server.core.checks import MAX_EXAMPLES, Contents
from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.logs.retention import MIN_LOG_AGE
from interlock_server.core.maintenance import Maintenance
from interlock_server.core.pruning import Ages, Pruned
from interlock_server.rpc import fields, log_records
from interlock_server.rpc.calls import Context
from interlock_server.rules.states import Micros

_MICROS = 1_000_000
MIN_PRUNED_AGE: Micros = 60 * 60 * _MICROS
"""Younger runs are not pruned: someone may still look at them, or try them again."""


class MaintenanceService:
    """Keeps the database in health; see `protos/interlock/admin/v1/maintenance.proto`."""

    def __init__(self, maintenance: Maintenance, loops: Loops | None = None) -> None:
        """`loops` are those of this process, if it is a server's."""
        self._maintenance = maintenance
        self._loops = loops

    async def Backup(  # noqa: N802
        self, request: pb.BackupRequest, context: Context
    ) -> AsyncIterator[pb.BackupResponse]:
        """Copy the database into a file."""
        path = Path(fields.name("path", request.path, _MAX_PATH_BYTES))
        if not path.is_absolute():
            raise InvalidArgumentError("path", "It must be an absolute path.")
        copied, total = 0, 0
        async with aclosing(self._maintenance.backup(path, request.overwrite)) as advances:
            async for advance in advances:
                if advance.step == "done":
                    yield pb.BackupResponse(
                        stage=pb.BACKUP_STAGE_DONE,
                        pages_copied=copied,
                        pages_total=total,
                        size_bytes=advance.done,
                    )
                    continue
                stage = pb.BACKUP_STAGE_VERIFYING
                if advance.step == "copy":
                    stage, copied, total = pb.BACKUP_STAGE_COPYING, advance.done, advance.total
                yield pb.BackupResponse(stage=stage, pages_copied=copied, pages_total=total)

    async def Vacuum(  # noqa: N802
        self, request: pb.VacuumRequest, context: Context
    ) -> AsyncIterator[pb.VacuumResponse]:
        """Give room back."""
        steps = 0
        async with aclosing(self._maintenance.vacuum()) as advances:
            async for advance in advances:
                if advance.step == "done":
                    yield pb.VacuumResponse(
                        steps_done=steps,
                        steps_total=steps,
                        size_before_bytes=advance.total,
                        size_bytes=advance.done,
                    )
                    continue
                steps = advance.total
                yield pb.VacuumResponse(
                    step=advance.step, steps_done=advance.done, steps_total=steps
                )

    async def Check(  # noqa: N802
        self, request: pb.CheckRequest, context: Context
    ) -> AsyncIterator[pb.CheckResponse]:
        """Check what is stored."""
        found: Counter[str] = Counter()
        async with aclosing(self._maintenance.check(_contents)) as parts:
            async for part in parts:
                told = max(0, MAX_EXAMPLES - found[part.check])
                found[part.check] += len(part.finds)
                yield pb.CheckResponse(
                    check=part.check,
                    examined=part.examined,
                    findings=[
                        pb.CheckFinding(subject=find.subject, description=find.words)
                        for find in part.finds[:told]
                    ],
                    done=part.done,
                    findings_total=found[part.check],
                )

    async def Prune(  # noqa: N802
        self, request: pb.PruneRequest, context: Context
    ) -> AsyncIterator[pb.PruneResponse]:
        """Delete what is old."""
        ages = Ages(
            runs=_age(request, "older_than", MIN_PRUNED_AGE),
            logs=_age(request, "logs_older_than", MIN_LOG_AGE),
        )
        if ages == Ages():
            raise InvalidArgumentError(
                "older_than", "An age is required: `older_than`, `logs_older_than`, or both."
            )
        total = _to_counts(await self._maintenance.measure(ages))
        yield pb.PruneResponse(deleted=pb.PruneCounts(), total=total)
        if request.dry_run:
            return
        async with aclosing(self._maintenance.prune(ages)) as parts:
            async for deleted in parts:
                yield pb.PruneResponse(deleted=_to_counts(deleted), total=total)

    async def ListLoops(  # noqa: N802
        self, request: pb.ListLoopsRequest, context: Context
    ) -> pb.ListLoopsResponse:
        """Tell what the loops of this server do."""
        if self._loops is None:
            return pb.ListLoopsResponse()
        return pb.ListLoopsResponse(
            loops=[_to_loop(report) for report in self._loops.reports()],
            running=self._loops.term.held,
        )


_MAX_PATH_BYTES = 4096


def _age(request: pb.PruneRequest, field: str, least: Micros) -> Micros | None:
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    age = fields.duration(field, getattr(request, field))
    if age < least:
        raise InvalidArgumentError(field, "It must be at least an hour.")
    return age


def _to_counts(pruned: Pruned) -> pb.PruneCounts:
    return pb.PruneCounts(
        flow_runs=pruned.flow_runs,
        task_runs=pruned.task_runs,
        log_chunks=pruned.log_chunks,
        tombstones=pruned.tombstones,
    )


def _to_loop(report: LoopReport) -> pb.Loop:
    return pb.Loop(
        name=report.name,
        period=fields.to_duration(round(report.period * _MICROS)),
        look_time=fields.to_timestamp_or_none(report.last_look),
        looks=report.looks,
        done_time=fields.to_timestamp_or_none(report.last_done),
        done=report.done,
        error=report.last_error,
    )


def _contents(data: bytes) -> Contents:
    """Read what a chunk's records say of themselves. Raises ValueError."""
    try:
        columns = LogColumns.FromString(data)
        lines = log_columns.lines(columns)
    except (DecodeError, log_columns.MalformedColumns) as error:
        raise ValueError(str(error)) from error
    times = [line.time_us for line in lines]
    return Contents(
        len(lines),
        min(times, default=0),
        max(times, default=0),
        log_records.level_counts(columns, len(lines)),
        frozenset(line.task_run_id for line in lines) - {""},
    )
