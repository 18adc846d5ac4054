"""Pruning: what goes, what stays, and that large runs go in small steps. On every dialect."""

import asyncio
from dataclasses import replace

import pytest
from interlock.ids import uuid7
from interlock_server.core import pruning
from interlock_server.core.engine import Engine
from interlock_server.core.errors import CallError, NotFoundError
from interlock_server.core.logs.appends import AppendLog, LogBatch
from interlock_server.core.maintenance import Maintenance
from interlock_server.core.pruning import Ages, DoomRun, Pruned
from interlock_server.core.runs import CreateRuns, Creation, DeleteRun
from interlock_server.core.transitions import Proposal, ProposeStates
from interlock_server.rules.states import StateDraft, StateType
from interlock_server.storage import log_queries, queries
from interlock_server.storage.filters import EVERYTHING, OneOf, Query
from interlock_server.storage.log_queries import LogQuery
from interlock_server.storage.log_status_queries import list_log_statuses
from interlock_server.storage.pipeline import Pipeline
from interlock_server.storage.records import RunKind, TaskRun
from interlock_server.storage.retention import (
    AsLongAsAsked,
    ForDays,
    Kept,
    WithItsRun,
    retention_of,
)
from interlock_server.storage.tables import deleted_run, metadata
from sqlalchemy import Column, Integer, MetaData, Table

from tests.support.stored import DAY, Rows, ago, counts

WEEK, MONTH = 7 * DAY, 30 * DAY


async def prune(engine: Engine, older_than: int | None, logs: int | None = None) -> Pruned:
    total = Pruned()
    async for pruned in pruning.prune(engine.database, engine.pipeline, Ages(older_than, logs)):
        total += pruned
    return total


# --- each table -----------------------------------------------------------------------------------


def test_a_table_that_does_not_say_how_long_it_keeps_its_rows_is_found() -> None:
    undeclared = Table("new", MetaData(), Column("id", Integer, primary_key=True))
    with pytest.raises(LookupError, match="new"):
        retention_of(undeclared)


@pytest.mark.parametrize("table", metadata.tables.values(), ids=lambda table: table.name)
def test_every_table_says_how_long_it_keeps_its_rows(table: Table) -> None:
    match retention_of(table):
        case WithItsRun(at_once):
            assert "run_id" in table.c
            assert 0 < at_once <= 5_000
        case ForDays(days, column, at_once):
            assert days > 0
            assert isinstance(table.c[column].type, Integer)
            assert 0 < at_once <= 5_000
        case AsLongAsAsked(at_once):
            assert {"end_time", "state_type"} <= set(table.c.keys())
            assert 0 < at_once <= 5_000
        case Kept(why):
            assert why


def in_every_table(days: float) -> Rows:
    """A row in each table, all of them so many days old."""
    rows = Rows()
    flow = rows.flow()
    deployment = rows.deployment(flow, "deployment")
    rows.add("flow_tag", flow_id=flow)
    rows.add("deployment_tag", deployment_id=deployment)
    flow_run = rows.run("flow_run", ago(days), flow_id=flow)
    task_run = rows.run("task_run", ago(days), flow_run_id=flow_run)
    rows.log(flow_run, 1, task_run)
    rows.add("log_merge", run_id=flow_run)
    rows.findable("flow_run", flow_run, "flow run", ["tag"])
    rows.findable("task_run", task_run, "task run", ["tag"])
    rows.add("flow_run_heartbeat", run_id=flow_run)
    rows.add("task_run_heartbeat", run_id=task_run)
    rows.add("flow_run_input", run_id=flow_run)
    rows.add("task_run_cache", run_id=task_run)
    rows.add("deleted_run", deleted=ago(days))
    rows.add("watch_epoch", number=int(days))
    rows.add("term", name=uuid7())
    return rows


