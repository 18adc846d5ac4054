"""What a batch reads and writes, as steps that a dialect executes.

The order of reading is the order of locking, the same for every batch: task runs, flow runs,
flows, deployments, terms, logs; within a table by id. Facts are read by statements that begin after
the locks are held, since a statement that both locks and counts still sees the snapshot from before
it waited. (A locked row itself is fresh: the database reads it again after the wait.)
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import astuple, fields
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import Table

from interlock_server.rules.states import Id, State
from interlock_server.storage import clock, tables
from interlock_server.storage.errors import ConflictError
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.records import (
    ChunkOutline,
    Deployment,
    Flow,
    FlowRun,
    Heartbeat,
    LogHead,
    LogProducer,
    RunKind,
    TaskRun,
    Term,
)
from interlock_server.storage.rows import (
    HEARTBEAT_TABLES,
    KEY_COLUMNS,
    MOVE_COLUMNS,
    NAME_TABLES,
    RUN_TABLES,
    TAG_TABLES,
    TRANSITION_COLUMNS,
    TRANSITION_TABLES,
    Row,
    column_names,
    deployment_of,
    deployment_row,
    doomed_rows,
    fact_columns,
    flow_of,
    flow_row,
    folded,
    log_chunk_row,
    move_row,
    run_facts_of,
    run_row,
    transition_of,
    transition_row,
)
from interlock_server.storage.steps import (
    BeginAgain,
    Delete,
    DeleteBelow,
    DeleteExpired,
    DeleteOlder,
    DeleteRows,
    DeleteSome,
    FirstChunks,
    Insert,
    Lock,
    NewestCached,
    Query,
    ReadClock,
    RememberDeleted,
    Select,
    Trackers,
    Update,
    Upsert,
    WhichHave,
    Write,
)

Loading = Generator[Query, list[Row], Facts]


_TRACKER = fact_columns(RunKind.FLOW_RUN).index("parent_task_run_id")


def load(needs: Needs) -> Loading:
    """Lock and read what a batch needs: takes each query's rows, and returns the facts."""
    # Runs whose log has no head have to be looked for, and are locked with the others: behind the
    # locks of heads it would be too late.
    headless: set[Id] = set()
    if needs.logs:
        found = yield Select(tables.log_head, ("run_id",), ("run_id",), sorted(needs.logs))
        headless = needs.logs - {row[0] for row in found}
    # Which task run tracks a flow run never changes, so that it may be read before it is locked.
    tracked: list[Row] = []
    if needs.trackers_of:
        tracked = yield Trackers(sorted(needs.trackers_of))
    needs.runs_to_write[RunKind.TASK_RUN].update(row[0] for row in tracked)
    run_rows: dict[RunKind, list[Row]] = {}
    run_rows[RunKind.TASK_RUN] = yield from _lock_runs(
        RunKind.TASK_RUN, needs, needs.runs_to_read[RunKind.TASK_RUN] | headless
    )
    parents = {row[1] for row in run_rows[RunKind.TASK_RUN] if row[1] is not None}
    run_rows[RunKind.FLOW_RUN] = yield from _lock_runs(
        RunKind.FLOW_RUN, needs, parents | needs.runs_to_read[RunKind.FLOW_RUN] | headless
    )
    for row in run_rows[RunKind.FLOW_RUN]:
        tracker_id = row[_TRACKER]
        if tracker_id is None or row[0] not in needs.trackers_of:
            continue
        if tracker_id not in needs.runs_to_write[RunKind.TASK_RUN]:
            raise ConflictError("A subflow was made meanwhile.")
    flow_rows: list[Row] = []
    columns = column_names(tables.flow)
    ids, lock = _ids_and_lock(needs.flows_to_write, needs.flows_to_read)
    if ids:
        flow_rows += yield Select(tables.flow, columns, ("id",), ids, lock)
    if needs.flow_names:
        flow_rows += yield Select(tables.flow, columns, ("name",), sorted(needs.flow_names))
    deployment_rows: list[Row] = []
    if needs.deployments_to_write:
        deployment_rows = yield Select(
            tables.deployment,
            column_names(tables.deployment),
            ("id",),
            sorted(needs.deployments_to_write),
            Lock.UPDATE,
        )
    term_rows: list[Row] = []
    if needs.terms:
        columns = column_names(tables.term)
        names = sorted(needs.terms)
        term_rows = yield Select(tables.term, columns, ("name",), names, Lock.UPDATE)
    head_rows: list[Row] = []
    if needs.logs:
        head_rows = yield Select(
            tables.log_head,
            column_names(tables.log_head),
            ("run_id",),
            sorted(needs.logs),
            Lock.UPDATE,
        )

    facts = Facts((yield ReadClock())[0][0] + clock.skew())
    for row in flow_rows:
        flow = flow_of(row)
        facts.flows[flow.id] = flow
        facts.flow_ids_by_name[flow.name] = flow.id
    if needs.flows_with_runs:
        having = yield WhichHave(tables.flow_run, "flow_id", sorted(needs.flows_with_runs))
        facts.flows_with_runs = {row[0] for row in having}
    cached: dict[str, Id] = {}
    if needs.cache_keys:
        rows = yield NewestCached(sorted(needs.cache_keys), facts.now)
        cached = {row[0]: row[1] for row in rows}
    for kind in RunKind:
        extra = set(cached.values()) if kind is RunKind.TASK_RUN else set()
        yield from _read_runs(kind, needs, run_rows[kind], facts, extra)
    states = facts.states[RunKind.TASK_RUN]
    facts.cached = {key: states[id_] for key, id_ in cached.items() if id_ in states}
    yield from _read_deployments(needs, deployment_rows, facts)
    for row in term_rows:
        facts.terms[row[0]] = Term(*row)
    yield from _read_heartbeats(needs, facts)
    for row in head_rows:
        facts.log_heads[row[0]] = LogHead(*row)
    yield from _read_logs(needs, facts)
    yield from _read_deleted(needs, facts)
    return facts


