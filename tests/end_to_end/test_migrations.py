"""The schema moved by processes: the command line, the admin RPCs, migrators that meet or die."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from interlock import Client
from interlock.admin.v1 import migration_pb2 as pb
from interlock.admin.v1.migration_pb2_grpc import MigrationServiceStub
from interlock.v1.flow_pb2 import CreateFlowRequest, GetFlowRequest
from interlock_server.storage import revisions
from interlock_server.storage.dialects import open_database
from interlock_server.storage.migrations import current_revision

from tests.end_to_end.commands import TIMEOUT, Ended, environment
from tests.end_to_end.test_server_start import (
    NOT_SERVING,
    SERVING,
    health,
    wait_until_serving,
)
from tests.support.postgresql import Postgresql
from tests.support.refusals import refusal_of
from tests.support.revisions import Release
from tests.support.servers import ServerProcess, sqlite_url
from tests.support.stubs import Stubs, connected

ANOTHER_MIGRATES = 5
REPOSITORY = Path(__file__).parents[2]
REAL = [revision.id for revision in revisions.history().revisions]
HEAD = REAL[-1]

# The loop of a server must go on meanwhile, so it is the database that waits.
WAIT = """
from pathlib import Path

Path({started!r}).touch()
pause = "SELECT pg_sleep(0.05)"
if op.get_bind().dialect.name == "sqlite":
    pause = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) "
        "SELECT count(*) FROM n"
    )
while not Path({go!r}).exists():
    op.execute(pause)
