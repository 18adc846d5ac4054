"""DeploymentService."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.v1 import deployment_pb2 as pb

from interlock_server.core.deployments import CreateDeployment, DeleteDeployment
from interlock_server.core.engine import Engine
from interlock_server.core.errors import InvalidArgumentError, NotFoundError
from interlock_server.rpc import fields, filters, pages
from interlock_server.rpc.calls import Context, remaining
from interlock_server.storage import queries
from interlock_server.storage.filters import Order
from interlock_server.storage.records import Deployment

_ORDERS: Mapping[int, Order] = {
    pb.DEPLOYMENT_ORDER_UNSPECIFIED: Order("created", True),
    pb.DEPLOYMENT_ORDER_CREATED_DESC: Order("created", True),
    pb.DEPLOYMENT_ORDER_NAME_ASC: Order("name", False),
    pb.DEPLOYMENT_ORDER_NAME_DESC: Order("name", True),
    pb.DEPLOYMENT_ORDER_UPDATED_DESC: Order("updated", True),
}


class DeploymentService:
    """Keeps deployments; see `protos/interlock/v1/deployment.proto`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def CreateDeployment(  # noqa: N802
        self, request: pb.CreateDeploymentRequest, context: Context
    ) -> pb.CreateDeploymentResponse:
        """Register a deployment by its flow and name."""
        deployment = Deployment(
            fields.id_or_new("id", request.id),
            fields.id_("flow_id", request.flow_id),
            fields.name("name", request.name),
            fields.tags("tags", request.tags),
            fields.labels("labels", request.labels),
            fields.text("created_by", request.created_by),
        )
        command = CreateDeployment(deployment)
        found, created = await self._engine.pipeline.submit(command, remaining(context))
        return pb.CreateDeploymentResponse(deployment=to_deployment(found), created=created)

    async def GetDeployment(  # noqa: N802
        self, request: pb.GetDeploymentRequest, context: Context
    ) -> pb.GetDeploymentResponse:
        """Answer one deployment."""
        database = self._engine.database
        match request.WhichOneof("key"):
            case "id":
                name = fields.id_("id", request.id)
                found = await queries.get_deployment(database, name)
            case "name":
                flow_id = fields.id_("name.flow_id", request.name.flow_id)
                name = fields.name("name.name", request.name.name)
                found = await queries.get_deployment_by_name(database, flow_id, name)
            case _:
                raise InvalidArgumentError("id", "Name the deployment, by `id` or by `name`.")
        if found is None:
            raise NotFoundError("deployment", name)
        return pb.GetDeploymentResponse(deployment=to_deployment(found))

    async def ListDeployments(  # noqa: N802
        self, request: pb.ListDeploymentsRequest, context: Context
    ) -> pb.ListDeploymentsResponse:
        """List deployments, a page at a time."""
        query = pages.query(request, filters.DEPLOYMENTS, _ORDERS)
        found, after = await queries.list_deployments(self._engine.database, query)
        return pb.ListDeploymentsResponse(
            deployments=[to_deployment(each) for each in found],
            next_page_token=pages.token_or_none(request, after),
        )

    async def CountDeployments(  # noqa: N802
        self, request: pb.CountDeploymentsRequest, context: Context
    ) -> pb.CountDeploymentsResponse:
        """Count deployments."""
        condition = filters.read(request.filter, filters.DEPLOYMENTS)
        count = await queries.count_deployments(self._engine.database, condition)
        return pb.CountDeploymentsResponse(count=count)

    async def DeleteDeployment(  # noqa: N802
        self, request: pb.DeleteDeploymentRequest, context: Context
    ) -> pb.DeleteDeploymentResponse:
        """Delete a deployment."""
        command = DeleteDeployment(
            fields.id_("id", request.id), fields.version_or_none("etag", request.etag)
        )
        await self._engine.pipeline.submit(command, remaining(context))
        return pb.DeleteDeploymentResponse()


def to_deployment(deployment: Deployment) -> pb.Deployment:
    """Make protobuf's form of a deployment."""
    return pb.Deployment(
        id=deployment.id,
        flow_id=deployment.flow_id,
        name=deployment.name,
        tags=deployment.tags,
        labels=deployment.labels,
        created_by=deployment.created_by,
        create_time=fields.to_timestamp(deployment.created),
        update_time=fields.to_timestamp(deployment.updated),
        etag=str(deployment.version),
    )
