"""Backup, vacuum, check and prune by RPC, while a real server serves. On every dialect."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from interlock.admin.v1 import maintenance_pb2 as pb
from interlock.ids import uuid7
from interlock_server.storage.dialects import open_database
from interlock_server.storage.types import id_to_bytes

from tests.support.logs import append, record_batch
from tests.support.operators import Maintenance, maintenance_of
from tests.support.postgresql import Postgresql
from tests.support.refusals import refused
from tests.support.runs import (
    COMPLETED,
    FAILED,
    RUNNING,
    FlowRuns,
    make_flow,
    make_flow_run,
    make_task_run,
    proposal,
)
from tests.support.servers import ServerProcess, sqlite_url
from tests.support.stored import Rows, ago
from tests.support.stubs import Stubs, connected

HOUR, MONTH = 3600, 30 * 24 * 3600


@pytest.fixture
def maintenance(dialect_server: ServerProcess) -> Iterator[Maintenance]:
    """The maintenance of the dialect's server, which other tests use, too."""
    with maintenance_of(dialect_server) as found:
        yield found


@pytest.fixture
def some_runs(stubs: Stubs) -> list[str]:
    """Runs of both kinds with histories and logs; answers the ids of the flow runs."""
    ids = []
    for _ in range(3):
        run = make_flow_run(stubs, state={"type": RUNNING})
        task = make_task_run(stubs, flow_run_id=run.id, state={"type": RUNNING})
        records = record_batch(run.id, "one", "two", number=1, levels=[20, 40])
        named = record_batch(run.id, "three", number=2, task_run_ids=[task.id])
        append(stubs, uuid7(), [records, named])
        runs = FlowRuns(stubs)
        runs.propose(proposal(run.id, RUNNING))  # refused: it runs
        runs.propose(proposal(run.id, FAILED))
        ids.append(run.id)
    return ids


def is_postgresql(server: ServerProcess) -> bool:
    return server.database_url.startswith("postgresql")


# --- check ----------------------------------------------------------------------------------------


def test_a_healthy_database_is_found_so(
    maintenance: Maintenance, some_runs: list[str], dialect_server: ServerProcess
) -> None:
    own = [] if is_postgresql(dialect_server) else ["integrity", "foreign keys"]
    assert maintenance.check() == {check: [] for check in [*own, "flow runs", "task runs", "logs"]}


def test_whatever_is_wrong_is_found_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "interlock.db"
    with ServerProcess(sqlite_url(path)) as server, connected(server.target) as stubs:
        runs = [make_flow_run(stubs, state={"type": RUNNING}) for _ in range(12)]
        for run in runs:
            FlowRuns(stubs).propose(proposal(run.id, COMPLETED))
            batches = [record_batch(run.id, "a", "b", number=number) for number in (1, 2, 3)]
            append(stubs, uuid7(), batches)
        leading = "INSERT INTO log_chunk_task_run SELECT randomblob(16), run_id,"
        spoil = [
            (
                "UPDATE flow_run SET state_id = (SELECT id FROM flow_run_transition WHERE run_id = "
                "flow_run.id ORDER BY decided LIMIT 1) WHERE id = ?",
                "newer state",
            ),
            ("UPDATE flow_run SET run_count = 7 WHERE id = ?", "run count"),
            ("DELETE FROM flow_run_transition WHERE run_id = ?", "not in its history"),
            (
                "UPDATE log_chunk SET info_count = 3 WHERE first_ordinal = 2 AND run_id = ?",
                "levels",
            ),
            (
                "UPDATE log_chunk SET data = x'00' WHERE first_ordinal = 2 AND run_id = ?",
                "decompressed",
            ),
            ("DELETE FROM log_chunk WHERE first_ordinal = 2 AND run_id = ?", "gap"),
            ("DELETE FROM log_chunk WHERE first_ordinal = 4 AND run_id = ?", "ends at 4"),
            ("DELETE FROM log_head WHERE run_id = ?", "no run"),
            (
                "UPDATE log_chunk SET first_time = 1 WHERE first_ordinal = 0 AND run_id = ?",
                "its row says",
            ),
            ("UPDATE log_head SET first_ordinal = 2 WHERE run_id = ?", "2 was to come"),
            (f"{leading} 2 FROM log_head WHERE run_id = ?", "its row says"),
            (f"{leading} 3 FROM log_head WHERE run_id = ?", "leads to a chunk 3"),
        ]
        with closing(sqlite3.connect(path)) as connection, connection:
            for run, (statement, _) in zip(runs, spoil, strict=True):
                changed = connection.execute(statement, [id_to_bytes(run.id)]).rowcount
                assert changed > 0
            before = list(connection.iterdump())
        with maintenance_of(server) as maintenance:
            found = maintenance.check()
            again = maintenance.check()

        finds = [words for each in found.values() for words in each]
        for run, (_, expected) in zip(runs, spoil, strict=True):
            assert [words for words in finds if run.id in words and expected in words], expected
        assert len(finds) == len(spoil)
        assert again == found
        with closing(sqlite3.connect(path)) as connection:
            assert list(connection.iterdump()) == before


