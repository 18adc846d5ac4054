"""The schema: what the migrations build, and that no migration harms what is stored."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from interlock.ids import uuid7
from interlock_server.rules.states import StateType
from interlock_server.storage import log_queries, migrations, queries, revisions, version_tables
from interlock_server.storage.database import Database
from interlock_server.storage.dialects import open_database
from interlock_server.storage.log_queries import LogQuery
from interlock_server.storage.migrations import Event, Migrator, Stage
from interlock_server.storage.records import FlowRun, RunKind
from interlock_server.storage.tables import exists_on, metadata
from interlock_server.storage.types import IdType
from sqlalchemy import (
    Boolean,
    Connection,
    Double,
    Integer,
    LargeBinary,
    Table,
    func,
    inspect,
    select,
)

from tests.support.servers import ServerProcess, sqlite_url
from tests.support.stored import Rows, ago
from tests.support.stubs import connected

SERVING = HealthCheckResponse.SERVING

DIALECTS = ["sqlite_file", "sqlite_memory", "postgresql_13", "postgresql_18"]


@pytest.fixture(autouse=True)
def asked_for_sqlite() -> None:
    """Within `test_all_of_this_holds_on_the_oldest_sqlite`, SQLite must be that one."""
    assert sqlite3.sqlite_version == os.environ.get("INTERLOCK_TEST_SQLITE", sqlite3.sqlite_version)


@pytest.fixture(params=DIALECTS)
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The URLs of two empty databases of each dialect."""
    match request.param:
        case "sqlite_file":
            yield [sqlite_url(tmp_path / f"{i}.db") for i in range(2)]
        case "sqlite_memory":
            yield ["sqlite+aiosqlite://"] * 2
        case major:
            server = request.getfixturevalue(major)
            with server.database() as one, server.database() as other:
                yield [one, other]


@pytest_asyncio.fixture
async def databases(urls: list[str]) -> AsyncIterator[list[Database]]:
    """Two empty databases of each dialect."""
    opened = [open_database(url) for url in urls]
    for database in opened:
        await database.check()
    yield opened
    for database in opened:
        await database.close()


@pytest.fixture
def database(databases: list[Database]) -> Database:
    """An empty database of each dialect."""
    return databases[0]