def _lock_runs(
    kind: RunKind, needs: Needs, to_read: set[Id]
) -> Generator[Query, list[Row], list[Row]]:
    ids, lock = _ids_and_lock(needs.runs_to_write[kind], to_read)
    if not ids:
        return []
    return (yield Select(RUN_TABLES[kind], fact_columns(kind), ("id",), ids, lock))


def _ids_and_lock(to_write: set[Id], to_read: set[Id]) -> tuple[list[Id], Lock]:
    """Answer how the rows of one table are locked: by one statement, whose order is that of ids.

    With one for what is written and one for what is read, two servers' batches that write what the
    other one reads would each wait for the other.
    """
    return sorted(to_write | to_read), Lock.UPDATE if to_write else Lock.SHARE


def _read_runs(
    kind: RunKind, needs: Needs, rows: list[Row], facts: Facts, other_states: Iterable[Id] = ()
) -> Generator[Query, list[Row], None]:
    ids = {row[4] for row in rows if row[4] is not None}
    ids |= needs.transitions[kind]
    ids.update(other_states)
    table = TRANSITION_TABLES[kind]
    states: dict[Id, State] = {}
    answered: set[Id] = set()
    while ids:
        found = yield Select(table, TRANSITION_COLUMNS, ("id",), sorted(ids))
        for transition in map(transition_of, found):
            if transition.id in needs.transitions[kind]:
                facts.transitions[kind][transition.id] = transition
                if transition.answered_state_id is not None:
                    answered.add(transition.answered_state_id)
            if transition.state is not None:
                states[transition.id] = transition.state
        # Where a proposal was sent again, the state that it was answered is read, too: one more
        # round, since such a state is one that was written.
        ids = answered - states.keys()
        answered = set()
    facts.states[kind].update(states)
    for row in rows:
        run_id, parent_id, _, version = row[:4]
        # A run that is being pruned is deleted for everyone but its pruning; flow runs come first.
        if version < 0 or (kind is RunKind.TASK_RUN and parent_id in facts.doomed_runs):
            facts.doomed_runs.add(run_id)
        else:
            facts.runs[kind][run_id] = run_facts_of(row, states)
    if keys := needs.run_keys[kind]:
        columns = KEY_COLUMNS[kind]
        found = yield Select(RUN_TABLES[kind], ("id", *columns), columns, list(keys))
        for id_, *key in found:
            facts.run_ids_by_key[kind][tuple(key)] = id_


