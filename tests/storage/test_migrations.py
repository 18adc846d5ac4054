"""Moving the schema: where to, one at a time, what a step that fails leaves, who can serve it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from interlock.ids import uuid7
from interlock_server.rpc.server import Addresses, Server
from interlock_server.storage import migrations, revisions, version_tables
from interlock_server.storage.database import Database
from interlock_server.storage.dialects import open_database
from interlock_server.storage.errors import UnavailableError
from interlock_server.storage.migrating import Holder, MigrationRunningError
from interlock_server.storage.migrations import (
    Event,
    MigrationFailedError,
    Migrator,
    OtherProgramsDatabaseError,
    Stage,
    UnknownRevisionError,
)
from interlock_server.storage.revisions import (
    RevisionAmbiguousError,
    RevisionNotFoundError,
)
from interlock_server.storage.tables import flow
from sqlalchemy import Connection, text

from tests.support.revisions import Release
from tests.support.servers import sqlite_url
from tests.support.stored import Rows

DIALECTS = ["sqlite_file", "sqlite_memory", "postgresql_13", "postgresql_18"]
POSTGRESQL = ["postgresql_13", "postgresql_18"]

ADD_COLUMN = 'op.add_column("flow", sa.Column("extra", sa.Text()))'
DROP_COLUMN = """
with op.batch_alter_table("flow") as batch:
    batch.drop_column("extra")
"""


@pytest.fixture(params=DIALECTS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each dialect."""
    match request.param:
        case "sqlite_file":
            yield sqlite_url(tmp_path / "interlock.db")
        case "sqlite_memory":
            yield "sqlite+aiosqlite://"
        case major:
            with request.getfixturevalue(major).database() as database_url:
                yield database_url


@pytest_asyncio.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """An empty database of each dialect."""
    opened = open_database(url)
    opened.create()
    await opened.check()
    yield opened
    await opened.close()


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    """This process's release: the first revision, `0001`, to which a test adds others."""
    made = Release(tmp_path, only_first=True)
    made.install(monkeypatch)
    yield made
    revisions.history.cache_clear()


def add_flows(count: int) -> Any:
    def add(connection: Connection) -> None:
        for number in range(count):
            row = {"id": uuid7(), "name": f"flow {number}", "tags": "", "labels": ""}
            connection.execute(flow.insert(), row | {"created": 0, "updated": 0, "version": 1})
        connection.commit()

    return add


async def ask(database: Database, statement: str) -> Any:
    return await database.migrate(lambda connection: connection.execute(text(statement)).all())


