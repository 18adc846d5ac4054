"""The part of the client that keeps flows: the named programs whose runs are tracked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

from google.protobuf.field_mask_pb2 import FieldMask

from interlock import text, values
from interlock._async.parts import Part
from interlock.ids import uuid7
from interlock.v1.flow_pb2 import (
    FLOW_ORDER_UNSPECIFIED,
    CountFlowsRequest,
    CreateFlowRequest,
    DeleteFlowRequest,
    Flow,
    FlowFilter,
    FlowOrder,
    GetFlowRequest,
    ListFlowsRequest,
    UpdateFlowRequest,
)
from interlock.values import given, id_of, maybe


class Flows(Part):
    """Flows: made, found, changed, deleted."""

    async def create_flow(
        self,
        name: str,
        *,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        flow_id: str = "",
    ) -> Flow:
        """Answer the flow of that name; make it if there is none.

        Raises AlreadyExists where `flow_id` is that of a flow of another name.
        """
        request = CreateFlowRequest(
            name=text.clean(name),
            id=flow_id or uuid7(),
            tags=values.tags(tags),
            labels=values.labels(labels),
        )
        return (await self._calls.send(self._stubs.flows.CreateFlow, request, replay=True)).flow

    async def get_flow(self, flow_id: str = "", *, name: str = "") -> Flow:
        """Answer one flow, by id or by name. Raises NotFound."""
        request = GetFlowRequest(name=text.clean(name)) if name else GetFlowRequest(id=flow_id)
        return (await self._calls.send(self._stubs.flows.GetFlow, request, replay=True)).flow

    async def list_flows(
        self,
        filter: FlowFilter | None = None,  # noqa: A002 - the contract's word
        *,
        order_by: FlowOrder.ValueType = FLOW_ORDER_UNSPECIFIED,
        page_size: int = 0,
    ) -> AsyncIterator[Flow]:
        """Iterate over flows, newest first unless told otherwise; pages are fetched as needed."""
        request = ListFlowsRequest(filter=filter, order_by=order_by, page_size=page_size)
        async for page in self._calls.pages(self._stubs.flows.ListFlows, request):
            for flow in page.flows:
                yield flow

    async def count_flows(
        self,
        filter: FlowFilter | None = None,  # noqa: A002
    ) -> int:
        """Count flows."""
        request = CountFlowsRequest(filter=filter)
        return (await self._calls.send(self._stubs.flows.CountFlows, request, replay=True)).count

    async def update_flow(
        self,
        flow: Flow | str,
        *,
        tags: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        etag: str = "",
    ) -> Flow:
        """Change what is given of a flow, by itself or by its id.

        Raises NotFound; Aborted where an etag is given and the flow has changed since.
        """
        changes = given(tags=maybe(values.tags, tags), labels=maybe(values.labels, labels))
        request = UpdateFlowRequest(
            flow=Flow(id=id_of(flow), etag=etag, **changes),
            update_mask=FieldMask(paths=changes),
        )
        return (await self._calls.send(self._stubs.flows.UpdateFlow, request, replay=False)).flow

    async def delete_flow(self, flow: Flow | str, *, force: bool = False, etag: str = "") -> None:
        """Delete a flow; with `force` its runs too.

        Raises NotFound; FailedPrecondition where it has runs and `force` is off; Aborted where an
        etag is given and the flow has changed since.
        """
        request = DeleteFlowRequest(id=id_of(flow), force=force, etag=etag)
        await self._calls.send(self._stubs.flows.DeleteFlow, request, replay=False)
