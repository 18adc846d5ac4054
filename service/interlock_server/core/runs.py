"""Making, changing and deleting runs of both kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from interlock.ids import uuid7

from interlock_server.core.errors import (
    CallError,
    EtagMismatchError,
    IdReusedError,
    InvalidArgumentError,
    NotFoundError,
    run_not_found,
)
from interlock_server.core.transitions import draft_bytes, mirror, state_of
from interlock_server.rules.effects import entered
from interlock_server.rules.frame import Verdict
from interlock_server.rules.runs import FRESH
from interlock_server.rules.states import Id, StateDraft
from interlock_server.storage.commands import CommandClass
from interlock_server.storage.facts import Facts, Needs, RunKey
from interlock_server.storage.records import FlowRun, RunKind, TaskRun, Transition
from interlock_server.storage.rows import RETRY_COLUMNS, retry_policy_of

_RUN_BYTES = 2000
"""What a run takes in memory beside its texts, about."""


@dataclass(frozen=True, slots=True)
class Creation:
    """A run to make, without its times and its state, and the state to make it with."""

    run: FlowRun | TaskRun
    draft: StateDraft

    @property
    def key(self) -> RunKey | None:
        """The key that is unique beside the id."""
        run = self.run
        if isinstance(run, TaskRun):
            return (run.flow_run_id, run.task_key, run.dynamic_key)
        return None if run.idempotency_key is None else (run.flow_id, run.idempotency_key)


@dataclass(frozen=True, slots=True)
class Made:
    """A run that was made, whole, or the id of the one that was there before."""

    run_id: Id
    run: FlowRun | TaskRun | None


class CreateRuns:
    """Makes runs of one kind; each is answered by itself, in order."""

    command_class = CommandClass.TRANSITIONS
    replayable = True
    exclusive = False

    def __init__(self, kind: RunKind, creations: Sequence[Creation]) -> None:
        self._kind = kind
        self._creations = creations
        self.weight = len(creations)
        self.size = sum(
            _RUN_BYTES + _text_bytes(creation.run) + draft_bytes(creation.draft)
            for creation in creations
        )

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        for creation in self._creations:
            run = creation.run
            for kind in RunKind:  # also the other one: a log belongs to an id
                needs.runs_to_read[kind].add(run.id)
            if (key := creation.key) is not None:
                needs.run_keys[self._kind].add(key)
            if isinstance(run, FlowRun):
                needs.flows_to_read.add(run.flow_id)
                if run.deployment_id is not None:
                    needs.deployments_to_read.add(run.deployment_id)
                if run.parent_task_run_id is not None:
                    needs.runs_to_write[RunKind.TASK_RUN].add(run.parent_task_run_id)
            elif run.flow_run_id is not None:
                needs.runs_to_read[RunKind.FLOW_RUN].add(run.flow_run_id)

    def decide(self, facts: Facts) -> list[Made | CallError]:
        """Make each run, unless it is there."""
        outcomes: list[Made | CallError] = []
        for creation in self._creations:
            try:
                outcomes.append(_make(self._kind, creation, facts))
            except CallError as error:
                outcomes.append(error)
        return outcomes


def _make(kind: RunKind, creation: Creation, facts: Facts) -> Made:
    run, draft = creation.run, creation.draft
    if (before := facts.runs[kind].get(run.id)) is not None:
        if before.digest != run.digest:
            raise IdReusedError(run.id)
        return Made(run.id, None)
    if any(run.id in facts.runs[other] for other in RunKind):
        raise IdReusedError(run.id)
    if run.id in facts.deleted_runs:
        raise run_not_found(kind, run.id, deleted=True)
    if isinstance(run, TaskRun):
        # Before its key is looked at, which is still there while its flow run is being pruned.
        _check_parents(run, facts)
    key = creation.key
    if key is not None and (found := facts.run_ids_by_key[kind].get(key)) is not None:
        return Made(found, None)
    _check_parents(run, facts)

    state = state_of(uuid7(), draft, facts.now)
    progress = entered(FRESH, None, draft, facts.now)
    whole = replace(run, created=facts.now, updated=facts.now, state=state, progress=progress)
    creator = run.created_by if isinstance(run, FlowRun) else ""
    first = Transition(
        state.id,
        run.id,
        facts.now,
        Verdict.ACCEPT,
        "",
        "",
        "",
        draft.type,
        draft.name,
        creator,
        False,
        run.digest,
        progress.run_count,
        state,
        version=run.version,
    )
    facts.add_run(kind, whole, key, first)
    if isinstance(run, FlowRun) and run.parent_task_run_id is not None:
        mirror(run.id, state, run.parent_task_run_id, facts)
    return Made(run.id, whole)


def _check_parents(run: FlowRun | TaskRun, facts: Facts) -> None:
    if isinstance(run, FlowRun):
        if run.flow_id not in facts.flows:
            raise NotFoundError("flow", run.flow_id, field="flow_id")
        if run.deployment_id is not None:
            _check_deployment(run.deployment_id, run.flow_id, facts)
        tracker = run.parent_task_run_id
        if tracker is not None and tracker not in facts.runs[RunKind.TASK_RUN]:
            raise NotFoundError("task_run", tracker, field="parent_task_run_id")
    elif run.flow_run_id is not None and run.flow_run_id not in facts.runs[RunKind.FLOW_RUN]:
        deleted = run.flow_run_id in facts.deleted_runs
        raise run_not_found(RunKind.FLOW_RUN, run.flow_run_id, deleted)


def _check_deployment(deployment_id: Id, flow_id: Id, facts: Facts) -> None:
    deployment = facts.deployments.get(deployment_id)
    if deployment is None:
        raise NotFoundError("deployment", deployment_id, field="deployment_id")
    if deployment.flow_id != flow_id:
        raise InvalidArgumentError(
            "deployment_id",
            f"The deployment {deployment_id} is one of the flow {deployment.flow_id}: "
            "make the run one of that flow, too.",
        )


class UpdateRun:
    """Changes columns of a run that no rule decides about."""

    command_class = CommandClass.REST
    replayable = False
    exclusive = False
    weight = 1

    def __init__(self, kind: RunKind, run_id: Id, values: dict[str, Any], version: int | None):
        self._kind = kind
        self._run_id = run_id
        self._values = values
        self._version = version
        self.size = _RUN_BYTES + sum(len(str(value)) for value in values.values())

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.runs_to_write[self._kind].add(self._run_id)

    def decide(self, facts: Facts) -> None:
        """Change the run, if it is the version that the caller has seen."""
        run = facts.runs[self._kind].get(self._run_id)
        if run is None:
            raise run_not_found(self._kind, self._run_id, self._run_id in facts.deleted_runs)
        if self._version is not None and self._version != run.version:
            raise EtagMismatchError(self._kind.value, self._run_id)
        changed = replace(run, version=run.version + 1)
        if "infrastructure_pid" in self._values:
            changed = replace(changed, infrastructure_pid=self._values["infrastructure_pid"])
        if "max_retries" in self._values:
            columns = [self._values.get(name, 0) for name in RETRY_COLUMNS]
            changed = replace(changed, retry=retry_policy_of(*columns))
        values = self._values | {"version": changed.version, "updated": facts.now}
        facts.edit_run(self._kind, changed, values)


class DeleteRun:
    """Deletes a run with all that is part of it: alone in its batch, which does not know those."""

    command_class = CommandClass.REST
    replayable = False
    exclusive = True
    weight = 1
    size = _RUN_BYTES

    def __init__(self, kind: RunKind, run_id: Id, version: int | None = None) -> None:
        self._kind = kind
        self._run_id = run_id
        self._version = version

    def add_needs(self, needs: Needs) -> None:
        """See `Command.add_needs`."""
        needs.runs_to_write[self._kind].add(self._run_id)

    def decide(self, facts: Facts) -> None:
        """Delete the run, if it is the version that the caller has seen."""
        run = facts.runs[self._kind].get(self._run_id)
        if run is None:
            raise run_not_found(self._kind, self._run_id, self._run_id in facts.deleted_runs)
        if self._version is not None and self._version != run.version:
            raise EtagMismatchError(self._kind.value, self._run_id)
        facts.delete_run(self._kind, self._run_id)


def _text_bytes(run: FlowRun | TaskRun) -> int:
    free = run.parameters if isinstance(run, FlowRun) else run.inputs
    labels = sum(len(key) + len(value) for key, value in run.labels.items())
    return len(run.name) + len(free) + sum(map(len, run.tags)) + labels
