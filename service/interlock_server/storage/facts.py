"""What a batch of commands needs to know, what it knows, and what it has changed.

The facts of all commands of a batch are loaded at once. Commands are decided in order of arrival
over them, and what one command changes the next one sees: the facts are an overlay over the
database, which is written once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from interlock_server.rules.states import Id, Micros, State
from interlock_server.storage.records import (
    CacheEntry,
    ChunkOutline,
    Deployment,
    Flow,
    FlowRun,
    FlowRunInput,
    Heartbeat,
    LogChunk,
    LogHead,
    LogProducer,
    RunFacts,
    RunKind,
    TaskRun,
    Term,
    Transition,
)

DeploymentKey = tuple[Id, str]
"""What is unique among deployments beside the id: flow id and name."""

RunKey = tuple[Id | str | None, ...]
"""What is unique among runs beside the id: (flow id, idempotency key) for a flow run, (flow run id
or None, task key, dynamic key) for a task run."""


@dataclass(frozen=True, slots=True)
class Trim:
    """At most `limit` of the rows that are parts of some runs, in one table."""

    table: str
    run_ids: tuple[Id, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class Expiry:
    """At most `limit` of the rows of a table whose time, in `column`, is before `before`."""

    table: str
    column: str
    before: Micros
    limit: int


class Needs:
    """What the commands of a batch need to know. What may be changed is locked for writing."""

    def __init__(self) -> None:
        self.flows_to_write: set[Id] = set()
        self.flows_to_read: set[Id] = set()
        self.flows_with_runs: set[Id] = set()
        """Flows of which must be known whether they have any run."""
        self.flow_names: set[str] = set()
        self.deployments_to_write: set[Id] = set()
        self.deployments_to_read: set[Id] = set()
        """Those of the flow runs to read or write are read in any case."""
        self.deployment_keys: set[DeploymentKey] = set()
        self.runs_to_write: dict[RunKind, set[Id]] = {kind: set() for kind in RunKind}
        self.runs_to_read: dict[RunKind, set[Id]] = {kind: set() for kind in RunKind}
        self.run_keys: dict[RunKind, set[RunKey]] = {kind: set() for kind in RunKind}
        self.transitions: dict[RunKind, set[Id]] = {kind: set() for kind in RunKind}
        self.trackers_of: set[Id] = set()
        """Flow runs whose task runs in their parents, if they are subflows, may be changed."""
        self.cache_keys: set[str] = set()
        self.heartbeats: dict[RunKind, set[Id]] = {kind: set() for kind in RunKind}
        """Runs whose heartbeats must be known; who changes them has locked the run."""
        self.terms: set[str] = set()
        self.logs: set[Id] = set()
        self.log_producers: set[tuple[Id, Id]] = set()
        self.log_calls: set[Id] = set()
        """Producers of which must be known whether they wrote to any run's log."""
        self.log_chunks: set[tuple[Id, int]] = set()
        """By run and first ordinal; the logs themselves must be named, too."""
        self.first_log_chunks: dict[Id, int] = {}
        """Of which logs how many of the oldest chunks; the logs themselves must be named, too."""


