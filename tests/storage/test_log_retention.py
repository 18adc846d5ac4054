"""What came to logs long ago goes, whoever asks for it: an operator, or the server itself."""

import pytest
from interlock.v1 import log_pb2 as pb
from interlock_server.core import pruning
from interlock_server.core.engine import Engine
from interlock_server.core.logs import retention
from interlock_server.core.logs.retention import LogWalk
from interlock_server.core.pruning import Ages, Pruned
from interlock_server.storage import migrations
from interlock_server.storage.dialects import open_database
from interlock_server.storage.tables import log_chunk, log_head
from sqlalchemy import select

from tests.support.logs import read_log
from tests.support.runs import until
from tests.support.servers import ServerProcess
from tests.support.stored import DAY, Rows, ago, counts
from tests.support.stubs import connected

WEEK, MONTH = 7 * DAY, 30 * DAY


async def prune(engine: Engine, ages: Ages) -> list[Pruned]:
    return [pruned async for pruned in pruning.prune(engine.database, engine.pipeline, ages)]


def chunks(pruned: list[Pruned]) -> int:
    return sum(each.log_chunks for each in pruned)


async def left(engine: Engine, run_id: str) -> tuple[list[int], int]:
    """Where the chunks of a log begin that are left, and where its head says that it does."""
    firsts = select(log_chunk.c.first_ordinal).where(log_chunk.c.run_id == run_id)
    head = select(log_head.c.first_ordinal).where(log_head.c.run_id == run_id)
    return await engine.database.migrate(
        lambda connection: (
            sorted(connection.execute(firsts).scalars()),
            connection.execute(head).scalar_one(),
        )
    )


async def test_what_is_old_goes_from_the_front_of_every_log(engine: Engine) -> None:
    rows = Rows()
    flow = rows.flow()
    live = rows.run("flow_run", ago(0), state="RUNNING", flow_id=flow)
    task = rows.run("task_run", ago(0), flow_run_id=live)
    ended = rows.run("task_run", ago(40))
    young = rows.run("flow_run", ago(40), flow_id=flow)
    rows.log(live, 5, task, new=2)
    rows.log(ended, 3)
    rows.log(young, 4, new=4)
    rows.add("log_merge", run_id=live)
    rows.add("log_merge", run_id=ended)
    await rows.put(engine.database)

    expected = Pruned(log_chunks=6)
    assert await pruning.measure(engine.database, Ages(logs=WEEK)) == expected
    pruned = await prune(engine, Ages(logs=WEEK))
    assert chunks(pruned) == 6

    assert await left(engine, live) == ([6, 8], 6)
    assert await left(engine, ended) == ([], 6)
    assert await left(engine, young) == ([0, 2, 4, 6], 0)
    there = await counts(engine.database)
    assert (there["flow_run"], there["task_run"], there["log_head"]) == (2, 2, 3)
    # Who leads to what is gone is gone, too; a log that is empty has nothing to merge.
    assert (there["log_chunk_task_run"], there["log_merge"]) == (2, 1)
    assert await pruning.measure(engine.database, Ages(logs=WEEK)) == Pruned()
    assert await prune(engine, Ages(logs=WEEK)) == []


async def test_chunks_of_runs_that_go_are_counted_once(engine: Engine) -> None:
    rows = Rows()
    flow = rows.flow()
    for days in (40, 20):
        rows.log(rows.run("flow_run", ago(days), flow_id=flow), 3)
    rows.log(rows.run("task_run", ago(40)), 2)
    await rows.put(engine.database)
    ages = Ages(runs=MONTH, logs=WEEK)
    expected = Pruned(flow_runs=1, task_runs=1, log_chunks=8)
    assert await pruning.measure(engine.database, ages) == expected
    assert sum(await prune(engine, ages), Pruned()) == expected
    there = await counts(engine.database)
    assert "log_chunk" not in there
    assert (there["flow_run"], there["log_head"], there["log_producer"]) == (1, 1, 1)


async def test_a_large_log_goes_in_small_transactions(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than one page of logs, too.
    monkeypatch.setattr(retention, "_LOGS", 2)
    rows = Rows()
    flow = rows.flow()
    large, *small = (rows.run("flow_run", ago(1), flow_id=flow) for _ in range(6))
    rows.log(large, 1_203, new=1)
    for run_id in small:
        rows.log(run_id, 1)
    await rows.put(engine.database)
    assert await pruning.measure(engine.database, Ages(logs=WEEK)) == Pruned(log_chunks=1_207)
    pruned = await prune(engine, Ages(logs=WEEK))
    assert sorted(each.log_chunks for each in pruned) == [1, 1, 1, 1, 1, 202, 500, 500]
    assert await left(engine, large) == ([2_404], 2_404)


async def test_a_walk_goes_on_where_its_last_bite_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_LOGS", 3)
    rows = Rows()
    flow = rows.flow()
    for size in (700, 1, 1, 1, 1):
        rows.log(rows.run("flow_run", ago(1), flow_id=flow), size)
    await rows.put(engine.database)
    walk = LogWalk(engine.database, engine.pipeline, WEEK)
    bites = [await walk.go_on(ago(0), 1)]
    while not bites[-1].done:
        bites.append(await walk.go_on(ago(0), 1))
        assert len(bites) < 20
    assert [bite.chunks for bite in bites if bite.chunks] == [500, 200, 1, 1, 1, 1]
    assert (await walk.go_on(ago(0), 1)).chunks == 0


@pytest.mark.parametrize("url", ["sqlite_file", "postgresql_18"], indirect=True)
async def test_a_server_deletes_old_parts_of_logs_by_itself(url: str) -> None:
    database = open_database(url)
    await database.check()
    await migrations.upgrade(database)
    rows = Rows()
    run_id = rows.run("flow_run", ago(0), state="RUNNING", flow_id=rows.flow())
    rows.log(run_id, 600, new=1)
    await rows.put(database)
    await database.close()

    environment = {"INTERLOCK_LOG_RETENTION": "1h", "INTERLOCK_LOOPS_PERIOD": "0.5"}
    with (
        ServerProcess(url, environment=environment) as server,
        connected(server.target) as stubs,
    ):
        first = pb.ListLogsRequest(run_id=run_id, page_size=1)
        until(lambda: stubs.logs.ListLogs(first).records[0].ordinal == 1_198)
        assert [record.ordinal for record in read_log(stubs, run_id)] == [1_198, 1_199]
        until(lambda: '"old logs"' in server.log)