def _read_deployments(
    needs: Needs, locked: list[Row], facts: Facts
) -> Generator[Query, list[Row], None]:
    columns = column_names(tables.deployment)
    rows = list(locked)
    asked = needs.deployments_to_read | {
        run.deployment_id
        for run in facts.runs[RunKind.FLOW_RUN].values()
        if run.deployment_id is not None
    }
    if ids := asked - needs.deployments_to_write:
        rows += yield Select(tables.deployment, columns, ("id",), sorted(ids))
    if needs.deployment_keys:
        by_key = sorted(needs.deployment_keys)
        rows += yield Select(tables.deployment, columns, ("flow_id", "name"), by_key)
    for deployment in map(deployment_of, rows):
        facts.deployments[deployment.id] = deployment
        facts.deployment_ids_by_key[deployment.key] = deployment.id


def _read_heartbeats(needs: Needs, facts: Facts) -> Generator[Query, list[Row], None]:
    for kind, table in HEARTBEAT_TABLES.items():
        if ids := sorted(needs.heartbeats[kind]):
            for row in (yield Select(table, column_names(table), ("run_id",), ids)):
                facts.heartbeats[kind][row[0]] = Heartbeat(*row)


def _read_logs(needs: Needs, facts: Facts) -> Generator[Query, list[Row], None]:
    if needs.log_producers:
        found = yield Select(
            tables.log_producer,
            column_names(tables.log_producer),
            ("producer_id", "run_id"),
            sorted(needs.log_producers),
        )
        for row in found:
            producer = LogProducer(*row)
            facts.log_producers[producer.producer_id, producer.run_id] = producer
    if needs.log_calls:
        columns = column_names(tables.log_producer)
        ids = sorted(needs.log_calls)
        for row in (yield Select(tables.log_producer, columns, ("producer_id",), ids)):
            facts.know_log_call(LogProducer(*row))
    if needs.log_chunks:
        key = ("run_id", "first_ordinal")
        found = yield Select(
            tables.log_chunk, (*key, "last_ordinal"), key, sorted(needs.log_chunks)
        )
        facts.log_chunks = {(run_id, first): last for run_id, first, last in found}
    for run_id, limit in needs.first_log_chunks.items():
        rows = yield FirstChunks(run_id, limit)
        facts.first_log_chunks[run_id] = [ChunkOutline(*row) for row in rows]
    # A log without a head is one whose run has to be looked for; those with one have had theirs.
    # Here that is the few whose head was deleted since it was looked for.
    for kind in RunKind:
        if missing := needs.logs - facts.log_heads.keys() - facts.runs[kind].keys():
            rows = yield Select(
                RUN_TABLES[kind], fact_columns(kind), ("id",), sorted(missing), Lock.SHARE
            )
            yield from _read_runs(kind, Needs(), rows, facts)


def _read_deleted(needs: Needs, facts: Facts) -> Generator[Query, list[Row], None]:
    asked = needs.logs - facts.log_heads.keys()
    for kind in RunKind:
        asked |= needs.runs_to_write[kind] | needs.runs_to_read[kind]
    if missing := asked - facts.runs[RunKind.FLOW_RUN].keys() - facts.runs[RunKind.TASK_RUN].keys():
        found = yield Select(tables.deleted_run, ("id",), ("id",), sorted(missing))
        facts.deleted_runs = {row[0] for row in found} | facts.doomed_runs