class Facts:
    """What a batch knows of the database, and what it has changed so far.

    `now` is the database's clock, read after the locks were taken. A thing that was asked for and
    does not exist is absent from its dictionary.
    """

    def __init__(self, now: Micros) -> None:
        self.now = now
        self.flows: dict[Id, Flow] = {}
        self.flow_ids_by_name: dict[str, Id] = {}
        self.flows_with_runs: set[Id] = set()
        self.deployments: dict[Id, Deployment] = {}
        """Not locked, but for those that may be changed: another server may be deleting them."""
        self.deployment_ids_by_key: dict[DeploymentKey, Id] = {}
        self.runs: dict[RunKind, dict[Id, RunFacts]] = {kind: {} for kind in RunKind}
        self.run_ids_by_key: dict[RunKind, dict[RunKey, Id]] = {kind: {} for kind in RunKind}
        self.transitions: dict[RunKind, dict[Id, Transition]] = {kind: {} for kind in RunKind}
        self.states: dict[RunKind, dict[Id, State]] = {kind: {} for kind in RunKind}
        self.last_decided: dict[Id, Micros] = {}
        """When a run's last proposal was decided in this batch: the next one comes after it."""
        self.deleted_runs: set[Id] = set()
        """Runs that are not there any more, or are being pruned."""
        self.doomed_runs: set[Id] = set()
        """Runs that are being pruned: only their pruning may still touch them."""
        self.cached: dict[str, State] = {}
        """By cache key: the newest COMPLETED state that has not expired."""
        self.heartbeats: dict[RunKind, dict[Id, Heartbeat]] = {kind: {} for kind in RunKind}
        self.terms: dict[str, Term] = {}
        self.log_heads: dict[Id, LogHead] = {}
        self.log_producers: dict[tuple[Id, Id], LogProducer] = {}
        self.log_calls: dict[Id, bytes | None] = {}
        """By producer: the digest of the single call that its id stands for; None: of none."""
        self.log_chunks: dict[tuple[Id, int], int] = {}
        """The last ordinal of each."""
        self.first_log_chunks: dict[Id, list[ChunkOutline]] = {}
        """The oldest chunks of logs, in order."""

        self.changes = 0
        """How many changes were made: a command that fails must have made none."""
        self.new_flows: list[Flow] = []
        self.edited_flows: dict[Id, dict[str, Any]] = {}
        self.deleted_flow_ids: list[Id] = []
        self.new_deployments: list[Deployment] = []
        self.deleted_deployment_ids: list[Id] = []
        self.new_runs: dict[RunKind, list[FlowRun | TaskRun]] = {kind: [] for kind in RunKind}
        self.moved_runs: dict[RunKind, dict[Id, RunFacts]] = {kind: {} for kind in RunKind}
        self.edited_runs: dict[RunKind, dict[Id, dict[str, Any]]] = {kind: {} for kind in RunKind}
        self.deleted_run_ids: dict[RunKind, list[Id]] = {kind: [] for kind in RunKind}
        self.newly_doomed_runs: dict[RunKind, list[RunFacts]] = {kind: [] for kind in RunKind}
        self.trims: list[Trim] = []
        self.expiries: list[Expiry] = []
        self.new_transitions: dict[RunKind, list[Transition]] = {kind: [] for kind in RunKind}
        self.ordinals: dict[RunKind, dict[Id, int]] = {kind: {} for kind in RunKind}
        """By the id of each new transition that wrote a state: its place among the changes."""
        self.new_cache_entries: list[CacheEntry] = []
        self.new_flow_run_inputs: dict[tuple[Id, str], FlowRunInput] = {}
        self.moved_heartbeats: dict[RunKind, dict[Id, Heartbeat]] = {kind: {} for kind in RunKind}
        self.ended_heartbeats: dict[RunKind, set[Id]] = {kind: set() for kind in RunKind}
        self.heartbeats_begin_again = False
        """Whether all runs that are watched get one more timeout from now on."""
        self.moved_terms: dict[str, Term] = {}
        self.new_terms: set[str] = set()
        """Those of the moved terms that were not there before this batch."""
        self.moved_log_heads: dict[Id, LogHead] = {}
        self.new_log_heads: set[Id] = set()
        """Those of the moved heads that were not there before this batch."""
        self.moved_log_producers: dict[tuple[Id, Id], LogProducer] = {}
        self.new_log_chunks: list[LogChunk] = []
        self.replaced_log_chunks: list[tuple[Id, int]] = []
        """By run and first ordinal. They go before the new ones come."""
        self.moved_log_merges: dict[Id, Micros | None] = {}
        """When the chunks of a log are to be looked at; None: no more."""
        self.cut_logs: list[LogHead] = []
        """Logs that lose what is before their first ordinal."""

    # --- changes ---

    def add_flow(self, flow: Flow) -> None:
        """Make a flow."""
        self.changes += 1
        self.flows[flow.id] = flow
        self.flow_ids_by_name[flow.name] = flow.id
        self.new_flows.append(flow)

    def edit_flow(self, flow: Flow, values: dict[str, Any]) -> None:
        """Change columns of a flow, given as they become; `flow` is the flow as it becomes."""
        self.changes += 1
        self.flows[flow.id] = flow
        self.edited_flows.setdefault(flow.id, {}).update(values)

    def delete_flow(self, flow_id: Id) -> None:
        """Delete a flow, with all that is part of it."""
        self.changes += 1
        self.deleted_flow_ids.append(flow_id)

    def add_deployment(self, deployment: Deployment) -> None:
        """Make a deployment."""
        self.changes += 1
        self.deployments[deployment.id] = deployment
        self.deployment_ids_by_key[deployment.key] = deployment.id
        self.new_deployments.append(deployment)

    def delete_deployment(self, deployment_id: Id) -> None:
        """Delete a deployment; its runs stay."""
        self.changes += 1
        self.deleted_deployment_ids.append(deployment_id)

    def add_run(
        self, kind: RunKind, run: FlowRun | TaskRun, key: RunKey | None, created_by: Transition
    ) -> None:
        """Make a run with its first state; `key` is its unique key, if it has one."""
        self.changes += 1
        parent_id = run.flow_id if isinstance(run, FlowRun) else run.flow_run_id
        facts = RunFacts(
            run.id, parent_id, run.digest, run.version, run.retry, run.state, run.progress
        )
        if isinstance(run, FlowRun):
            facts = replace(
                facts,
                deployment_id=run.deployment_id,
                tracker_id=run.parent_task_run_id,
                infrastructure_pid=run.infrastructure_pid,
            )
        self.runs[kind][run.id] = facts
        if key is not None:
            self.run_ids_by_key[kind][key] = run.id
        self.new_runs[kind].append(run)
        self.add_transition(kind, created_by)

    def move_run(self, kind: RunKind, run: RunFacts) -> None:
        """Change what transitions change in a run."""
        self.changes += 1
        self.runs[kind][run.id] = run
        self.moved_runs[kind][run.id] = run

    def edit_run(self, kind: RunKind, run: RunFacts, values: dict[str, Any]) -> None:
        """Change other columns of a run, given as they become; `run` is the run as it becomes."""
        self.changes += 1
        self.runs[kind][run.id] = run
        self.edited_runs[kind].setdefault(run.id, {}).update(values)

    def delete_run(self, kind: RunKind, run_id: Id) -> None:
        """Delete a run, with all that is part of it, and remember that it was there."""
        self.changes += 1
        self.deleted_run_ids[kind].append(run_id)

    def doom_run(self, kind: RunKind, run: RunFacts, key: dict[str, Any]) -> None:
        """Hide a run at once, so that it can be deleted part by part; `key` frees its unique key.

        A version less than 0 is what marks it.
        """
        self.changes += 1
        del self.runs[kind][run.id]
        self.edited_runs[kind].setdefault(run.id, {}).update(key, version=-run.version)
        self.newly_doomed_runs[kind].append(run)

    def trim(self, trim: Trim) -> None:
        """Delete some parts of runs that are being pruned."""
        self.changes += 1
        self.trims.append(trim)

    def expire(self, expiry: Expiry) -> None:
        """Delete some rows that are too old."""
        self.changes += 1
        self.expiries.append(expiry)

    def add_transition(self, kind: RunKind, transition: Transition) -> None:
        """Remember a proposal and its answer."""
        self.changes += 1
        self.transitions[kind][transition.id] = transition
        self.last_decided[transition.run_id] = transition.decided
        if transition.state is not None:
            self.states[kind][transition.id] = transition.state
            self.ordinals[kind][transition.id] = self.changes
        self.new_transitions[kind].append(transition)

    def add_input(self, given: FlowRunInput) -> None:
        """Keep what a flow run is resumed with; of one key the newest counts."""
        self.changes += 1
        self.new_flow_run_inputs[given.run_id, given.pause_key] = given

    def cache_result(self, entry: CacheEntry, state: State) -> None:
        """Let others find a task run's state under its cache key."""
        self.changes += 1
        if entry.expiration is None or entry.expiration > self.now:
            self.cached[entry.cache_key] = state
        self.new_cache_entries.append(entry)

    def beat(self, kind: RunKind, heartbeat: Heartbeat) -> None:
        """Watch a run, or go on watching it."""
        self.changes += 1
        self.heartbeats[kind][heartbeat.run_id] = heartbeat
        self.moved_heartbeats[kind][heartbeat.run_id] = heartbeat
        self.ended_heartbeats[kind].discard(heartbeat.run_id)

    def end_heartbeats(self, kind: RunKind, run_id: Id) -> None:
        """Watch a run no more."""
        self.changes += 1
        self.heartbeats[kind].pop(run_id, None)
        self.moved_heartbeats[kind].pop(run_id, None)
        self.ended_heartbeats[kind].add(run_id)

    def begin_heartbeats_again(self) -> None:
        """Give all runs that are watched one more timeout: nobody could listen to them."""
        self.changes += 1
        self.heartbeats_begin_again = True
        for kind in RunKind:
            for run_id, heartbeat in self.heartbeats[kind].items():
                extended = replace(heartbeat, deadline=self.now + heartbeat.timeout)
                self.heartbeats[kind][run_id] = extended

    def renew_term(self, term: Term) -> None:
        """Begin a term, or go on with it."""
        self.changes += 1
        if term.name not in self.terms:
            self.new_terms.add(term.name)
        self.terms[term.name] = term
        self.moved_terms[term.name] = term

    def append_log(self, head: LogHead, producer: LogProducer, chunk: LogChunk | None) -> None:
        """Add a chunk to a run's log; None notes just what the producer said."""
        self.changes += 1
        if head.run_id not in self.log_heads:
            self.new_log_heads.add(head.run_id)
        self.log_heads[head.run_id] = head
        self.moved_log_heads[head.run_id] = head
        key = (producer.producer_id, producer.run_id)
        self.log_producers[key] = producer
        self.moved_log_producers[key] = producer
        self.know_log_call(producer)
        if chunk is not None:
            self.new_log_chunks.append(chunk)

    def cut_log(self, head: LogHead) -> None:
        """Delete the chunks of a log that are before the first ordinal of its head."""
        self.changes += 1
        self.log_heads[head.run_id] = head
        self.moved_log_heads[head.run_id] = head
        self.cut_logs.append(head)

    def know_log_call(self, producer: LogProducer) -> None:
        """Note for which single call a producer's id stands, if it does."""
        known = self.log_calls.get(producer.producer_id)
        self.log_calls[producer.producer_id] = producer.digest or known

    def merge_log(
        self, head: LogHead, replaced: Iterable[tuple[Id, int]], chunks: Iterable[LogChunk]
    ) -> None:
        """Put chunks of a log in the place of smaller ones with the same records."""
        self.changes += 1
        self.log_heads[head.run_id] = head
        self.moved_log_heads[head.run_id] = head
        for key in replaced:
            del self.log_chunks[key]
            self.replaced_log_chunks.append(key)
        self.new_log_chunks.extend(chunks)

    def expect_log_merge(self, run_id: Id, due: Micros | None) -> None:
        """Say when the chunks of a log are to be looked at; None: no more."""
        self.changes += 1
        self.moved_log_merges[run_id] = due

    # --- what watchers are told ---

    @property
    def has_events(self) -> bool:
        """Whether this batch has written a state of a run, or deleted one."""
        changed = (self.ordinals, self.deleted_run_ids, self.newly_doomed_runs)
        return any(of_kind for each in changed for of_kind in each.values())