def test_no_more_than_twenty_examples_are_told_and_all_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "interlock.db"
    with ServerProcess(sqlite_url(path)) as server, connected(server.target) as stubs:
        flow = make_flow(stubs)
        for _ in range(25):
            make_flow_run(stubs, flow.id)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE flow_run SET run_count = 9")
        with maintenance_of(server) as maintenance:
            events = [
                event
                for event in maintenance.stub.Check(pb.CheckRequest())
                if event.check == "flow runs"
            ]
    assert sum(len(event.findings) for event in events) == 20
    assert events[-1].findings_total == 25
    assert events[-1].done
    assert events[-1].examined == 25


# --- backup ---------------------------------------------------------------------------------------


def test_a_backup_is_a_database_that_can_be_served(
    maintenance: Maintenance,
    some_runs: list[str],
    stubs: Stubs,
    dialect_server: ServerProcess,
    tmp_path: Path,
) -> None:
    path = tmp_path / "copy.db"
    if is_postgresql(dialect_server):
        with refused(StatusCode.FAILED_PRECONDITION, "BACKUP_NOT_SUPPORTED"):
            maintenance.backup(path)
        assert not list(tmp_path.iterdir())
        return
    events = maintenance.backup(path)

    assert events[-1].stage == pb.BACKUP_STAGE_DONE
    assert events[-1].pages_copied == events[-1].pages_total > 0
    assert events[-1].size_bytes == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    with ServerProcess(sqlite_url(path)) as copy, connected(copy.target) as its:
        for run_id in some_runs:
            assert FlowRuns(its).get(run_id) == FlowRuns(stubs).get(run_id)
            assert FlowRuns(its).history(run_id) == FlowRuns(stubs).history(run_id)
        with maintenance_of(copy) as its_maintenance:
            assert not any(its_maintenance.check().values())


def test_a_backup_replaces_a_file_only_when_told(tmp_path: Path) -> None:
    with ServerProcess() as server, maintenance_of(server) as maintenance:
        path = tmp_path / "copy.db"
        path.write_text("something else")
        with refused(StatusCode.FAILED_PRECONDITION, "BACKUP_EXISTS"):
            maintenance.backup(path)
        assert path.read_text() == "something else"
        maintenance.backup(path, overwrite=True)
        assert path.read_bytes().startswith(b"SQLite format 3")
        assert path.stat().st_mode & 0o777 == 0o600
        database = server.home / "interlock.db"
        for own in (database, f"{database}-wal"):
            with refused(StatusCode.FAILED_PRECONDITION, "BACKUP_IS_DATABASE"):
                maintenance.backup(own, overwrite=True)


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("", StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ("copy.db", StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ("/nowhere/at/all/copy.db", StatusCode.FAILED_PRECONDITION, "BACKUP_NOT_WRITABLE"),
        ("/proc/copy.db", StatusCode.FAILED_PRECONDITION, "BACKUP_NOT_WRITABLE"),
        ("/", StatusCode.FAILED_PRECONDITION, "BACKUP_EXISTS"),
        (f"/tmp/{'x' * 300}", StatusCode.FAILED_PRECONDITION, "BACKUP_NOT_WRITABLE"),
    ],
)
def test_a_backup_that_can_not_be_is_refused(
    interlock_on_sqlite_file: ServerProcess, path: str, code: StatusCode, reason: str
) -> None:
    with maintenance_of(interlock_on_sqlite_file) as maintenance, refused(code, reason):
        maintenance.backup(path, overwrite=True)


