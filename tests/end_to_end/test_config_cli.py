"""Configuration as an operator types it: settings, profiles, and what a server makes of them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from interlock.v1.flow_pb2 import CreateFlowRequest
from sqlalchemy import make_url

from tests.end_to_end.commands import TIMEOUT, Ended, interlock, start_interlock
from tests.support.postgresql import Postgresql
from tests.support.servers import IN_MEMORY
from tests.support.stubs import connected

URL = "INTERLOCK_DATABASE_CONNECTION_URL"
OLDER_URL = "INTERLOCK_API_DATABASE_CONNECTION_URL"


@dataclass
class Started:
    """A server that runs, and what it has written."""

    target: str
    stdout: str
    stderr: str = ""
    """All of it, once the server has ended."""

    def makes_a_flow(self) -> None:
        """Let the server write something."""
        with connected(self.target) as stubs:
            assert stubs.flows.CreateFlow(CreateFlowRequest(name="configured")).flow.id


class Operator:
    """Somebody with a home folder of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.variables = {"INTERLOCK_HOME": str(home), "INTERLOCK_PORT": "0"}

    def types(self, *words: str | Path, answer: str = "", **variables: str) -> Ended:
        """Run a command to its end."""
        return interlock(*words, variables=self.variables | variables, answer=answer)

    def sees(self, *words: str | Path, **variables: str) -> str:
        """Run a command that goes well, and answer what it shows."""
        done = self.types(*words, **variables)
        assert done.returncode == 0, done
        return done.stdout

    def is_refused(self, *words: str | Path, **variables: str) -> str:
        """Type what makes no sense, and answer what is said of it."""
        done = self.types(*words, **variables)
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr
        return done.stderr

    @contextmanager
    def server(self, *options: str, **variables: str) -> Iterator[Started]:
        """A server on what is configured, for as long as the block goes on."""
        process = start_interlock(*options, "server", "start", variables=self.variables | variables)
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not lines or not lines[-1].startswith("Stop it with"):
                line = process.stdout.readline()
                assert line, process.communicate()
                lines.append(line)
            started = Started(lines[0].split()[-1], "".join(lines))
            yield started
            process.terminate()
            _, started.stderr = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0, started.stderr
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def operator() -> Iterator[Operator]:
    # Not pytest's own directory: a socket's path must be short.
    with TemporaryDirectory(prefix="interlock-") as folder:
        yield Operator(Path(folder) / "home")


# The database, as the documentation has it


def test_the_default_database_is_in_the_home_folder(operator: Operator) -> None:
    file = operator.home / "interlock.db"
    assert f"{URL}='sqlite+aiosqlite:///{file}' (from default)" in operator.sees(
        "config", "view", "--show-defaults"
    )
    with operator.server() as server:
        server.makes_a_flow()
    assert file.exists()


def test_a_full_path_that_is_set_is_shown_with_its_source_and_served(operator: Operator) -> None:
    file = operator.home / "a location" / "interlock.db"
    url = f"sqlite+aiosqlite:///{file}"
    operator.sees("config", "set", f"{OLDER_URL}={url}")

    assert f"{URL}='{url}' (from profile)\n" in operator.sees("config", "view", "--show-sources")
    with operator.server() as server:
        server.makes_a_flow()
    assert file.exists()
    assert not (operator.home / "interlock.db").exists()


def test_postgresql_is_served_and_its_password_shown_by_nothing(
    operator: Operator, postgresql_18: Postgresql
) -> None:
    with postgresql_18.database() as url:
        password = str(make_url(url).password)
        masked = url.replace(password, "***")
        said = operator.sees("config", "set", f"{URL}={url}")
        said += operator.sees("config", "view", "--show-sources")
        said += operator.sees("profile", "inspect")
        with operator.server() as server:
            server.makes_a_flow()
            said += operator.sees("server", "database", "status")
        said += server.stdout + server.stderr

        assert said.count(masked) >= 5
        assert password not in said
        assert f"{URL}='{url}'" in operator.sees("config", "view", "--show-secrets")
        assert url in operator.sees("profile", "inspect", "--show-secrets")


