"""MigrationService, for operators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from interlock.admin.v1 import migration_pb2 as pb

from interlock_server.core.schema import Schema
from interlock_server.rpc.calls import Context
from interlock_server.storage.migrations import Revision


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
            pending=[_to_revision(revision) for revision in status.pending],
            servable=status.servable,
            advice=status.advice,
        )

    async def Upgrade(  # noqa: N802
        self, request: pb.UpgradeRequest, context: Context
    ) -> AsyncIterator[pb.UpgradeResponse]:
        """Apply pending revisions."""
        total = len((await self._schema.status()).pending)
        events: asyncio.Queue[tuple[Revision, bool] | None] = asyncio.Queue()
        upgrading = asyncio.create_task(
            self._schema.upgrade(request.revision, lambda *event: events.put_nowait(event))
        )
        upgrading.add_done_callback(lambda _: events.put_nowait(None))
        position = 0
        while (event := await events.get()) is not None:
            revision, applied = event
            position += not applied
            stage = pb.UPGRADE_STAGE_APPLIED if applied else pb.UPGRADE_STAGE_APPLYING
            yield pb.UpgradeResponse(
                revision=_to_revision(revision), stage=stage, position=position, total=total
            )
        try:
            await upgrading
        finally:
            if self._changed is not None:
                await self._changed()


def _to_revision(revision: Revision) -> pb.Revision:
    return pb.Revision(id=revision.id, description=revision.description)