"""


class Signals:
    """A step that says when it has started, and waits to be told to go on."""

    def __init__(self, folder: Path) -> None:
        self._started, self._go = folder / "started", folder / "go"
        self.code = WAIT.format(started=str(self._started), go=str(self._go))

    def wait_for_start(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not self._started.exists():
            assert time.monotonic() < deadline, "the step does not start"
            time.sleep(0.01)

    def go(self) -> None:
        self._go.touch()


# The oldest PostgreSQL has its turn where the real revisions have theirs; each command takes time.
@pytest.fixture(params=["sqlite", "postgresql_18"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "interlock.db")
        return
    postgresql: Postgresql = request.getfixturevalue(request.param)
    with postgresql.database() as database_url:
        yield database_url


@pytest.fixture
def signals(tmp_path: Path) -> Signals:
    return Signals(tmp_path)


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Release]:
    """A release to which a test adds revisions."""
    yield Release(tmp_path)
    revisions.history.cache_clear()


@pytest.fixture
def two_more(release: Release) -> Release:
    """The release has two revisions after the real ones: `next` and d20618ce678e."""
    release.add(
        "next",
        'op.add_column("flow", sa.Column("extra", sa.Text()))',
        'with op.batch_alter_table("flow") as batch:\n    batch.drop_column("extra")',
    )
    release.add(
        "d20618ce678e",
        'op.create_table("third", sa.Column("id", sa.Integer))',
        'op.drop_table("third")',
    )
    return release


class ReleaseServer(ServerProcess):
    """A server of a release."""

    def __init__(self, url: str, release: Release) -> None:
        super().__init__(url, environment=release.environment)

    @property
    def _command(self) -> list[str]:
        return [
            "tests.support.revisions" if word == "tests.support.server_main" else word
            for word in super()._command
        ]


def command(*words: str, url: str, release: Release | None = None) -> list[str]:
    start = [str(Path(sys.executable).with_name("interlock"))]
    if release is not None:
        start = [sys.executable, "-m", "tests.support.revisions"]
    return [*start, "server", "database", words[0], "--database", url, *words[1:]]


def run(*words: str, url: str, release: Release | None = None) -> Ended:
    """Run a command without a server to its end."""
    return subprocess.run(
        command(*words, url=url, release=release),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environment(INTERLOCK_HOME="/nonexistent", **(release.environment if release else {})),
        cwd=REPOSITORY,
    )


def start(*words: str, url: str, release: Release) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*words, url=url, release=release),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(INTERLOCK_HOME="/nonexistent", **release.environment),
        cwd=REPOSITORY,
    )


def starred(url: str) -> str:
    """The id in the line of `history` with the star."""
    lines = run("history", url=url).stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("* ")]
    return line.split()[1]


def current(url: str) -> str:
    """Where the schema stands; without another process, which takes most of a second."""

    async def look() -> str:
        database = open_database(url)
        try:
            return await current_revision(database) or "base"
        finally:
            await database.close()

    return asyncio.run(look())


# --- the reference's commands ---------------------------------------------------------------------


def test_the_commands_of_the_reference(url: str, two_more: Release) -> None:
    def succeed(*words: str, at: str) -> str:
        done = run(*words, url=url, release=two_more)
        assert done.returncode == 0, done.stderr
        assert current(url) == at
        return done.stdout

    succeed("reset", "-y", at="d20618ce678e")
    succeed("upgrade", "-y", at="d20618ce678e")
    down = succeed("downgrade", "-y", "-r", "-1", at="next")
    assert "1/1 d20618ce678e  Try d20618ce678e ... done" in down
    succeed("downgrade", "-y", "-r", HEAD, at=HEAD)
    assert "ADD COLUMN extra" in succeed("upgrade", "--dry-run", at=HEAD)
    succeed("upgrade", "-y", "-r", "+1", at="next")
    succeed("upgrade", "-y", "-r", "d20618", at="d20618ce678e")
    succeed("downgrade", "-y", at="next")
    assert "before that it was next" in succeed("stamp", "-y", "d20618ce678e", at="d20618ce678e")
    succeed("stamp", "-y", "-r", "next", at="next")
    succeed("downgrade", "-y", "-r", "base", at="base")
    succeed("upgrade", at="d20618ce678e")


@pytest.mark.parametrize("url", ["sqlite", "postgresql_13", "postgresql_18"], indirect=True)
def test_the_commands_on_the_real_history(url: str) -> None:
    for words, at in (
        (("reset", "-y"), HEAD),
        (("downgrade", "-y", "-r", "-1"), REAL[-2]),
        (("downgrade", "-y", "-r", REAL[0]), REAL[0]),
        (("downgrade", "-y", "-r", "-1"), "base"),
        (("upgrade", "-y"), HEAD),
    ):
        done = run(*words, url=url)
        assert done.returncode == 0, done.stderr
        assert starred(url) == at
    planned = run("downgrade", "--dry-run", "-r", "base", url=url)
    assert "DROP TABLE flow;" in planned.stdout
    assert current(url) == HEAD


def test_destructive_commands_do_nothing_without_a_yes(url: str, two_more: Release) -> None:
    assert run("upgrade", url=url, release=two_more).returncode == 0
    for words in (["reset"], ["downgrade"], ["stamp", "base"]):
        done = run(*words, url=url, release=two_more)
        assert done.returncode == 2
        assert "Give -y for yes" in done.stderr
    assert current(url) == "d20618ce678e"
    for words, why in (
        (["downgrade", "-y", "-r", "nowhere"], "There is no revision 'nowhere'"),
        (["downgrade", "-y", "-r", "000"], ", ".join(REAL)),
        (["upgrade", "-y", "-r", "+1"], "0 above it"),
    ):
        done = run(*words, url=url, release=two_more)
        assert done.returncode == 1
        assert why in done.stderr


def test_the_same_by_rpc_with_nothing_but_stubs(url: str, two_more: Release) -> None:
    with (
        ReleaseServer(url, two_more) as server,
        grpc.insecure_channel(server.admin_target) as channel,
        connected(server.target) as stubs,
    ):
        admin = MigrationServiceStub(channel)
        stubs.flows.CreateFlow(CreateFlowRequest(name="gone"))
        reset = [answer.event for answer in admin.Reset(pb.ResetRequest())]
        assert [event.stage for event in reset] == [
            pb.MIGRATION_STAGE_DROPPING,
            pb.MIGRATION_STAGE_DROPPED,
            *[pb.MIGRATION_STAGE_APPLYING, pb.MIGRATION_STAGE_APPLIED] * (len(REAL) + 2),
        ]
        with pytest.raises(grpc.RpcError) as caught:
            stubs.flows.GetFlow(GetFlowRequest(name="gone"))
        assert refusal_of(caught.value).code is grpc.StatusCode.NOT_FOUND

        down = [answer.event for answer in admin.Downgrade(pb.DowngradeRequest())]
        assert [(event.revision.id, event.position, event.total) for event in down] == [
            ("d20618ce678e", 1, 1)
        ] * 2
        assert down[0].interrupts_service
        assert health(stubs) == NOT_SERVING
        list(admin.Downgrade(pb.DowngradeRequest(revision=HEAD)))
        status = admin.GetStatus(pb.GetStatusRequest())
        assert (status.current_revision, status.compatible_from) == (HEAD, "0.1.0")
        listed = admin.ListRevisions(pb.ListRevisionsRequest())
        assert [each.id for each in listed.revisions] == [*REAL, "next", "d20618ce678e"]
        (plan, _) = [a.event for a in admin.Upgrade(pb.UpgradeRequest(dry_run=True))]
        assert "ADD COLUMN extra" in "".join(plan.statements)
        list(admin.Upgrade(pb.UpgradeRequest()))
        assert health(stubs) == SERVING
        stamped = admin.Stamp(pb.StampRequest(revision="next"))
        assert (stamped.previous_revision, stamped.current_revision) == ("d20618ce678e", "next")
        admin.Stamp(pb.StampRequest(revision="head"))
        assert health(stubs) == SERVING
        for request in (pb.UpgradeRequest(revision="000"), pb.UpgradeRequest(revision="zz")):
            with pytest.raises(grpc.RpcError) as caught:
                list(admin.Upgrade(request))
            assert refusal_of(caught.value).reason in {"REVISION_AMBIGUOUS", "REVISION_NOT_FOUND"}


# --- migrators that meet, and one that dies -------------------------------------------------------


def test_two_migrators_take_turns(url: str, release: Release, signals: Signals) -> None:
    release.add("next", signals.code)
    first = start("upgrade", "-y", url=url, release=release)
    signals.wait_for_start()

    impatient = run("upgrade", "-y", "--wait", "0", url=url, release=release)
    assert impatient.returncode == ANOTHER_MIGRATES
    assert f"process {first.pid} on " in impatient.stderr
    second = start("upgrade", "-y", url=url, release=release)
    assert second.stderr is not None
    assert f"Waiting for the migrator in process {first.pid} on " in second.stderr.readline()
    signals.go()

    for migrator in (first, second):
        out, err = migrator.communicate(timeout=TIMEOUT)
        assert migrator.returncode == 0, err
        assert out.endswith("The schema is at next, the newest revision.\n")
    assert current(url) == "next"


def test_a_migrator_that_is_killed_leaves_no_trace_and_no_lock(
    url: str, release: Release, signals: Signals
) -> None:
    assert run("upgrade", url=url).returncode == 0
    release.add("next", 'op.create_table("half", sa.Column("id", sa.Integer))\n' + signals.code)
    killed = start("upgrade", "-y", url=url, release=release)
    signals.wait_for_start()
    killed.kill()
    killed.communicate(timeout=TIMEOUT)

    assert current(url) == HEAD
    signals.go()
    # The table of the broken step is not in the way, and nobody holds the lock for long.
    done = run("upgrade", "-y", "--wait", "20", url=url, release=release)
    assert done.returncode == 0, done.stderr
    assert current(url) == "next"


# --- with a service that runs ---------------------------------------------------------------------


def create_flow(stubs: Stubs, name: str) -> None:
    stubs.flows.CreateFlow(CreateFlowRequest(name=name), timeout=TIMEOUT)


def test_calls_are_unavailable_while_a_step_interrupts_the_service(
    url: str, release: Release, signals: Signals
) -> None:
    release.add("next", signals.code)
    with ThreadPoolExecutor(1) as pool:
        assert run("upgrade", url=url).returncode == 0
        with (
            ReleaseServer(url, release) as server,
            grpc.insecure_channel(server.admin_target) as channel,
            connected(server.target) as stubs,
        ):
            admin = MigrationServiceStub(channel)
            assert health(stubs) == NOT_SERVING
            upgrading = pool.submit(lambda: list(admin.Upgrade(pb.UpgradeRequest())))
            signals.wait_for_start()
            with pytest.raises(grpc.RpcError) as caught:
                create_flow(stubs, "too early")
            refusal = refusal_of(caught.value)
            assert (refusal.code, refusal.reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "SCHEMA_CHANGING",
            )
            assert refusal.retry_after
            # Operators are told meanwhile.
            assert admin.GetStatus(pb.GetStatusRequest()).current_revision == HEAD
            signals.go()
            assert len(upgrading.result(TIMEOUT)) == 2
            wait_until_serving(stubs)
            create_flow(stubs, "in time")


def test_a_server_that_is_stopped_in_a_step_takes_it_back(
    url: str, release: Release, signals: Signals
) -> None:
    release.add("next", 'op.create_table("half", sa.Column("id", sa.Integer))\n' + signals.code)
    assert run("upgrade", url=url).returncode == 0
    with (
        ThreadPoolExecutor(1) as pool,
        ReleaseServer(url, release) as server,
        grpc.insecure_channel(server.admin_target) as channel,
    ):
        admin = MigrationServiceStub(channel)
        upgrading = pool.submit(lambda: list(admin.Upgrade(pb.UpgradeRequest())))
        signals.wait_for_start()
        server.stop()
        with pytest.raises(grpc.RpcError):
            upgrading.result(TIMEOUT)
    assert current(url) == HEAD
    signals.go()
    assert run("upgrade", "-y", url=url, release=release).returncode == 0


def test_a_caller_that_goes_away_ends_the_upgrade_after_the_step_that_runs(
    release: Release, signals: Signals, tmp_path: Path
) -> None:
    url = sqlite_url(tmp_path / "interlock.db")
    assert run("upgrade", url=url).returncode == 0
    release.add("next", signals.code)
    release.add("after", "pass")
    with (
        ReleaseServer(url, release) as server,
        grpc.insecure_channel(server.admin_target) as channel,
    ):
        admin = MigrationServiceStub(channel)
        upgrading = admin.Upgrade(pb.UpgradeRequest())
        signals.wait_for_start()
        upgrading.cancel()
        # The server has heard of it when it answers what was asked later.
        admin.GetStatus(pb.GetStatusRequest())
        signals.go()
        # Its turn comes when the other one has ended.
        stamped = admin.Stamp(pb.StampRequest(revision="head"))
        assert stamped.previous_revision == "next"


def test_writes_wait_for_a_step_that_does_not_interrupt_the_service(
    release: Release, signals: Signals, tmp_path: Path
) -> None:
    url = sqlite_url(tmp_path / "interlock.db")
    assert run("upgrade", url=url).returncode == 0
    release.add("next", signals.code, required=False)
    with (
        ThreadPoolExecutor(2) as pool,
        ReleaseServer(url, release) as server,
        grpc.insecure_channel(server.admin_target) as channel,
        connected(server.target) as stubs,
    ):
        admin = MigrationServiceStub(channel)
        create_flow(stubs, "before")  # The writer is connected.
        upgrading = pool.submit(lambda: list(admin.Upgrade(pb.UpgradeRequest())))
        signals.wait_for_start()
        writing = pool.submit(create_flow, stubs, "meanwhile")
        assert health(stubs) == SERVING
        assert stubs.flows.GetFlow(GetFlowRequest(name="before")).flow.name == "before"
        assert not writing.done()
        signals.go()
        assert not [each for each in upgrading.result(TIMEOUT) if each.event.interrupts_service]
        writing.result(TIMEOUT)


@pytest.mark.parametrize("url", ["postgresql_18"], indirect=True)
def test_another_server_of_the_database_learns_of_a_change(url: str, release: Release) -> None:
    release.add("next", "pass")
    with (
        ReleaseServer(url, release) as one,
        ReleaseServer(url, release) as other,
        grpc.insecure_channel(one.admin_target) as channel,
        connected(other.target) as stubs,
    ):
        admin = MigrationServiceStub(channel)
        assert health(stubs) == SERVING
        list(admin.Downgrade(pb.DowngradeRequest()))
        wait_until(lambda: health(stubs) == NOT_SERVING)
        list(admin.Upgrade(pb.UpgradeRequest()))
        wait_until_serving(stubs)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_does_not_start_on_another_programs_database(tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE theirs (id INTEGER)")
    connection.close()
    started = subprocess.run(
        [
            str(Path(sys.executable).with_name("interlock")),
            "server",
            "start",
            "--port",
            "0",
            "--database",
            sqlite_url(file),
            "--admin-socket",
            str(tmp_path / "s"),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environment(),
    )
    assert started.returncode == 1
    assert "none of Interlock's: theirs" in started.stderr
    status = run("status", url=sqlite_url(file))
    assert status.returncode == 1
    assert "another program" in status.stdout
    beside = run("upgrade", "-y", "--beside-other-programs", url=sqlite_url(file))
    assert beside.returncode == 0, beside.stderr
    with ServerProcess(sqlite_url(file)) as server, Client(server.target) as client:
        client.create_flow("beside")