def test_the_password_of_postgresql_may_be_kept_apart(
    operator: Operator, postgresql_18: Postgresql
) -> None:
    with postgresql_18.database() as url:
        password = str(make_url(url).password)
        operator.sees("config", "set", f"{URL}={url.replace(f':{password}@', '@')}")
        said = operator.sees("config", "set", f"INTERLOCK_DATABASE_PASSWORD={password}")
        said += operator.sees("config", "view")
        with operator.server() as server:
            server.makes_a_flow()
        said += server.stdout + server.stderr

    assert "INTERLOCK_DATABASE_PASSWORD='********' (from profile)" in said
    assert password not in said


def test_a_database_in_memory_is_served_by_its_server_alone(operator: Operator) -> None:
    operator.sees("config", "set", f"{OLDER_URL}={IN_MEMORY}")
    assert f"{URL}='{IN_MEMORY}'" in operator.sees("config", "view")
    with operator.server() as server:
        server.makes_a_flow()
        assert "Nothing to do" in operator.sees("server", "database", "status")

    for command in ("status", "upgrade"):
        done = operator.types("server", "database", command)
        assert done.returncode == 1
        assert "lives in the memory of its server, where no other process can reach it" in (
            done.stderr
        )
    assert not list(operator.home.glob("*memory*"))


# Setting and removing


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        (f"{URL}X=1", f"did you mean {URL}"),
        ("prot=1", "prot is no setting; did you mean INTERLOCK_PORT"),
        ("INTERLOCK_PORT=http", "'http' does not fit: give a whole number from 0 to 65535"),
        ("INTERLOCK_DATABASE_TLS_MODE=always", "give disable, prefer, require, verify-ca or"),
        (f"{URL}=mysql://me:s3cret@host/db", "The database driver 'mysql' is not supported"),
        ("INTERLOCK_HOME=/elsewhere", "The profiles lie in the home folder, so no profile can say"),
        ("INTERLOCK_DATABASE_PASSWORD", "has no `=`"),
    ],
)
def test_what_can_not_be_set_is_refused_and_nothing_is_written(
    operator: Operator, assignment: str, words: str
) -> None:
    said = operator.is_refused("config", "set", "INTERLOCK_LOG_LEVEL=DEBUG", assignment)
    assert words in said
    assert "s3cret" not in said
    assert not (operator.home / "profiles.toml").exists()


def test_a_setting_that_the_environment_overrides_is_set_with_a_warning(
    operator: Operator,
) -> None:
    done = operator.types("config", "set", "log_level=warning", INTERLOCK_LOG_LEVEL="ERROR")
    assert done.stdout == "Set INTERLOCK_LOG_LEVEL='WARNING' in the profile 'default'.\n"
    assert "The environment variable INTERLOCK_LOG_LEVEL is set, and goes before" in done.stderr
    assert "INTERLOCK_LOG_LEVEL='ERROR' (from environment)" in operator.sees(
        "config", "view", INTERLOCK_LOG_LEVEL="ERROR"
    )
    assert "INTERLOCK_LOG_LEVEL='WARNING' (from profile)" in operator.sees("config", "view")


def test_unset_asks_first_and_removes_also_what_is_no_setting(operator: Operator) -> None:
    operator.sees("config", "set", "log_level=DEBUG", "log_json=true")
    with (operator.home / "profiles.toml").open("a") as file:
        file.write("INTERLOCK_PROT = 1\n")

    assert operator.types("config", "unset", "log_level", answer="n\n").returncode == 1
    assert "INTERLOCK_LOG_LEVEL" in operator.sees("config", "view")
    assert operator.types("config", "unset", "log_level", answer="y\n").returncode == 0
    operator.sees("config", "unset", "-y", "INTERLOCK_PROT")
    assert operator.sees("profile", "inspect") == "INTERLOCK_LOG_JSON=true\n"

    again = operator.types("config", "unset", "-y", "log_level")
    assert again.returncode == 1
    assert "INTERLOCK_LOG_LEVEL is not set in the profile 'default'" in again.stderr
    assert "did you mean" in operator.is_refused("config", "unset", "-y", "INTERLOCK_PROT")


# Looking