async def change(database: Database, *statements: str) -> None:
    def work(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()

    await database.migrate(work)


async def revision(database: Database) -> str:
    return await migrations.current_revision(database)


async def tables(database: Database) -> frozenset[str]:
    return (await migrations.look(database)).tables


# --- where to -------------------------------------------------------------------------------------


@pytest.fixture
def three_more(release: Release) -> None:
    """Three revisions after the first: 0002, 0003 and other."""
    release.add("0002", ADD_COLUMN, DROP_COLUMN)
    release.add(
        "0003", 'op.create_table("third", sa.Column("id", sa.Integer))', 'op.drop_table("third")'
    )
    release.add(
        "other", 'op.create_table("fourth", sa.Column("id", sa.Integer))', 'op.drop_table("fourth")'
    )


@pytest.mark.usefixtures("three_more")
async def test_a_revision_is_named_in_each_of_the_ways(database: Database) -> None:
    migrator = Migrator(database)
    for there, expected in (("+1", "0001"), ("+2", "0003"), ("oth", "other"), ("head", "other")):
        await migrator.upgrade(there)
        assert await revision(database) == expected
    await database.migrate(add_flows(3))
    for there, expected in (("-1", "0003"), ("0002", "0002"), ("0001", "0001")):
        await migrator.downgrade(there)
        assert await revision(database) == expected
        assert (await ask(database, "SELECT count(*) FROM flow")) == [(3,)]
    await migrator.upgrade()
    assert (await ask(database, "SELECT count(*) FROM flow WHERE extra IS NULL")) == [(3,)]
    await migrator.downgrade("base")
    assert await tables(database) == version_tables.NAMES
    await migrator.upgrade()
    assert await revision(database) == "other"


@pytest.mark.usefixtures("three_more")
@pytest.mark.parametrize("url", ["sqlite_memory"], indirect=True)
async def test_a_revision_that_is_not_there_is_refused_in_words(database: Database) -> None:
    migrator = Migrator(database)
    await migrator.upgrade("0002")
    with pytest.raises(RevisionAmbiguousError, match=r"0001, 0002, 0003\.$"):
        await migrator.upgrade("000")
    for there in ("nowhere", "+9", "-9", "base", ""):
        with pytest.raises(RevisionNotFoundError):
            await migrator.upgrade(there)
    for there in ("nowhere", "+1", "-9", "head", "0003"):
        with pytest.raises(RevisionNotFoundError):
            await migrator.downgrade(there)
    assert await revision(database) == "0002"


@pytest.mark.usefixtures("three_more")
async def test_a_dry_run_tells_the_sql_and_changes_nothing(database: Database) -> None:
    await Migrator(database).upgrade("0001")
    before = await tables(database)
    plans: list[Event] = []
    await Migrator(database, plans.append).rehearse_upgrade()
    assert [(plan.stage, plan.revision and plan.revision.id) for plan in plans] == [
        (Stage.PLANNED, "0002"),
        (Stage.PLANNED, "0003"),
        (Stage.PLANNED, "other"),
    ]
    assert "ALTER TABLE flow ADD COLUMN extra" in "\n".join(plans[0].statements)
    assert "CREATE TABLE third" in "\n".join(plans[1].statements)
    assert (await revision(database), await tables(database)) == ("0001", before)

    await Migrator(database).upgrade()
    plans.clear()
    await Migrator(database, plans.append).rehearse_downgrade("0001")
    assert [plan.revision and plan.revision.id for plan in plans] == ["other", "0003", "0002"]
    assert "DROP TABLE third" in "\n".join(plans[1].statements)
    assert await revision(database) == "other"


@pytest.mark.usefixtures("three_more")
@pytest.mark.parametrize("url", POSTGRESQL, indirect=True)
async def test_a_dry_run_tells_which_locks_are_taken_on_how_large_tables(
    database: Database,
) -> None:
    await Migrator(database).upgrade("0001")
    await database.migrate(add_flows(30))
    await change(database, "ANALYZE flow")
    plans: list[Event] = []
    await Migrator(database, plans.append).rehearse_upgrade()

    (lock,) = [lock for lock in plans[0].locks if lock.mode == "AccessExclusiveLock"]
    assert (lock.table, lock.rows) == ("flow", 30)
    assert lock.bytes >= 8192
    # A new table is in nobody's way.
    assert not [lock for plan in plans[1:] for lock in plan.locks]


# --- one at a time --------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [0.0, 30.0])
async def test_a_second_migrator_is_told_who_is_at_work(
    database: Database, url: str, wait: float
) -> None:
    # In memory, there is but one database object; elsewhere the other one may be anywhere.
    other = database if url == "sqlite+aiosqlite://" else open_database(url)
    heard: asyncio.Queue[Event] = asyncio.Queue()
    second = Migrator(database, heard.put_nowait, wait=wait)
    me = Holder.this_process()
    try:
        async with other.migration_session() as session:
            assert await session.try_lock()
            if not wait:
                with pytest.raises(MigrationRunningError, match=f"process {me.pid} on {me.host}"):
                    await second.upgrade()
                assert await revision(database) == ""
                return
            upgrading = asyncio.ensure_future(second.upgrade())
            event = await heard.get()
            assert event.stage is Stage.WAITING
            assert event.holder
            assert (event.holder.host, event.holder.pid) == (me.host, me.pid)
            assert event.holder.since >= me.since - 60_000_000
            if other is not database:
                await other.close()
        await upgrading
        assert await revision(database) == migrations.head_revision()
    finally:
        if other is not database:
            await other.close()


@pytest.mark.parametrize("url", POSTGRESQL, indirect=True)
async def test_a_server_that_starts_while_another_builds_the_schema_serves_when_it_is_built(
    database: Database, url: str, tmp_path: Path
) -> None:
    half_way, go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def wait(_: bool) -> AsyncIterator[None]:
        half_way.set()
        await go_on.wait()
        yield

    await Migrator(database).upgrade("0001")
    building = asyncio.ensure_future(Migrator(database, guard=wait).upgrade())
    await half_way.wait()
    server = Server(open_database(url), Addresses("127.0.0.1", 0, tmp_path / "admin"), grace=0)
    starting = asyncio.ensure_future(server.start())
    await asyncio.wait({starting}, timeout=0.5)
    assert not starting.done()
    go_on.set()
    await building
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await starting}") as channel:
        check = HealthStub(channel).Check  # type: ignore[attr-defined]
        health = await check(HealthCheckRequest())
    assert health.status == HealthCheckResponse.SERVING
    await server.stop()


