"""Two servers on one PostgreSQL: what one decides holds, whatever the other does meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from interlock.ids import uuid7
from interlock_server.core.engine import Engine
from interlock_server.core.logs.appends import AppendLog, LogBatch
from interlock_server.core.logs.chunks import compress
from interlock_server.core.runs import DeleteRun
from interlock_server.core.transitions import Proposal, ProposeStates
from interlock_server.rules.states import StateDraft, StateType
from interlock_server.storage import migrations
from interlock_server.storage.database import Database, Writer
from interlock_server.storage.dialects import open_database
from interlock_server.storage.errors import ConflictError
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.plan import writes
from interlock_server.storage.records import RunKind

from tests.support.stored import Rows, ago, counts


@pytest_asyncio.fixture(params=["postgresql_13", "postgresql_18"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """One of the two servers, on an empty database."""
    with request.getfixturevalue(request.param).database() as url:
        engine = Engine(open_database(url))
        await migrations.upgrade(engine.database)
        engine.start()
        yield engine
        await engine.stop()


async def decided(database: Database, command: Any) -> tuple[Writer, Facts]:
    """The other server, half-way through a batch: it has decided, and written nothing yet."""
    writer = await database.open_writer()
    needs = Needs()
    command.add_needs(needs)
    facts = await writer.begin(needs)
    command.decide(facts)
    return writer, facts


async def a_run(engine: Engine) -> str:
    rows = Rows()
    run_id = rows.run("flow_run", ago(0), flow_id=rows.flow(), digest=b"digest")
    await rows.put(engine.database)
    return run_id


async def lines(producer_id: str, number: int, run_id: str, count: int = 1) -> AppendLog:
    """A batch of a log; without lines it ends the producer's part."""
    levels = (0, 0, count, 0, 0, 0) if count else ()
    packed = b"packed" if count else b""
    batch = LogBatch(producer_id, number, run_id, not count, count, 1, 1, levels, (), packed)
    return AppendLog(batch, await compress(packed))


async def test_a_logs_head_does_not_go_back(engine: Engine) -> None:
    run_id, producer = await a_run(engine), uuid7()
    other, facts = await decided(engine.database, await lines(uuid7(), 1, run_id, 0))
    await engine.pipeline.submit(await lines(producer, 1, run_id))
    with pytest.raises(ConflictError):
        await other.commit(facts)
    await other.close()
    await engine.pipeline.submit(await lines(producer, 2, run_id))
    assert (await counts(engine.database))["log_chunk"] == 2


async def test_nothing_that_is_appended_outlives_its_run(engine: Engine) -> None:
    run_id, producer = await a_run(engine), uuid7()
    await engine.pipeline.submit(await lines(producer, 1, run_id))
    other, facts = await decided(engine.database, await lines(producer, 2, run_id))
    for step in writes(facts):
        await other._write(step)  # type: ignore[attr-defined]
    deleting = asyncio.create_task(engine.pipeline.submit(DeleteRun(RunKind.FLOW_RUN, run_id)))
    await asyncio.wait({deleting}, timeout=0.5)
    assert not deleting.done()
    await other._connection.execute("COMMIT")  # type: ignore[attr-defined]
    await deleting
    await other.close()
    assert set(await counts(engine.database)) - {"watch_epoch"} == {"flow", "deleted_run"}


async def test_batches_that_write_what_the_other_reads_take_turns(engine: Engine) -> None:
    rows = Rows()
    flow = rows.flow()
    low, high = sorted(rows.run("flow_run", ago(0), flow_id=flow) for _ in range(2))
    tasks = {id_: rows.run("task_run", ago(0), flow_run_id=id_) for id_ in (low, high)}
    await rows.put(engine.database)
    database = engine.database
    writers = [await database.open_writer() for _ in range(2)]

    async def begin(writer: Writer, moved: str, inside: str) -> None:
        needs = Needs()
        for kind, id_ in ((RunKind.FLOW_RUN, moved), (RunKind.TASK_RUN, tasks[inside])):
            draft = StateDraft(StateType.RUNNING, "Running")
            ProposeStates(kind, [Proposal(uuid7(), id_, draft, b"digest")]).add_needs(needs)
        await writer.begin(needs)
        await writer.rollback()

    # A deadlock costs a second, until it is found.
    async with asyncio.timeout(15):
        for _ in range(200):
            await asyncio.gather(begin(writers[0], low, high), begin(writers[1], high, low))
    for writer in writers:
        await writer.close()


async def test_first_lines_take_turns_with_transitions(engine: Engine) -> None:
    old, new = await a_run(engine), await a_run(engine)
    await engine.pipeline.submit(await lines(uuid7(), 1, old))
    database = engine.database
    writers = [await database.open_writer() for _ in range(2)]
    append = [await lines(uuid7(), 1, id_) for id_ in (old, new)]
    draft = StateDraft(StateType.RUNNING, "Running")
    propose = ProposeStates(RunKind.FLOW_RUN, [Proposal(uuid7(), new, draft, b"digest")])

    async def begin(writer: Writer, *commands: Any) -> None:
        needs = Needs()
        for command in commands:
            command.add_needs(needs)
        await writer.begin(needs)
        await writer.rollback()

    async with asyncio.timeout(15):
        for _ in range(200):
            await asyncio.gather(begin(writers[0], *append), begin(writers[1], append[0], propose))
    for writer in writers:
        await writer.close()
