"""FlowService."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.v1 import flow_pb2 as pb

from interlock_server.core.engine import Engine
from interlock_server.core.errors import InvalidArgumentError, NotFoundError
from interlock_server.core.flows import (
    CreateFlow,
    DeleteFlow,
    FlowChange,
    UpdateFlow,
    delete_flow_with_runs,
)
from interlock_server.rpc import fields, filters, pages
from interlock_server.rpc.calls import Context, remaining
from interlock_server.storage import queries
from interlock_server.storage.filters import Order
from interlock_server.storage.records import Flow

_ORDERS: Mapping[int, Order] = {
    pb.FLOW_ORDER_UNSPECIFIED: Order("created", True),
    pb.FLOW_ORDER_CREATED_DESC: Order("created", True),
    pb.FLOW_ORDER_NAME_ASC: Order("name", False),
    pb.FLOW_ORDER_NAME_DESC: Order("name", True),
    pb.FLOW_ORDER_UPDATED_DESC: Order("updated", True),
}


class FlowService:
    """Keeps flows; see `protos/interlock/v1/flow.proto`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def CreateFlow(  # noqa: N802
        self, request: pb.CreateFlowRequest, context: Context
    ) -> pb.CreateFlowResponse:
        """Register a flow by name."""
        flow = Flow(
            fields.id_or_new("id", request.id),
            fields.name("name", request.name),
            fields.tags("tags", request.tags),
            fields.labels("labels", request.labels),
            0,
            0,
        )
        found, created = await self._engine.pipeline.submit(CreateFlow(flow), remaining(context))
        return pb.CreateFlowResponse(flow=to_flow(found), created=created)

    async def GetFlow(  # noqa: N802
        self, request: pb.GetFlowRequest, context: Context
    ) -> pb.GetFlowResponse:
        """Answer one flow."""
        database = self._engine.database
        match request.WhichOneof("key"):
            case "id":
                key = fields.id_("id", request.id)
                flow = await queries.get_flow(database, key)
            case "name":
                key = fields.name("name", request.name)
                flow = await queries.get_flow_by_name(database, key)
            case _:
                raise InvalidArgumentError("id", "Name the flow, by `id` or by `name`.")
        if flow is None:
            raise NotFoundError("flow", key)
        return pb.GetFlowResponse(flow=to_flow(flow))

    async def ListFlows(  # noqa: N802
        self, request: pb.ListFlowsRequest, context: Context
    ) -> pb.ListFlowsResponse:
        """List flows, a page at a time."""
        query = pages.query(request, filters.FLOWS, _ORDERS)
        flows, after = await queries.list_flows(self._engine.database, query)
        return pb.ListFlowsResponse(
            flows=[to_flow(flow) for flow in flows],
            next_page_token=pages.token_or_none(request, after),
        )

    async def CountFlows(  # noqa: N802
        self, request: pb.CountFlowsRequest, context: Context
    ) -> pb.CountFlowsResponse:
        """Count flows."""
        condition = filters.read(request.filter, filters.FLOWS)
        count = await queries.count_flows(self._engine.database, condition)
        return pb.CountFlowsResponse(count=count)

    async def UpdateFlow(  # noqa: N802
        self, request: pb.UpdateFlowRequest, context: Context
    ) -> pb.UpdateFlowResponse:
        """Change a flow's tags or labels."""
        given = request.flow
        paths = fields.mask("update_mask", request.update_mask, ("tags", "labels"))
        change = FlowChange(
            fields.tags("flow.tags", given.tags) if "tags" in paths else None,
            fields.labels("flow.labels", given.labels) if "labels" in paths else None,
        )
        command = UpdateFlow(
            fields.id_("flow.id", given.id), change, fields.version_or_none("flow.etag", given.etag)
        )
        flow = await self._engine.pipeline.submit(command, remaining(context))
        return pb.UpdateFlowResponse(flow=to_flow(flow))

    async def DeleteFlow(  # noqa: N802
        self, request: pb.DeleteFlowRequest, context: Context
    ) -> pb.DeleteFlowResponse:
        """Delete a flow, with its runs if told so."""
        flow_id = fields.id_("id", request.id)
        version = fields.version_or_none("etag", request.etag)
        engine = self._engine
        if request.force:
            await delete_flow_with_runs(engine.database, engine.pipeline, flow_id, version)
        else:
            await engine.pipeline.submit(DeleteFlow(flow_id, version), remaining(context))
        return pb.DeleteFlowResponse()


def to_flow(flow: Flow) -> pb.Flow:
    """Make protobuf's form of a flow."""
    return pb.Flow(
        id=flow.id,
        name=flow.name,
        tags=flow.tags,
        labels=flow.labels,
        create_time=fields.to_timestamp(flow.created),
        update_time=fields.to_timestamp(flow.updated),
        etag=str(flow.version),
    )