# --- what a step that fails leaves ----------------------------------------------------------------


async def test_a_downgrade_that_does_not_fit_the_data_changes_nothing(
    database: Database, release: Release
) -> None:
    release.add(
        "0002",
        """
with op.batch_alter_table("flow") as batch:
    batch.alter_column("tags", nullable=True)
""",
        """
op.create_table("half", sa.Column("id", sa.Integer))
with op.batch_alter_table("flow") as batch:
    batch.alter_column("tags", nullable=False)
""",
    )
    await Migrator(database).upgrade()
    await database.migrate(add_flows(2))
    await change(database, "UPDATE flow SET tags = NULL WHERE name = 'flow 1'")
    before = await tables(database)

    with pytest.raises(MigrationFailedError, match=r"0002 can not be taken back, and nothing was"):
        await Migrator(database).downgrade()

    assert (await revision(database), await tables(database)) == ("0002", before)
    assert await ask(database, "SELECT count(*) FROM flow WHERE tags IS NULL") == [(1,)]


@pytest.mark.parametrize("url", ["sqlite_file", "sqlite_memory"], indirect=True)
async def test_a_disk_that_is_full_leaves_the_schema_where_it_was(
    database: Database, release: Release
) -> None:
    release.add(
        "0002",
        """
op.create_table("half", sa.Column("data", sa.LargeBinary))
op.execute("PRAGMA max_page_count = 200")
op.execute("INSERT INTO half VALUES (zeroblob(10000000))")
""",
    )
    await Migrator(database).upgrade("0001")
    before = await tables(database)
    with pytest.raises(UnavailableError, match="full"):
        await Migrator(database).upgrade()
    assert (await revision(database), await tables(database)) == ("0001", before)


async def test_an_index_is_built_and_dropped(database: Database, release: Release) -> None:
    release.add("0002", 'build_index("ix_try", "flow", ["updated"])', 'drop_index("ix_try")')
    await Migrator(database).upgrade()
    assert await index_exists(database, "ix_try")
    await Migrator(database).downgrade()
    assert not await index_exists(database, "ix_try")


async def index_exists(database: Database, name: str) -> bool:
    try:
        await change(database, f"DROP INDEX {name}", f"CREATE INDEX {name} ON flow (updated)")
    except Exception:
        return False
    return True


async def test_an_index_that_can_not_be_built_leaves_nothing_and_is_built_later(
    database: Database, release: Release
) -> None:
    release.add("0002", 'build_index("uq_try", "flow", ["updated"], unique=True)')
    await Migrator(database).upgrade("0001")
    await database.migrate(add_flows(2))  # with equal times

    with pytest.raises(MigrationFailedError, match=r"0002 can not be applied"):
        await Migrator(database).upgrade()
    assert await revision(database) == "0001"
    assert not await index_exists(database, "uq_try")

    await change(database, "DELETE FROM flow WHERE name = 'flow 1'")
    await Migrator(database).upgrade()
    assert await revision(database) == "0002"
    assert await index_exists(database, "uq_try")


@pytest.mark.parametrize("url", POSTGRESQL, indirect=True)
async def test_what_a_broken_build_of_an_index_left_is_replaced(
    database: Database, release: Release
) -> None:
    release.add("0002", 'build_index("ix_try", "flow", ["updated"])')
    await Migrator(database).upgrade("0001")
    await change(
        database,
        "CREATE INDEX ix_try ON flow (updated)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_try'::regclass",
    )
    await Migrator(database).upgrade()
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_try'::regclass"
    assert await ask(database, valid) == [(True,)]


BACKFILL = 'backfill("flow", "tags = \'full\'", where="tags = \'\'", batch=10)'


async def test_a_backfill_goes_in_batches_and_tells_how_far_it_is(
    database: Database, release: Release
) -> None:
    release.add("0002", BACKFILL)
    await Migrator(database).upgrade("0001")
    await database.migrate(add_flows(25))
    news: list[Event] = []
    await Migrator(database, news.append).upgrade()
    working = [event for event in news if event.stage is Stage.WORKING]
    assert [(event.rows_done, event.rows_total) for event in working] == [
        (10, 25),
        (20, 25),
        (25, 25),
    ]
    assert {event.table for event in working} == {"flow"}
    assert await ask(database, "SELECT DISTINCT tags FROM flow") == [("full",)]