async def test_what_each_table_declares_is_done(engine: Engine) -> None:
    await in_every_table(days=40).put(engine.database)
    await in_every_table(days=20).put(engine.database)
    # An epoch whose row was put there is no epoch: the next one begins before this counts.
    await engine.database.event_order().horizon()
    before = await counts(engine.database)
    assert before.keys() == metadata.tables.keys()

    await prune(engine, MONTH)

    left = await counts(engine.database)
    for name, table in metadata.tables.items():
        match retention_of(table):
            case Kept():
                assert left[name] == before[name], name
            case AsLongAsAsked() | WithItsRun():
                assert left[name] == 1, name
            case ForDays():
                assert left[name] == 2, name  # of those that were old nothing; the runs deleted now
    await prune(engine, MONTH)
    assert await counts(engine.database) == left


# --- which runs -----------------------------------------------------------------------------------


async def test_only_runs_that_ended_long_enough_ago_go(engine: Engine) -> None:
    rows = Rows()
    flow = rows.flow()
    states = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
    gone = [rows.run("flow_run", ago(31), state=state, flow_id=flow) for state in states]
    gone_alone = rows.run("task_run", ago(31))
    kept = [rows.run("flow_run", ago(29), flow_id=flow)]
    kept += [
        rows.run("flow_run", ago(31), state=state, flow_id=flow)
        for state in ("RUNNING", "PAUSED", "SCHEDULED", "PENDING", "CANCELLING")
    ]
    # It goes by its flow run's end, not by its own.
    kept_inside = rows.run("task_run", ago(31), flow_run_id=kept[0])
    kept_alone = rows.run("task_run", ago(29))
    await rows.put(engine.database)

    expected = Pruned(flow_runs=4, task_runs=1)
    assert await pruning.measure(engine.database, Ages(MONTH)) == expected
    assert await prune(engine, MONTH) == expected

    everything = Query(limit=1000)
    left, _ = await queries.list_runs(engine.database, RunKind.FLOW_RUN, everything)
    assert {run.id for run in left} == set(kept)
    left_tasks, _ = await queries.list_runs(engine.database, RunKind.TASK_RUN, everything)
    assert {run.id for run in left_tasks} == {kept_inside, kept_alone}
    for kind, run_id in ((RunKind.FLOW_RUN, gone[0]), (RunKind.TASK_RUN, gone_alone)):
        with pytest.raises(NotFoundError) as refused:
            await engine.pipeline.submit(DeleteRun(kind, run_id))
        assert refused.value.reason == "DELETED"
    assert await prune(engine, MONTH) == Pruned()


# --- large runs -----------------------------------------------------------------------------------