async def test_a_backup_under_load_ends_and_has_all_that_was_acknowledged_before(
    tmp_path: Path,
) -> None:
    url = sqlite_url(tmp_path / "interlock.db")
    with ServerProcess(url) as server:
        rows = Rows()
        flow = rows.flow()
        for _ in range(4_000):
            rows.run("flow_run", ago(0), flow_id=flow)
        database = open_database(url)
        await rows.put(database)
        await database.close()
        acknowledged: list[str] = []
        stop, warm = threading.Event(), threading.Event()

        def write() -> None:
            with connected(server.target) as stubs:
                run = make_flow_run(stubs, state={"type": RUNNING})
                while not stop.is_set():
                    given = proposal(run.id, RUNNING, force=True)
                    FlowRuns(stubs).propose(given)
                    acknowledged.append(given.id)
                    if len(acknowledged) >= 50:
                        warm.set()

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            assert warm.wait(30)
            before = list(acknowledged)
            with maintenance_of(server) as maintenance:
                events = maintenance.backup(tmp_path / "copy.db")
            written_meanwhile = len(acknowledged) - len(before)
        finally:
            stop.set()
            for writer in writers:
                writer.join()

    assert events[-1].stage == pb.BACKUP_STAGE_DONE
    copied = [event.pages_copied for event in events if event.stage == pb.BACKUP_STAGE_COPYING]
    assert len(copied) > 1
    assert copied == sorted(copied), "it has started over"
    assert written_meanwhile > 0
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert not copy.execute("PRAGMA foreign_key_check").fetchall()
        has = {row[0] for row in copy.execute("SELECT id FROM flow_run_transition")}
    assert {id_to_bytes(id_) for id_ in before} <= has


def wait_until_free(maintenance: Maintenance, path: Path) -> None:
    """Make a backup once the one before it has cleaned up."""
    while True:
        try:
            maintenance.backup(path)
            return
        except grpc.RpcError as error:
            if error.code() is not StatusCode.ABORTED:
                raise


def test_a_backup_whose_caller_goes_away_leaves_nothing(tmp_path: Path) -> None:
    with ServerProcess() as server, connected(server.target) as stubs:
        run = make_flow_run(stubs)
        noise = os.urandom(30_000).hex()
        for number in range(1, 21):
            append(stubs, uuid7(), [record_batch(run.id, noise, number=number)])
        with maintenance_of(server) as maintenance:
            call = maintenance.stub.Backup(pb.BackupRequest(path=str(tmp_path / "copy.db")))
            next(iter(call))
            call.cancel()
            wait_until_free(maintenance, tmp_path / "other.db")
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"other.db", "copy.db"}  # the first may have been done before it was told


# --- vacuum ---------------------------------------------------------------------------------------


def test_a_vacuum_gives_room_back_while_the_server_serves(tmp_path: Path) -> None:
    with ServerProcess() as server, connected(server.target) as stubs:
        run = make_flow_run(stubs)
        for number in range(1, 40):
            append(stubs, uuid7(), [record_batch(run.id, os.urandom(30_000).hex(), number=number)])
        FlowRuns(stubs).delete(run.id)
        with maintenance_of(server) as maintenance:
            events = maintenance.vacuum()
        assert events[-1].size_bytes < events[-1].size_before_bytes
        assert {event.step for event in events[:-1]} >= {"VACUUM"}
        kept = make_flow_run(stubs)
        assert FlowRuns(stubs).get(kept.id).id == kept.id