def test_sources_and_defaults_are_shown_and_hidden_as_asked(operator: Operator) -> None:
    operator.sees("config", "set", "log_json=false")
    shown = operator.sees("config", "view").splitlines()
    assert shown == [
        "INTERLOCK_PROFILE='default'",
        f"INTERLOCK_HOME='{operator.home}' (from environment)",
        "INTERLOCK_PORT=0 (from environment)",
        "INTERLOCK_LOG_JSON=false (from profile)",
    ]
    assert "INTERLOCK_LOG_JSON=false\n" in operator.sees("config", "view", "--hide-sources")
    every = operator.sees("config", "view", "--show-defaults")
    assert "INTERLOCK_SHUTDOWN_GRACE=15.0 (from default)" in every
    assert "INTERLOCK_DATABASE_TLS_CA_FILE= (from default: those that the system trusts)" in every


def test_the_view_for_scripts(operator: Operator) -> None:
    operator.sees("config", "set", f"{URL}=postgresql://me:s3cret@host/db", "log_json=true")
    seen = json.loads(operator.sees("config", "view", "-o", "json"))
    assert seen["profile"] == "default"
    assert seen["settings"][URL] == {
        "value": "postgresql+asyncpg://me:***@host/db",
        "source": "profile",
    }
    assert seen["settings"]["INTERLOCK_LOG_JSON"] == {"value": True, "source": "profile"}
    bare = json.loads(operator.sees("config", "view", "-o", "json", "--hide-sources"))
    assert bare["settings"]["INTERLOCK_LOG_JSON"] == {"value": True}


def test_validate_says_that_all_is_well_or_what_is_not(operator: Operator, tmp_path: Path) -> None:
    assert "All is well" in operator.sees("config", "validate")

    operator.sees("config", "set", f"database_tls_ca_file={tmp_path / 'none.pem'}")
    operator.sees("config", "set", f"{URL}=postgresql://me:own@host/db")
    operator.sees("config", "set", "database_password=s3cret")
    file = operator.home / "profiles.toml"
    file.write_text(file.read_text() + "INTERLOCK_PROT = 1\n")
    file.chmod(0o644)
    done = operator.types(
        "config", "validate", INTERLOCK_DATABSE_CONNECTION_URL="x", INTERLOCK_STRANGE="x"
    )
    assert done.returncode == 1
    for words in (
        f"INTERLOCK_DATABSE_CONNECTION_URL is no setting; did you mean {URL}",
        "In the profile 'default', INTERLOCK_PROT is no setting; did you mean INTERLOCK_PORT",
        "none.pem of the database can not be read",
        "INTERLOCK_DATABASE_PASSWORD has no effect",
        f"`chmod 600 {file}`",
        "Note: The environment variable INTERLOCK_STRANGE is no setting.",
    ):
        assert words in done.stderr
    assert "s3cret" not in done.stderr


def test_a_value_that_can_not_be_used_is_named_with_its_source(operator: Operator) -> None:
    for command in (["config", "validate"], ["config", "view"], ["server", "start"]):
        said = operator.is_refused(*command, INTERLOCK_LOG_LEVEL="LOUD")
        assert "The environment variable INTERLOCK_LOG_LEVEL: 'LOUD' does not fit" in said


def test_a_damaged_file_of_profiles_is_one_line(operator: Operator) -> None:
    operator.home.mkdir()
    (operator.home / "profiles.toml").write_text("[profiles")
    listing = ["--profile", "default", "profile", "ls"]
    for command in (["config", "view"], ["config", "set", "port=1"], ["profile", "ls"], listing):
        done = operator.types(*command)
        assert done.returncode == 1
        assert "profiles.toml is not in the form TOML" in done.stderr
        assert "Traceback" not in done.stderr


# Profiles


