"""Making, changing and deleting flows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from interlock_server.core.errors import (
    EtagMismatchError,
    FlowHasRunsError,
    IdReusedError,
    NotFoundError,
)
from interlock_server.core.runs import DeleteRun
from interlock_server.rules.states import Id
from interlock_server.storage import queries
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.database import Database
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.filters import OneOf, Query
from interlock_server.storage.pipeline import Pipeline
from interlock_server.storage.records import Flow, RunKind
from interlock_server.storage.rows import json_text

_FLOW_BYTES = 1000


class CreateFlow:
    """Makes the flow of a name, or finds it."""

    command_class = CommandClass.TRANSITIONS
    replayable = True
    exclusive = False
    weight = 1
    size = _FLOW_BYTES

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.flows_to_read.add(self._flow.id)
        needs.flow_names.add(self._flow.name)

    def decide(self, facts: Facts) -> tuple[Flow, bool]:
        """Answer the flow of the name, and whether it was made now."""
        flow = self._flow
        if (named := facts.flow_ids_by_name.get(flow.name)) is not None:
            return facts.flows[named], False
        if flow.id in facts.flows:
            raise IdReusedError(flow.id)
        flow = replace(flow, created=facts.now, updated=facts.now)
        facts.add_flow(flow)
        return flow, True


@dataclass(frozen=True, slots=True)
class FlowChange:
    """What a flow's tags and labels become; None: they stay."""

    tags: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None


class UpdateFlow:
    """Changes a flow."""

    command_class = CommandClass.REST
    replayable = False
    exclusive = False
    weight = 1
    size = _FLOW_BYTES

    def __init__(self, flow_id: Id, change: FlowChange, version: int | None) -> None:
        self._flow_id = flow_id
        self._change = change
        self._version = version

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.flows_to_write.add(self._flow_id)

    def decide(self, facts: Facts) -> Flow:
        """Answer the changed flow."""
        flow = _flow_of_version(facts, self._flow_id, self._version)
        change = self._change
        changed = replace(
            flow,
            tags=flow.tags if change.tags is None else change.tags,
            labels=flow.labels if change.labels is None else change.labels,
            updated=facts.now,
            version=flow.version + 1,
        )
        facts.edit_flow(
            changed,
            {
                "tags": json_text(changed.tags),
                "labels": json_text(changed.labels),
                "updated": changed.updated,
                "version": changed.version,
            },
        )
        return changed


class DeleteFlow:
    """Deletes a flow that has no runs left. Alone in its batch, as `DeleteRun` is."""

    command_class = CommandClass.REST
    replayable = False
    exclusive = True
    weight = 1
    size = _FLOW_BYTES

    def __init__(self, flow_id: Id, version: int | None) -> None:
        self._flow_id = flow_id
        self._version = version

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.flows_to_write.add(self._flow_id)
        needs.flows_with_runs.add(self._flow_id)

    def decide(self, facts: Facts) -> None:
        """Delete the flow."""
        _flow_of_version(facts, self._flow_id, self._version)
        if self._flow_id in facts.flows_with_runs:
            raise FlowHasRunsError(self._flow_id)
        facts.delete_flow(self._flow_id)


def _flow_of_version(facts: Facts, flow_id: Id, version: int | None) -> Flow:
    flow = facts.flows.get(flow_id)
    if flow is None:
        raise NotFoundError("flow", flow_id)
    if version is not None and version != flow.version:
        raise EtagMismatchError("flow", flow_id)
    return flow


_DELETED_AT_ONCE = 50


async def delete_flow_with_runs(
    database: Database, pipeline: Pipeline, flow_id: Id, version: int | None
) -> None:
    """Delete a flow's runs one by one, then the flow, so that no transaction is long.

    Broken off half-way it leaves a flow with fewer runs. A run that is made meanwhile ends it with
    FlowHasRunsError.
    """
    flow = await queries.get_flow(database, flow_id)
    if flow is not None and version is not None and version != flow.version:
        raise EtagMismatchError("flow", flow_id)
    query = Query(OneOf("flow_id", (flow_id,)), limit=_DELETED_AT_ONCE)
    while runs := (await queries.list_runs(database, RunKind.FLOW_RUN, query))[0]:
        for run in runs:
            # Someone else may delete it at the same time.
            with suppress(NotFoundError):
                await pipeline.submit(DeleteRun(RunKind.FLOW_RUN, run.id))
    await pipeline.submit(DeleteFlow(flow_id, version))
