"""MigrationService, for operators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from interlock.admin.v1 import migration_pb2 as pb

from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.schema import Schema
from interlock_server.rpc import fields
from interlock_server.rpc.calls import Context
from interlock_server.storage.migrating import DEFAULT_WAIT, Holder
from interlock_server.storage.migrations import Event, Stage
from interlock_server.storage.revisions import Revision, server_version

_LONGEST_WAIT = 86_400.0
"""Seconds: a day."""

_STAGES = {
    Stage.WAITING: pb.MIGRATION_STAGE_WAITING,
    Stage.DROPPING: pb.MIGRATION_STAGE_DROPPING,
    Stage.DROPPED: pb.MIGRATION_STAGE_DROPPED,
    Stage.APPLYING: pb.MIGRATION_STAGE_APPLYING,
    Stage.WORKING: pb.MIGRATION_STAGE_WORKING,
    Stage.APPLIED: pb.MIGRATION_STAGE_APPLIED,
    Stage.PLANNED: pb.MIGRATION_STAGE_PLANNED,
}


class MigrationService:
    """Tells and changes the schema's revision; see `protos/interlock/admin/v1/migration.proto`."""

    def __init__(
        self, schema: Schema, changed: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """`changed` is called when the schema may be another one."""
        self._schema = schema
        self._changed = changed

    async def GetStatus(  # noqa: N802
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """Tell where the schema stands."""
        schema = self._schema
        status = await schema.status()
        return pb.GetStatusResponse(
            dialect=schema.database.dialect,
            database_version=await schema.database.check(),
            database_url=schema.database.shown_url,
            current_revision=status.current,
            head_revision=status.head,
            pending=map(_to_revision, status.pending),
            servable=status.servable,
            advice=status.advice,
            compatible_from=status.floor,
            server_version=server_version(),
            other_programs_database=bool(status.others),
        )

    async def ListRevisions(  # noqa: N802
        self, request: pb.ListRevisionsRequest, context: Context
    ) -> pb.ListRevisionsResponse:
        """List the history."""
        return pb.ListRevisionsResponse(
            revisions=map(_to_revision, self._schema.revisions()),
            current_revision=(await self._schema.status()).current,
        )

    async def Upgrade(  # noqa: N802
        self, request: pb.UpgradeRequest, context: Context
    ) -> AsyncIterator[pb.UpgradeResponse]:
        """Apply pending revisions."""
        events = self._schema.upgrade(
            request.revision,
            dry_run=request.dry_run,
            wait=_wait(request),
            beside_other_programs=request.beside_other_programs,
        )
        async for event in self._telling(events):
            yield pb.UpgradeResponse(event=event)

    async def Downgrade(  # noqa: N802
        self, request: pb.DowngradeRequest, context: Context
    ) -> AsyncIterator[pb.DowngradeResponse]:
        """Take revisions back."""
        events = self._schema.downgrade(
            request.revision, dry_run=request.dry_run, wait=_wait(request)
        )
        async for event in self._telling(events):
            yield pb.DowngradeResponse(event=event)

    async def Stamp(  # noqa: N802
        self, request: pb.StampRequest, context: Context
    ) -> pb.StampResponse:
        """Write down the schema's revision."""
        if not request.revision:
            raise InvalidArgumentError("revision", "Say which revision the schema is at.")
        try:
            previous, current = await self._schema.stamp(request.revision, _wait(request))
        finally:
            await self._tell_of_change()
        return pb.StampResponse(previous_revision=previous, current_revision=current)

    async def Reset(  # noqa: N802
        self, request: pb.ResetRequest, context: Context
    ) -> AsyncIterator[pb.ResetResponse]:
        """Delete everything, and build the schema anew."""
        events = self._schema.reset(
            drop_tables_of_other_programs=request.drop_tables_of_other_programs,
            wait=_wait(request),
        )
        async for event in self._telling(events):
            yield pb.ResetResponse(event=event)

    async def _telling(self, events: AsyncIterator[Event]) -> AsyncIterator[pb.MigrationEvent]:
        try:
            async for event in events:
                yield _to_event(event)
        finally:
            await self._tell_of_change()

    async def _tell_of_change(self) -> None:
        if self._changed is not None:
            await self._changed()


def _wait(
    request: pb.UpgradeRequest | pb.DowngradeRequest | pb.StampRequest | pb.ResetRequest,
) -> float:
    """Read how many seconds to wait for another migrator."""
    if not request.HasField("wait"):
        return DEFAULT_WAIT
    seconds = fields.duration("wait", request.wait) / 1_000_000
    if seconds > _LONGEST_WAIT:
        raise InvalidArgumentError("wait", "Longer than a day.")
    return seconds


def _to_revision(revision: Revision) -> pb.Revision:
    return pb.Revision(
        id=revision.id,
        description=revision.description,
        compatible_from=revision.compatible_from,
    )


def _to_event(event: Event) -> pb.MigrationEvent:
    return pb.MigrationEvent(
        stage=_STAGES[event.stage],
        revision=None if event.revision is None else _to_revision(event.revision),
        position=event.position,
        total=event.total,
        interrupts_service=event.interrupts,
        holder=None if event.holder is None else _to_holder(event.holder),
        table=event.table,
        rows_done=event.rows_done,
        rows_total=event.rows_total,
        statements=event.statements,
        locks=[
            pb.TableLock(
                table=lock.table, mode=lock.mode, bytes=lock.bytes, estimated_rows=lock.rows
            )
            for lock in event.locks
        ],
    )


def _to_holder(holder: Holder) -> pb.LockHolder:
    return pb.LockHolder(
        host=holder.host,
        pid=holder.pid,
        since=fields.to_timestamp_or_none(holder.since or None),
    )