def writes(facts: Facts) -> Iterator[Write]:
    """Answer what a batch writes, parents before children."""
    if facts.new_flows:
        yield Insert(tables.flow, [flow_row(flow) for flow in facts.new_flows])
        yield from _tags(tables.flow_tag, facts.new_flows)
    if facts.new_deployments:
        yield Insert(tables.deployment, [deployment_row(made) for made in facts.new_deployments])
        yield from _tags(tables.deployment_tag, facts.new_deployments)
    for kind in RunKind:
        if new := facts.new_runs[kind]:
            # In one order for all servers, for what is unique among them.
            yield Insert(RUN_TABLES[kind], sorted(map(run_row, new), key=itemgetter(0)))
            yield Insert(NAME_TABLES[kind], [(run.id, run.name, folded(run.name)) for run in new])
            yield from _tags(TAG_TABLES[kind], new)
    rows: list[Row]
    for kind in RunKind:
        if moved := facts.moved_runs[kind]:
            rows = [move_row(moved[id_], facts.now) for id_ in sorted(moved)]
            yield Update(RUN_TABLES[kind], MOVE_COLUMNS, rows)
        if transitions := facts.new_transitions[kind]:
            ordinals = facts.ordinals[kind]
            rows = [transition_row(t, ordinals.get(t.id)) for t in transitions]
            yield Insert(TRANSITION_TABLES[kind], rows)
    if inputs := facts.new_flow_run_inputs:
        yield Upsert(tables.flow_run_input, [astuple(given) for given in inputs.values()])
    if entries := facts.new_cache_entries:
        # A key that is used for long must not gather what nobody finds any more.
        yield DeleteExpired(sorted({entry.cache_key for entry in entries}), facts.now)
        yield Insert(tables.task_run_cache, [astuple(entry) for entry in entries])
    yield from _heartbeat_writes(facts)
    yield from _log_writes(facts)
    yield from _edits(facts)
    yield from _deletions(facts)


def _heartbeat_writes(facts: Facts) -> Iterator[Write]:
    for name, term in facts.moved_terms.items():
        step = Insert if name in facts.new_terms else Upsert
        yield step(tables.term, [astuple(term)])
    for kind, table in HEARTBEAT_TABLES.items():
        if facts.heartbeats_begin_again:
            yield BeginAgain(table, facts.now)
        if moved := facts.moved_heartbeats[kind]:
            yield Upsert(table, [astuple(moved[id_]) for id_ in sorted(moved)])
        if ended := facts.ended_heartbeats[kind]:
            yield Delete(table, "run_id", sorted(ended))


def _tags(table: Table, things: Iterable[Flow | Deployment | FlowRun | TaskRun]) -> Iterator[Write]:
    rows: list[Row] = [(thing.id, tag) for thing in things for tag in thing.tags]
    if rows:
        yield Insert(table, rows)


# Rows in the order of the fields. `astuple` would copy each value, at each append.
_HEAD_ROW = attrgetter(*(field.name for field in fields(LogHead)))
_PRODUCER_ROW = attrgetter(*(field.name for field in fields(LogProducer)))


