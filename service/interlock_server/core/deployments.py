"""Making and deleting deployments."""

from __future__ import annotations

from dataclasses import replace

from interlock_server.core.errors import EtagMismatchError, IdReusedError, NotFoundError
from interlock_server.rules.states import Id
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.records import Deployment

_DEPLOYMENT_BYTES = 1000


class CreateDeployment:
    """Makes the deployment of a flow and a name, or finds it."""

    command_class = CommandClass.TRANSITIONS
    replayable = True
    exclusive = False
    weight = 1
    size = _DEPLOYMENT_BYTES

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.flows_to_read.add(self._deployment.flow_id)
        needs.deployments_to_read.add(self._deployment.id)
        needs.deployment_keys.add(self._deployment.key)

    def decide(self, facts: Facts) -> tuple[Deployment, bool]:
        """Answer the deployment of the flow and name, and whether it was made now."""
        given = self._deployment
        if (before := facts.deployments.get(given.id)) is not None:
            if not _says_the_same(given, before):
                raise IdReusedError(given.id)
            return before, False
        if given.flow_id not in facts.flows:
            raise NotFoundError("flow", given.flow_id, field="flow_id")
        if (named := facts.deployment_ids_by_key.get(given.key)) is not None:
            return facts.deployments[named], False
        made = replace(given, created=facts.now, updated=facts.now)
        facts.add_deployment(made)
        return made, True


def _says_the_same(given: Deployment, before: Deployment) -> bool:
    return given == replace(before, created=given.created, updated=given.updated)


class DeleteDeployment:
    """Deletes a deployment; its runs stay. Alone in its batch, as `DeleteRun` is."""

    command_class = CommandClass.REST
    replayable = False
    exclusive = True
    weight = 1
    size = _DEPLOYMENT_BYTES

    def __init__(self, deployment_id: Id, version: int | None) -> None:
        self._deployment_id = deployment_id
        self._version = version

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.deployments_to_write.add(self._deployment_id)

    def decide(self, facts: Facts) -> None:
        """Delete the deployment, if it is the version that the caller has seen."""
        deployment = facts.deployments.get(self._deployment_id)
        if deployment is None:
            raise NotFoundError("deployment", self._deployment_id)
        if self._version is not None and self._version != deployment.version:
            raise EtagMismatchError("deployment", self._deployment_id)
        facts.delete_deployment(self._deployment_id)