def test_writes_wait_for_a_vacuum_and_none_of_them_fails(
    maintenance: Maintenance, stubs: Stubs
) -> None:
    runs = FlowRuns(stubs)
    run = make_flow_run(stubs, state={"type": RUNNING})
    stop = threading.Event()

    def write() -> int:
        count = 0
        while not stop.is_set():
            runs.propose(proposal(run.id, RUNNING, force=True))
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(5):
                maintenance.vacuum()
        finally:
            stop.set()
        written = writing.result()
    assert len(runs.history(run.id)) == written + 1


def test_a_vacuum_tells_of_each_step_on_every_dialect(
    maintenance: Maintenance, some_runs: list[str], stubs: Stubs
) -> None:
    events = maintenance.vacuum()
    assert [event.steps_done for event in events[:-1]] == list(range(events[-1].steps_total + 1))
    assert not events[-1].step
    assert events[-1].size_bytes >= 0
    for run_id in some_runs:
        assert FlowRuns(stubs).get(run_id).id == run_id


# --- prune ----------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def old_and_new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of its own, with a database that a test may fill."""
    if request.param == "sqlite":
        with ServerProcess(sqlite_url(tmp_path / "interlock.db")) as server:
            yield server
        return
    postgresql: Postgresql = request.getfixturevalue("postgresql_18")
    with postgresql.database() as url, ServerProcess(url) as server:
        yield server


async def test_a_server_prunes_while_it_serves(old_and_new: ServerProcess) -> None:
    rows = Rows()
    flow = rows.flow()
    for _ in range(1_500):
        rows.run("flow_run", ago(40), flow_id=flow)
    large = rows.run("flow_run", ago(40), flow_id=flow)
    for _ in range(1_000):
        rows.run("task_run", ago(40), flow_run_id=large)
    rows.log(large, 300)
    database = open_database(old_and_new.database_url)
    await rows.put(database)
    await database.close()

    with connected(old_and_new.target) as stubs, maintenance_of(old_and_new) as maintenance:
        kept = make_flow_run(stubs, state={"type": COMPLETED})
        (counted,) = maintenance.prune(MONTH, dry_run=True)
        expected = pb.PruneCounts(flow_runs=1_501, task_runs=1_000, log_chunks=300)
        assert (counted.total, counted.deleted) == (expected, pb.PruneCounts())
        assert FlowRuns(stubs).count() == 1_502

        request = pb.PruneRequest()
        request.older_than.FromSeconds(MONTH)
        events = []
        for event in maintenance.stub.Prune(request):
            make_flow_run(stubs, flow)
            events.append(event)
        written = len(events)
        assert events[-1].deleted == expected
        assert written > 5
        assert FlowRuns(stubs).count() == 1 + written
        assert FlowRuns(stubs).get(kept.id).id == kept.id
        assert not any(maintenance.check().values())


@pytest.mark.parametrize("seconds", [-1, 0, HOUR - 1])
def test_what_is_young_is_not_pruned(maintenance: Maintenance, seconds: int) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "older_than"):
        maintenance.prune(seconds)


@pytest.mark.parametrize("seconds", [-1, 0, HOUR - 1])
def test_what_came_to_a_log_of_late_is_not_pruned(maintenance: Maintenance, seconds: int) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "logs_older_than"):
        maintenance.prune(MONTH, logs=seconds)


def test_who_prunes_says_how_old(maintenance: Maintenance) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "older_than"):
        maintenance.prune(None)


def test_logs_are_pruned_by_themselves(maintenance: Maintenance, some_runs: list[str]) -> None:
    (event,) = maintenance.prune(None, logs=HOUR)
    assert event.total == pb.PruneCounts()


def test_nothing_to_prune_is_no_error(maintenance: Maintenance, some_runs: list[str]) -> None:
    (event,) = maintenance.prune(HOUR)
    assert event.total == pb.PruneCounts()
