"""ServerService."""

from __future__ import annotations

from interlock.v1 import server_pb2 as pb

from interlock_server.core.engine import Engine
from interlock_server.core.logs.ends import DRAIN_SILENCE
from interlock_server.rpc import fields, limits
from interlock_server.rpc.calls import Context
from interlock_server.storage.revisions import server_version

VERSION = server_version()
"""The version of this server."""

FEATURES: tuple[str, ...] = ()
"""What this server can do beyond the first release; nothing, since it is the first."""


class ServerService:
    """Tells what this server is and can do; see `protos/interlock/v1/server.proto`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        """Tell the server's version, features and limits."""
        return pb.GetServerInfoResponse(
            version=VERSION,
            database=self._engine.database.dialect,
            features=FEATURES,
            limits=pb.Limits(
                max_message_bytes=limits.MAX_MESSAGE_BYTES,
                max_page_size=limits.MAX_PAGE_SIZE,
                max_name_bytes=limits.MAX_NAME_BYTES,
                max_json_bytes=limits.MAX_JSON_BYTES,
                max_json_depth=limits.MAX_JSON_DEPTH,
                max_batch_items=limits.MAX_BATCH_ITEMS,
                max_log_batch_records=limits.MAX_LOG_BATCH_RECORDS,
                max_log_message_bytes=limits.MAX_LOG_MESSAGE_BYTES,
                log_window_bytes=limits.LOG_WINDOW_BYTES,
                log_drain_silence=fields.to_duration(DRAIN_SILENCE),
                max_tags=limits.MAX_TAGS,
            ),
        )