def test_profiles_are_made_used_shown_and_deleted(operator: Operator) -> None:
    operator.sees("config", "set", "log_level=ERROR")
    operator.sees("profile", "create", "staging", "--from", "default")
    operator.sees("--profile", "staging", "config", "set", "log_json=true")
    assert operator.sees("profile", "ls") == "* default\n  staging\n"
    assert operator.sees("profile", "inspect") == "INTERLOCK_LOG_LEVEL='ERROR'\n"

    operator.sees("profile", "use", "staging")
    assert operator.sees("profile", "ls") == "  default\n* staging\n"
    assert "INTERLOCK_LOG_JSON=true (from profile)" in operator.sees("config", "view")
    refused = operator.types("profile", "delete", "staging", "-y")
    assert refused.returncode == 1
    assert "is the active one" in refused.stderr

    operator.sees("profile", "use", "default")
    assert operator.types("profile", "delete", "staging", answer="n\n").returncode == 1
    assert operator.types("profile", "delete", "staging", answer="y\n").returncode == 0
    assert operator.sees("profile", "ls") == "* default\n"


def test_a_profile_is_chosen_for_one_command(operator: Operator) -> None:
    operator.sees("profile", "create", "other")
    operator.sees("config", "set", "--profile", "other", "log_json=true")
    for words, variables in (
        (["--profile", "other", "config", "view"], {}),
        (["config", "view", "--profile", "other"], {}),
        (["config", "view"], {"INTERLOCK_PROFILE": "other"}),
    ):
        shown = operator.sees(*words, **variables)
        assert shown.startswith("INTERLOCK_PROFILE='other'\n")
        assert "INTERLOCK_LOG_JSON=true (from profile)" in shown
    assert "INTERLOCK_LOG_JSON" not in operator.sees("config", "view")


def test_a_profile_that_does_not_exist_is_refused(operator: Operator) -> None:
    for command in (["config", "view"], ["server", "start"], ["profile", "inspect"]):
        assert "no profile 'nope'; there are: default" in operator.is_refused(
            "--profile", "nope", *command
        )
    assert not operator.home.exists()


# What a server makes of it


def test_the_server_takes_its_addresses_from_the_profile(operator: Operator) -> None:
    socket = operator.home / "operators.sock"
    operator.sees("profile", "create", "mine")
    operator.sees(
        *["config", "set", "--profile", "mine"],
        *["host=127.0.0.2", "port=0", f"admin_socket={socket}"],
    )
    del operator.variables["INTERLOCK_PORT"]
    with operator.server("--profile", "mine") as server:
        assert server.target.startswith("127.0.0.2:")
        assert not server.target.endswith(":4200")
        assert socket.is_socket()
        server.makes_a_flow()


def test_the_server_logs_as_it_is_told(operator: Operator) -> None:
    with operator.server(INTERLOCK_LOG_JSON="true") as in_json:
        pass
    assert '"event": "serving"' in in_json.stderr
    with operator.server(INTERLOCK_LOG_JSON="false") as plain:
        pass
    assert "serving" in plain.stderr
    assert '"event"' not in plain.stderr
    with operator.server(INTERLOCK_LOG_LEVEL="warning") as quiet:
        pass
    assert "serving" not in quiet.stderr


def test_a_call_that_goes_on_is_given_so_long_when_the_server_stops(operator: Operator) -> None:
    with operator.server(INTERLOCK_SHUTDOWN_GRACE="0.5") as server:
        ended = threading.Event()

        def ask_once() -> Iterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            ended.wait()

        channel = grpc.insecure_channel(server.target)
        # Its type stubs name no methods.
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(ask_once())
        next(call)
        stopping = time.monotonic()
    assert 0.5 <= time.monotonic() - stopping < 10
    ended.set()
    call.cancel()
    channel.close()


def test_the_server_points_out_once_what_was_perhaps_to_be_a_setting(operator: Operator) -> None:
    operator.sees("config", "set", "log_level=ERROR")
    with (operator.home / "profiles.toml").open("a") as file:
        file.write("INTERLOCK_PROT = 1\n")
    with operator.server(INTERLOCK_DATABSE_PASSWORD="s3cret", INTERLOCK_STRANGE="x") as server:
        pass
    lines = [line for line in server.stderr.splitlines() if line.startswith("Warning: ")]
    assert lines == [
        "Warning: The environment variable INTERLOCK_DATABSE_PASSWORD is no setting; did you mean "
        "INTERLOCK_DATABASE_PASSWORD?",
        "Warning: In the profile 'default', INTERLOCK_PROT is no setting; did you mean "
        "INTERLOCK_PORT?",
    ]
    assert "s3cret" not in server.stderr