async def test_a_backfill_that_breaks_off_says_what_stays_and_goes_on_from_there(
    database: Database, release: Release
) -> None:
    release.add("0002", f'{BACKFILL}\nop.execute("SELECT broken")')
    await Migrator(database).upgrade("0001")
    await database.migrate(add_flows(25))

    with pytest.raises(MigrationFailedError, match="stays of the step: 25 rows of flow are"):
        await Migrator(database).upgrade()
    assert await revision(database) == "0001"
    assert await ask(database, "SELECT DISTINCT tags FROM flow") == [("full",)]

    await change(database, "UPDATE flow SET tags = '' WHERE name = 'flow 7'")
    (release.folder / "versions" / "0002.py").unlink()
    release.add("0003", BACKFILL)  # after 0002 by name, which is gone
    file = release.folder / "versions" / "0003.py"
    file.write_text(file.read_text().replace('down_revision = "0002"', 'down_revision = "0001"'))
    revisions.history.cache_clear()
    news: list[Event] = []
    await Migrator(database, news.append).upgrade()
    assert [event.rows_done for event in news if event.stage is Stage.WORKING] == [1]


async def test_names_and_tags_of_what_was_there_before_are_found(database: Database) -> None:
    await Migrator(database).upgrade()
    rows = Rows()
    flow_id = rows.add("flow", name="Größe", tags='["x","y"]', labels="{}")
    run_ids = [
        rows.run("flow_run", 0, flow_id=flow_id, name=f"ÄPFEL {number}") for number in range(3)
    ]
    await rows.put(database)
    # Each downgrade takes what finds them away.
    await Migrator(database).downgrade("0003")
    await Migrator(database).upgrade()

    assert await ask(database, "SELECT folded_name FROM flow") == [("grösse",)]
    assert await ask(database, "SELECT tag FROM flow_tag ORDER BY tag") == [("x",), ("y",)]
    names = await ask(database, "SELECT name, folded_name FROM flow_run_name ORDER BY name")
    assert names == [(f"ÄPFEL {number}", f"äpfel {number}") for number in range(len(run_ids))]
    assert await ask(database, "SELECT count(*) FROM flow_run_tag") == [(0,)]


async def test_a_log_that_was_cut_begins_where_it_did_after_a_downgrade(database: Database) -> None:
    await Migrator(database).upgrade()
    rows = Rows()
    run_ids = [rows.run("flow_run", 0, flow_id=rows.flow()) for _ in range(2)]
    for run_id in run_ids:
        rows.add("log_head", run_id=run_id, first_ordinal=5, next_ordinal=5)
    await rows.put(database)
    await Migrator(database).downgrade("0005")
    await Migrator(database).upgrade()

    assert await ask(database, "SELECT first_ordinal FROM log_head") == [(5,), (5,)]


# --- databases of others, stamp and reset ---------------------------------------------------------


async def test_another_programs_database_is_left_alone_unless_that_is_said(
    database: Database,
) -> None:
    await change(database, "CREATE TABLE theirs (id INTEGER)")
    status = await migrations.status(database)
    assert not status.servable
    assert status.others == {"theirs"}
    migrator = Migrator(database)
    for attempt in (migrator.upgrade(), migrator.downgrade(), migrator.reset()):
        with pytest.raises(OtherProgramsDatabaseError, match="theirs"):
            await attempt
    assert await tables(database) == {"theirs"}

    await migrator.upgrade(beside_other_programs=True)
    assert (await migrations.status(database)).servable
    # Now that it is said, a reset is about Interlock's tables only.
    await database.migrate(add_flows(1))
    await migrator.reset()
    assert "theirs" in await tables(database)
    assert await ask(database, "SELECT count(*) FROM flow") == [(0,)]
    await migrator.reset(drop_tables_of_other_programs=True)
    assert "theirs" not in await tables(database)
    assert (await migrations.status(database)).servable


async def test_the_word_of_another_programs_migrations_is_not_touched(database: Database) -> None:
    await change(
        database,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('d20618ce678e')",
        "CREATE TABLE theirs (id INTEGER)",
    )
    migrator = Migrator(database)
    attempts = (
        migrator.upgrade(beside_other_programs=True),
        migrator.downgrade(),
        migrator.stamp("head"),
        migrator.reset(),
    )
    for attempt in attempts:
        with pytest.raises(OtherProgramsDatabaseError, match="d20618ce678e"):
            await attempt
    assert await revision(database) == "d20618ce678e"
    assert await tables(database) == {"alembic_version", "theirs"}