class Watched(Pipeline):
    """Notes how many rows each transaction has deleted."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.database, lambda _: None)
        self._engine = engine
        self.rows: list[dict[str, int]] = []

    async def submit(self, command, timeout=None):  # type: ignore[no-untyped-def]
        before = await counts(self._engine.database)
        answer = await self._engine.pipeline.submit(command, timeout)
        after = await counts(self._engine.database)
        gone = {name: count - after.get(name, 0) for name, count in before.items()}
        self.rows.append({name: number for name, number in gone.items() if number > 0})
        return answer


def a_large_run(rows: Rows) -> str:
    flow_run = rows.run("flow_run", ago(40), flow_id=rows.flow(), idempotency_key="key")
    inside = [rows.run("task_run", ago(40), flow_run_id=flow_run) for _ in range(1_200)]
    for place in range(4_100):  # one of them was told so again and again
        rows.transition("task_run", inside[7], ago(41) + place)
    for place in range(2_100):
        rows.add("task_run_cache", run_id=inside[8], cache_key=f"key {place}")
        rows.add("flow_run_input", run_id=flow_run, pause_key=f"key {place}")
    for task_run in inside:
        rows.add("task_run_heartbeat", run_id=task_run)
    rows.log(flow_run, 250, inside[0])
    return flow_run


async def test_a_large_run_goes_in_slices(engine: Engine) -> None:
    rows = Rows()
    a_large_run(rows)
    alone = rows.run("task_run", ago(40))
    rows.log(alone, 201)
    small = [rows.run("flow_run", ago(40), flow_id=rows.flow()) for _ in range(3)]
    await rows.put(engine.database)
    expected = Pruned(flow_runs=1 + len(small), task_runs=1_201, log_chunks=451)
    assert await pruning.measure(engine.database, Ages(MONTH)) == expected

    watched = Watched(engine)
    total = Pruned()
    async for pruned in pruning.prune(engine.database, watched, Ages(MONTH)):
        total += pruned

    assert total == expected
    assert set(await counts(engine.database)) - {"watch_epoch"} == {"flow", "deleted_run"}
    for name, table in metadata.tables.items():
        retention = retention_of(table)
        if not isinstance(retention, Kept | ForDays):
            assert max(step.get(name, 0) for step in watched.rows) <= retention.at_once, name
    # The small ones went together.
    assert max(step.get("flow_run", 0) for step in watched.rows) == len(small)


async def test_a_large_run_is_gone_for_all_from_the_first_step_on(engine: Engine) -> None:
    rows = Rows()
    run_id = a_large_run(rows)
    await rows.put(engine.database)
    inside = OneOf("flow_run_id", (run_id,))
    (task_run,), _ = await queries.list_runs(
        engine.database, RunKind.TASK_RUN, Query(inside, limit=1)
    )

    assert await engine.pipeline.submit(DoomRun(RunKind.FLOW_RUN, run_id, MONTH))

    database = engine.database
    for kind, id_ in ((RunKind.FLOW_RUN, run_id), (RunKind.TASK_RUN, task_run.id)):
        assert await queries.get_run(database, kind, id_) is None
        assert await queries.list_transitions(database, kind, id_, None, 10) == []
        with pytest.raises(NotFoundError) as refused:
            await engine.pipeline.submit(DeleteRun(kind, id_))
        assert refused.value.reason == "DELETED"
    assert await queries.count_runs(database, RunKind.FLOW_RUN, EVERYTHING) == 0
    assert await queries.count_runs(database, RunKind.TASK_RUN, inside) == 0
    assert await log_queries.list_chunks(database, LogQuery(run_id), 0, False, 10) == []
    assert await list_log_statuses(database, [run_id]) == {}
    batch = LogBatch(uuid7(), 1, run_id, False, 1, 1, 1, (0, 0, 1, 0, 0, 0), (), b"x")
    with pytest.raises(NotFoundError) as refused:
        await engine.pipeline.submit(AppendLog(batch, b"x"))
    assert refused.value.reason == "DELETED"


async def test_a_large_runs_history_and_keys_answer_nothing_any_more(engine: Engine) -> None:
    rows = Rows()
    run_id = rows.run("flow_run", ago(40), flow_id=rows.flow())
    again = uuid7()
    # One that was refused; the state that it was answered with is trimmed before it.
    rows.transition(
        "flow_run", run_id, ago(39), id=again, digest=b"digest", answered_state_id=uuid7()
    )
    rows.run("task_run", ago(40), flow_run_id=run_id, task_key="task", dynamic_key="0")
    await rows.put(engine.database)
    (task_run,), _ = await queries.list_runs(engine.database, RunKind.TASK_RUN, Query())
    assert await engine.pipeline.submit(DoomRun(RunKind.FLOW_RUN, run_id, MONTH))

    draft = StateDraft(StateType.RUNNING, "Running")
    proposal = Proposal(again, run_id, draft, b"digest")
    (answer,) = await engine.pipeline.submit(ProposeStates(RunKind.FLOW_RUN, [proposal]))
    assert isinstance(answer, NotFoundError)
    assert answer.reason == "DELETED"
    assert isinstance(task_run, TaskRun)
    creation = Creation(replace(task_run, id=uuid7()), draft)
    (made,) = await engine.pipeline.submit(CreateRuns(RunKind.TASK_RUN, [creation]))
    assert isinstance(made, NotFoundError)
    assert made.reason == "DELETED"


async def remembered(engine: Engine) -> dict[str, tuple[str, str | None, int]]:
    """What is known of deleted runs: kind, parent, and when they were deleted."""
    rows = await engine.database.migrate(
        lambda connection: connection.execute(deleted_run.select()).all()
    )
    return {row.id: (row.kind, row.parent_id, row.deleted) for row in rows}


async def test_of_a_deleted_run_its_kind_and_parent_are_remembered(engine: Engine) -> None:
    rows = Rows()
    flow = rows.flow()
    doomed, small = (rows.run("flow_run", ago(40), flow_id=flow) for _ in range(2))
    in_doomed, in_small, one_of_small = (
        rows.run("task_run", ago(40), flow_run_id=run) for run in (doomed, small, small)
    )
    alone = rows.run("task_run", ago(40))
    await rows.put(engine.database)

    assert await engine.pipeline.submit(DoomRun(RunKind.FLOW_RUN, doomed, MONTH))
    of_doomed = await remembered(engine)
    assert {id_: row[:2] for id_, row in of_doomed.items()} == {doomed: ("flow_run", flow)}
    await engine.pipeline.submit(DeleteRun(RunKind.TASK_RUN, one_of_small))
    await prune(engine, MONTH)

    everything = await remembered(engine)
    assert everything[doomed] == of_doomed[doomed]
    assert {id_: row[:2] for id_, row in everything.items()} == {
        doomed: ("flow_run", flow),
        in_doomed: ("task_run", doomed),
        small: ("flow_run", flow),
        in_small: ("task_run", small),
        one_of_small: ("task_run", small),
        alone: ("task_run", None),
    }


async def test_pruning_that_was_broken_off_is_finished_by_the_next(engine: Engine) -> None:
    rows = Rows()
    a_large_run(rows)
    await rows.put(engine.database)
    work = pruning.prune(engine.database, engine.pipeline, Ages(MONTH))
    for _ in range(3):
        await anext(work)
    await work.aclose()  # type: ignore[attr-defined]
    half = await counts(engine.database)
    assert half["flow_run"] == 1
    assert half["log_chunk_task_run" if "log_chunk_task_run" in half else "task_run"] > 0

    # Also where the operator now asks for less.
    await prune(engine, 100 * MONTH)

    assert set(await counts(engine.database)) - {"watch_epoch"} == {"flow", "deleted_run"}


async def test_a_run_that_was_set_going_again_stays(engine: Engine) -> None:
    rows = Rows()
    run_id = rows.run("flow_run", ago(40), state="RUNNING", flow_id=rows.flow())
    await rows.put(engine.database)
    assert not await engine.pipeline.submit(DoomRun(RunKind.FLOW_RUN, run_id, MONTH))
    command = pruning.PruneRuns(RunKind.FLOW_RUN, [run_id, uuid7()], MONTH)
    assert await engine.pipeline.submit(command) == 0
    assert await queries.get_run(engine.database, RunKind.FLOW_RUN, run_id) is not None


async def test_a_server_does_one_piece_of_maintenance_at_a_time(engine: Engine) -> None:
    rows = Rows()
    rows.run("flow_run", ago(40), flow_id=rows.flow())
    await rows.put(engine.database)
    maintenance = Maintenance(engine.database, engine.pipeline)
    first, second = maintenance.prune(Ages(MONTH)), maintenance.vacuum()
    await anext(first)
    with pytest.raises(CallError) as refused:
        await anext(second)
    assert refused.value.reason == "MAINTENANCE_RUNNING"
    await first.aclose()
    third = maintenance.vacuum()
    await anext(third)
    await third.aclose()


async def test_two_prune_at_once(engine: Engine) -> None:
    rows = Rows()
    a_large_run(rows)
    for _ in range(20):
        rows.run("flow_run", ago(40), flow_id=rows.flow())
    await rows.put(engine.database)
    await asyncio.gather(prune(engine, MONTH), prune(engine, MONTH))
    assert set(await counts(engine.database)) - {"watch_epoch"} == {"flow", "deleted_run"}