def _log_writes(facts: Facts) -> Iterator[Write]:
    heads: dict[bool, list[Row]] = {True: [], False: []}
    for head in facts.moved_log_heads.values():
        heads[head.run_id in facts.new_log_heads].append(_HEAD_ROW(head))
    if heads[True]:
        # What was not there was not locked: another server's head that came first must not go back.
        yield Insert(tables.log_head, heads[True])
    if heads[False]:
        yield Upsert(tables.log_head, heads[False])
    if facts.moved_log_producers:
        yield Upsert(
            tables.log_producer, list(map(_PRODUCER_ROW, facts.moved_log_producers.values()))
        )
    merges = facts.moved_log_merges
    rows: list[Row] = [(run_id, at) for run_id, at in merges.items() if at is not None]
    if rows:
        yield Upsert(tables.log_merge, rows)
    if over := [run_id for run_id, at in merges.items() if at is None]:
        yield Delete(tables.log_merge, "run_id", over)
    if replaced := facts.replaced_log_chunks:
        for table in (tables.log_chunk_task_run, tables.log_chunk):
            yield DeleteRows(table, ("run_id", "first_ordinal"), list(replaced))
    if chunks := facts.new_log_chunks:
        yield Insert(tables.log_chunk, [log_chunk_row(chunk) for chunk in chunks])
        sides: list[Row] = [
            (task_run_id, chunk.run_id, chunk.first_ordinal)
            for chunk in chunks
            for task_run_id in chunk.task_run_ids
        ]
        if sides:
            yield Insert(tables.log_chunk_task_run, sides)


def _edits(facts: Facts) -> Iterator[Write]:
    for id_, values in facts.edited_flows.items():
        yield Update(tables.flow, tuple(values), [(id_, *values.values())])
        yield from _new_tags(tables.flow_tag, "flow_id", id_, values)
    for kind in RunKind:
        for id_, values in facts.edited_runs[kind].items():
            yield Update(RUN_TABLES[kind], tuple(values), [(id_, *values.values())])
            yield from _new_tags(TAG_TABLES[kind], "run_id", id_, values)
            if (name := values.get("name")) is not None:
                yield Upsert(NAME_TABLES[kind], [(id_, name, folded(name))])


def _new_tags(table: Table, key: str, id_: Id, values: Mapping[str, Any]) -> Iterator[Write]:
    """Keep what finds a thing by its tags in step with the columns that are edited."""
    if (tags := values.get("tags")) is not None:
        yield Delete(table, key, [id_])
        rows: list[Row] = [(id_, tag) for tag in json.loads(tags)]
        if rows:
            yield Insert(table, rows)


def _deletions(facts: Facts) -> Iterator[Write]:
    for kind in RunKind:
        if doomed := facts.newly_doomed_runs[kind]:
            yield Upsert(tables.deleted_run, doomed_rows(kind, doomed, facts.now, facts.changes))
            # Without a head nothing is appended before the run was looked for, and not found.
            yield Delete(tables.log_head, "run_id", [run.id for run in doomed])
    for head in facts.cut_logs:
        for table in (tables.log_chunk_task_run, tables.log_chunk):
            yield DeleteBelow(table, head.run_id, head.first_ordinal)
        if head.first_ordinal == head.next_ordinal:
            yield Delete(tables.log_merge, "run_id", [head.run_id])
    named = tables.metadata.tables
    for trim in facts.trims:
        yield DeleteSome(named[trim.table], list(trim.run_ids), trim.limit)
    for expiry in facts.expiries:
        yield DeleteOlder(named[expiry.table], expiry.column, expiry.before, expiry.limit)
    for kind in RunKind:
        if ids := facts.deleted_run_ids[kind]:
            # What deletes is alone in its batch, so that no other kind takes the same ordinals.
            yield RememberDeleted(kind, ids, facts.now, facts.changes)
            # A task run that is part of a flow run has no log of its own: nothing is found for it.
            # The head first: who appends under its lock has committed when it is deleted, and what
            # came with that is seen by the statements behind.
            for table in (
                tables.log_head,
                tables.log_merge,
                tables.log_chunk_task_run,
                tables.log_chunk,
                tables.log_producer,
            ):
                yield Delete(table, "run_id", ids)
            yield Delete(RUN_TABLES[kind], "id", ids)
    if facts.deleted_deployment_ids:
        yield Delete(tables.deployment, "id", facts.deleted_deployment_ids)
    if facts.deleted_flow_ids:
        yield Delete(tables.flow, "id", facts.deleted_flow_ids)
