"""The part of the client that keeps deployments: flows as they are run somewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

from interlock import text, values
from interlock._async.parts import Part
from interlock.ids import uuid7
from interlock.v1.deployment_pb2 import (
    DEPLOYMENT_ORDER_UNSPECIFIED,
    CountDeploymentsRequest,
    CreateDeploymentRequest,
    DeleteDeploymentRequest,
    Deployment,
    DeploymentFilter,
    DeploymentName,
    DeploymentOrder,
    GetDeploymentRequest,
    ListDeploymentsRequest,
)
from interlock.v1.flow_pb2 import Flow
from interlock.values import id_of


class Deployments(Part):
    """Deployments: made, found, deleted."""

    async def create_deployment(
        self,
        flow: Flow | str,
        name: str,
        *,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        created_by: str = "",
        deployment_id: str = "",
    ) -> Deployment:
        """Answer the deployment of that name of a flow, which is given itself or by its id; make it
        if there is none.

        Raises NotFound; AlreadyExists where `deployment_id` came with other content before.
        """
        request = CreateDeploymentRequest(
            flow_id=id_of(flow),
            name=text.clean(name),
            id=deployment_id or uuid7(),
            tags=values.tags(tags),
            labels=values.labels(labels),
            created_by=text.clean(created_by),
        )
        method = self._stubs.deployments.CreateDeployment
        return (await self._calls.send(method, request, replay=True)).deployment

    async def get_deployment(
        self, deployment_id: str = "", *, flow: Flow | str = "", name: str = ""
    ) -> Deployment:
        """Answer one deployment, by its id or by its flow and name. Raises NotFound."""
        if name:
            named = DeploymentName(flow_id=id_of(flow), name=text.clean(name))
            request = GetDeploymentRequest(name=named)
        else:
            request = GetDeploymentRequest(id=deployment_id)
        method = self._stubs.deployments.GetDeployment
        return (await self._calls.send(method, request, replay=True)).deployment

    async def list_deployments(
        self,
        filter: DeploymentFilter | None = None,  # noqa: A002 - the contract's word
        *,
        order_by: DeploymentOrder.ValueType = DEPLOYMENT_ORDER_UNSPECIFIED,
        page_size: int = 0,
    ) -> AsyncIterator[Deployment]:
        """Iterate over deployments, newest first unless told otherwise."""
        request = ListDeploymentsRequest(filter=filter, order_by=order_by, page_size=page_size)
        async for page in self._calls.pages(self._stubs.deployments.ListDeployments, request):
            for deployment in page.deployments:
                yield deployment

    async def count_deployments(
        self,
        filter: DeploymentFilter | None = None,  # noqa: A002
    ) -> int:
        """Count deployments."""
        request = CountDeploymentsRequest(filter=filter)
        method = self._stubs.deployments.CountDeployments
        return (await self._calls.send(method, request, replay=True)).count

    async def delete_deployment(self, deployment: Deployment | str, *, etag: str = "") -> None:
        """Delete a deployment, given itself or by its id. Its runs stay.

        Raises NotFound; Aborted where an etag is given and the deployment has changed since.
        """
        request = DeleteDeploymentRequest(id=id_of(deployment), etag=etag)
        method = self._stubs.deployments.DeleteDeployment
        await self._calls.send(method, request, replay=False)