def test_all_of_this_holds_on_the_oldest_sqlite(sqlite_324_environment: dict[str, str]) -> None:
    # The library must be preloaded into the process that runs the migrations.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        [*tests, "-k", "sqlite_file or sqlite_memory"],
        env=inherited | sqlite_324_environment | {"INTERLOCK_TEST_SQLITE": "3.24.0"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


# --- the schema that is built ---------------------------------------------------------------------


def described(connection: Connection) -> dict[str, Any]:
    """All of a schema that the database tells."""
    look = inspect(connection)
    return {
        table: {
            # In no order: what a revision adds comes last, and statements name their columns.
            "columns": sorted(
                (column["name"], repr(column["type"]), column["nullable"], column["default"] or "")
                for column in look.get_columns(table)
            ),
            "primary key": look.get_pk_constraint(table),
            "foreign keys": sorted(map(repr, look.get_foreign_keys(table))),
            "unique": sorted(map(repr, look.get_unique_constraints(table))),
            "indexes": sorted(
                # Conditions are SQL elements, which are equal only to themselves.
                repr(index | {"dialect_options": conditions(index)})
                for index in look.get_indexes(table)
            ),
        }
        for table in look.get_table_names()
        if table not in version_tables.NAMES
    }


def conditions(index: Any) -> dict[str, str]:
    return {key: str(value) for key, value in index.get("dialect_options", {}).items()}


def create_declared(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.commit()


async def test_the_migrations_build_what_the_code_declares(databases: list[Database]) -> None:
    migrated, declared = databases
    await migrations.upgrade(migrated)
    await declared.migrate(create_declared)

    def differences(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        named = {
            "include_name": lambda name, *_: name not in version_tables.NAMES,
            "include_object": lambda thing, *_: exists_on(thing, connection.dialect.name),
        }
        found: list[Any] = compare_metadata(
            MigrationContext.configure(connection, opts=options | named), metadata
        )
        return found

    assert await migrated.migrate(differences) == []
    built = await migrated.migrate(described)
    assert built == await declared.migrate(described)
    assert set(built) == set(metadata.tables)
    # The one index with a condition: without it, only one task run could be without a flow run.
    assert "flow_run_id IS NULL" in str(built["task_run"]["indexes"])


async def test_a_database_tells_where_its_schema_stands(database: Database) -> None:
    empty = await migrations.status(database)
    assert (empty.current, empty.servable) == ("", False)
    assert [revision.id for revision in empty.pending][-1] == empty.head
    news: list[Event] = []
    await migrations.upgrade(database, tell=news.append)
    assert [(event.stage, event.revision) for event in news] == [
        (stage, step) for step in empty.pending for stage in (Stage.APPLYING, Stage.APPLIED)
    ]
    full = await migrations.status(database)
    assert (full.current, full.servable, full.pending) == (empty.head, True, ())
    assert await migrations.current_revision(database) == empty.head


@pytest.mark.parametrize("urls", ["postgresql_13", "postgresql_18"], indirect=True)
def test_servers_that_start_at_once_on_an_empty_database_all_serve(urls: list[str]) -> None:
    servers = [ServerProcess(urls[0]) for _ in range(3)]
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(ServerProcess.start, servers))
        for server in servers:
            with connected(server.target) as stubs:
                assert stubs.health.Check(HealthCheckRequest()).status == SERVING
    finally:
        for server in servers:
            server.close()


# --- migrations over data -------------------------------------------------------------------------


def some_value(table: Table, column: Any, known: dict[str, str]) -> Any:
    for key in column.foreign_keys:
        return known[key.column.table.name]
    match column.type:
        case IdType():
            return known[table.name] if column.name == "id" else uuid7()
        case Boolean():
            return False
        case Integer():
            return 1
        case Double():
            return 0.5
        case LargeBinary():
            return b"\x00\x01"
        case _:
            return "x"


def fill(connection: Connection) -> None:
    """Put a row into each table, those that refer to others included."""
    known = {name: uuid7() for name in metadata.tables}
    for table in metadata.sorted_tables:
        values = {column.name: some_value(table, column, known) for column in table.columns}
        connection.execute(table.insert().values(values))
    connection.commit()


def counted(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }


def broken_references(connection: Connection) -> list[Any]:
    if connection.dialect.name != "sqlite":
        return []  # PostgreSQL does not let them come about.
    return list(connection.exec_driver_sql("PRAGMA foreign_key_check").all())


ONE_EACH = dict.fromkeys(metadata.tables, 1)


async def test_the_schema_goes_down_and_up_again_with_data_in_it(database: Database) -> None:
    await migrations.upgrade(database)
    await database.migrate(fill)
    assert await database.migrate(counted) == ONE_EACH
    assert await database.migrate(broken_references) == []

    await Migrator(database).downgrade("base")
    assert await database.migrate(described) == {}
    assert await migrations.current_revision(database) == ""
    await migrations.upgrade(database)
    await database.migrate(fill)
    assert await database.migrate(counted) == ONE_EACH


Stored = dict[str, list[dict[str, Any]]]


def stored(connection: Connection) -> Stored:
    """All rows of all tables, as far as the schema has them at its revision."""
    look = inspect(connection)
    found = {}
    for name in set(look.get_table_names()) & set(metadata.tables):
        table = metadata.tables[name]
        columns = [table.c[column["name"]] for column in look.get_columns(name)]
        key = list(table.primary_key)
        found[name] = [
            dict(row) for row in connection.execute(select(*columns).order_by(*key)).mappings()
        ]
    return found


def assert_has_all(after: Stored, before: Stored) -> None:
    """A step up loses nothing. It may add rows, and values where there was none."""
    for name, rows in before.items():
        key = metadata.tables[name].primary_key.columns.keys()
        found = {tuple(row[column] for column in key): row for row in after[name]}
        for row in rows:
            wide = found[tuple(row[column] for column in key)]
            for column, value in row.items():
                assert value is None or wide[column] == value, (name, column)


def assert_is_part(after: Stored, before: Stored) -> None:
    """A step down takes tables and columns away, and leaves the others as they are."""
    for name, rows in after.items():
        assert len(rows) == len(before[name]), name
        for narrow, wide in zip(rows, before[name], strict=True):
            assert narrow == {column: wide[column] for column in narrow}, name


async def test_rows_of_the_first_revision_live_through_all_others(database: Database) -> None:
    first, *others = revisions.history().revisions
    await Migrator(database).upgrade(first.id)
    rows = Rows()
    flow = rows.flow()
    flow_run = rows.run("flow_run", ago(1), flow_id=flow)
    task_run = rows.run("task_run", ago(1), flow_run_id=flow_run, max_retries=1)
    rows.log(flow_run, 2, task_run)
    rows.add("deleted_run", deleted=ago(1))
    await rows.put(database)
    at_first = await database.migrate(stored)

    before = at_first
    for step in others:
        await Migrator(database).upgrade(step.id)
        after = await database.migrate(stored)
        assert_has_all(after, before)
        before = after
    found = await queries.get_run(database, RunKind.FLOW_RUN, flow_run)
    assert isinstance(found, FlowRun)
    assert (found.flow_id, found.deployment_id) == (flow, None)
    task = await queries.get_run(database, RunKind.TASK_RUN, task_run)
    assert task
    assert task.state
    assert (task.state.type, task.retry.retry_crashes) == (StateType.COMPLETED, False)
    (line,) = await queries.list_transitions(database, RunKind.TASK_RUN, task_run, None, 10)
    assert line.state == task.state
    assert len(await log_queries.list_chunks(database, LogQuery(flow_run), 0, False, 10)) == 2

    for step in reversed(others):
        await Migrator(database).downgrade("-1")
        after = await database.migrate(stored)
        assert_is_part(after, before)
        before = after
        assert await database.migrate(broken_references) == [], step.id
    assert before == at_first


async def test_a_step_down_leaves_what_the_revision_before_it_knew(database: Database) -> None:
    await migrations.upgrade(database)
    await database.migrate(fill)
    before = await database.migrate(stored)
    for step in reversed(revisions.history().revisions[1:]):
        await Migrator(database).downgrade("-1")
        after = await database.migrate(stored)
        assert_is_part(after, before)
        assert await database.migrate(broken_references) == [], step.id
        before = after


REVISION = '''"""{words}"""

import sqlalchemy as sa
from alembic import op

revision = "scratch"
down_revision = "{before}"
compatible_from = "0.1.0"


def upgrade():
{upgrade}
'''

# On SQLite a batch that changes a table makes a new one and drops the old one, and with foreign
# keys on, the rows that refer to it go with it.
CHANGE_PARENTS = """
    for parent in ("flow", "flow_run"):
        with op.batch_alter_table(parent) as batch:
            batch.alter_column("tags", nullable=True)
            batch.add_column(sa.Column("extra", sa.Text(), nullable=True))
"""
FAIL_HALF_WAY = (
    CHANGE_PARENTS
    + """
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("DELETE FROM log_head")
    op.execute("INSERT INTO log_head (run_id) VALUES (NULL)")
"""
)
RAISE = (
    CHANGE_PARENTS
    + """
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    raise ValueError("a fault in the revision")
"""
)
LEAVE_ORPHANS = """
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("DELETE FROM flow")
"""


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Add a revision to a copy of the real ones, and have the server's code find them there."""
    scratch = tmp_path / "migrations"
    shutil.copytree(revisions.folder(), scratch)
    before = migrations.head_revision()

    def add(upgrade: str) -> None:
        text = REVISION.format(words="Try it out", before=before, upgrade=upgrade)
        (scratch / "versions" / "scratch.py").write_text(text)
        monkeypatch.setattr(revisions, "folder", lambda: scratch)
        revisions.history.cache_clear()

    yield add
    revisions.history.cache_clear()


async def test_changing_a_table_keeps_the_rows_that_refer_to_it(
    database: Database, next_revision: Any
) -> None:
    await migrations.upgrade(database)
    await database.migrate(fill)
    next_revision(CHANGE_PARENTS)
    await migrations.upgrade(database)

    assert await migrations.current_revision(database) == "scratch"
    built = await database.migrate(described)
    for parent in ("flow", "flow_run"):
        columns = {name: nullable for name, _, nullable, _ in built[parent]["columns"]}
        assert columns["tags"]
        assert "extra" in columns
    assert await database.migrate(counted) == ONE_EACH
    assert await database.migrate(broken_references) == []
    await still_guards_references(database)


async def still_guards_references(database: Database) -> None:
    def delete(connection: Connection) -> dict[str, int]:
        connection.execute(metadata.tables["flow"].delete())
        connection.commit()
        return counted(connection)

    left = await database.migrate(delete)
    under_flows = {"flow"}
    for table in metadata.sorted_tables:  # parents first
        if any(key.column.table.name in under_flows for key in table.foreign_keys):
            under_flows.add(table.name)
    assert {"deployment", "task_run_transition"} <= under_flows
    assert {name for name, count in left.items() if not count} == under_flows


@pytest.mark.parametrize("upgrade", [FAIL_HALF_WAY, RAISE], ids=["statement", "code"])
async def test_a_revision_that_fails_changes_nothing(
    database: Database, next_revision: Any, upgrade: str
) -> None:
    await migrations.upgrade(database)
    await database.migrate(fill)
    before = await database.migrate(described)
    at = await migrations.current_revision(database)
    next_revision(upgrade)

    with pytest.raises(migrations.MigrationFailedError, match="scratch"):
        await migrations.upgrade(database)

    assert await migrations.current_revision(database) == at
    assert await database.migrate(described) == before
    assert await database.migrate(counted) == ONE_EACH
    await still_guards_references(database)


# PostgreSQL deletes them, foreign keys being on.
@pytest.mark.parametrize("urls", ["sqlite_file", "sqlite_memory"], indirect=True)
async def test_a_revision_that_leaves_rows_without_their_parents_is_undone(
    database: Database, next_revision: Any
) -> None:
    await migrations.upgrade(database)
    await database.migrate(fill)
    before = await database.migrate(described)
    next_revision(LEAVE_ORPHANS)
    with pytest.raises(migrations.MigrationFailedError, match="not there"):
        await migrations.upgrade(database)
    assert await database.migrate(described) == before
    assert await database.migrate(counted) == ONE_EACH