async def test_a_stamp_writes_the_revision_and_nothing_else(
    database: Database, release: Release
) -> None:
    release.add("0002", ADD_COLUMN)
    await Migrator(database).upgrade("0001")
    await change(database, "ALTER TABLE flow ADD COLUMN extra TEXT")
    assert await Migrator(database).stamp("head") == ("0001", "0002")
    assert (await migrations.status(database)).servable
    assert await Migrator(database).stamp("base") == ("0002", "")
    assert await revision(database) == ""
    with pytest.raises(RevisionNotFoundError):
        await Migrator(database).stamp("nowhere")


async def test_a_reset_leaves_an_empty_schema_at_the_newest_revision(
    database: Database, release: Release
) -> None:
    release.add("0002", 'op.create_table("second", sa.Column("id", sa.Integer))')
    await Migrator(database).upgrade()
    await database.migrate(add_flows(2))
    news: list[Event] = []
    await Migrator(database, news.append).reset()
    assert [event.stage for event in news] == [
        Stage.DROPPING,
        Stage.DROPPED,
        *[Stage.APPLYING, Stage.APPLIED] * 2,
    ]
    assert await ask(database, "SELECT count(*) FROM flow") == [(0,)]
    assert await revision(database) == "0002"


# --- who can serve it -----------------------------------------------------------------------------


async def test_an_older_server_serves_a_newer_schema_down_to_its_floor(
    database: Database, release: Release, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "older").mkdir()
    release.version = "0.3.0"
    release.add("0002", ADD_COLUMN, DROP_COLUMN, floor="0.1.0")
    release.add(
        "0003",
        'op.create_table("third", sa.Column("id", sa.Integer))',
        'op.drop_table("third")',
        floor="0.2.0",
    )
    older = Release.__new__(Release)
    older.folder, older.version = tmp_path / "older" / "migrations", "0.1.0"
    copy_without(release.folder, older.folder, "0002", "0003")

    async def status_for(version: str) -> migrations.SchemaStatus:
        older.version = version
        with monkeypatch.context() as patch:
            older.install(patch)
            found = await migrations.status(database)
        revisions.history.cache_clear()
        return found

    await Migrator(database).upgrade("0002")
    assert (await status_for("0.1.0.dev0")).servable
    await Migrator(database).upgrade("0003")
    refused = await status_for("0.1.5")
    assert not refused.servable
    assert "needs Interlock 0.2.0 or newer" in refused.advice
    assert (await status_for("0.2")).servable
    older.version = "0.1.0"
    with monkeypatch.context() as patch:
        older.install(patch)
        for attempt in (Migrator(database).upgrade(), Migrator(database).reset()):
            with pytest.raises(UnknownRevisionError, match=r"0\.2\.0 or newer can serve it"):
                await attempt
    revisions.history.cache_clear()
    # The floor goes down with the schema.
    await Migrator(database).downgrade("0002")
    assert (await status_for("0.1.0")).servable


def copy_without(folder: Path, copy: Path, *ids: str) -> None:
    import shutil

    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for id_ in ids:
        (copy / "versions" / f"{id_}.py").unlink()


async def test_a_server_serves_without_a_revision_that_it_can_do_without(
    database: Database, release: Release
) -> None:
    release.add("0002", 'build_index("ix_try", "flow", ["updated"])', required=False)
    await Migrator(database).upgrade("0001")
    status = await migrations.status(database)
    assert status.servable
    assert [each.id for each in status.pending] == ["0002"]


def test_a_floor_never_goes_down(release: Release) -> None:
    release.add("0002", "pass", floor="0.3.0")
    release.add("0003", "pass", floor="0.2.0")
    with pytest.raises(ValueError, match=r"0003 says compatible_from 0\.2\.0"):
        revisions.history()


async def test_rehearsals_at_once_and_beside_an_upgrade_do_not_mix(url: str) -> None:
    database = open_database(url)
    await database.check()

    async def rehearsed() -> list[Event]:
        told: list[Event] = []
        await Migrator(database, told.append).rehearse_upgrade()
        return told

    alone = await rehearsed()
    at_once = await asyncio.gather(rehearsed(), rehearsed(), rehearsed())
    assert list(at_once) == [alone] * 3
    await asyncio.gather(rehearsed(), Migrator(database).upgrade(), rehearsed())
    assert await migrations.current_revision(database) == revisions.history().head
    await database.close()
