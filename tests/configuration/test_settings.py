"""The settings themselves: what is known of them, what is shown, what the database is told."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from interlock_server.configuration.catalogue import all_settings, find_setting
from interlock_server.settings import Settings
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.tls import TlsMode, TlsOptions

_REPOSITORY = Path(__file__).parents[2]
_URL = "INTERLOCK_DATABASE_CONNECTION_URL"


@pytest.mark.parametrize(
    "name",
    [
        _URL,
        "database_connection_url",
        "DATABASE_CONNECTION_URL",
        "interlock_api_database_connection_url",
    ],
)
def test_a_setting_is_found_by_each_of_its_names(name: str) -> None:
    setting = find_setting(name)
    assert setting is not None
    assert setting.name == _URL


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql+asyncpg://me:s3cret@host:5432/db",
            "postgresql+asyncpg://me:***@host:5432/db",
        ),
        ("postgresql://me@host/db?password=s3cret", "postgresql+asyncpg://me@host/db?password=***"),
        ("postgresql://me:s3cret@host:port/db", "********"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("sqlite+aiosqlite:////a b/c.db", "sqlite+aiosqlite:////a b/c.db"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert all_settings()["database_connection_url"].masked(url) == shown


def test_no_secret_is_in_what_settings_say_of_themselves() -> None:
    settings = Settings(
        database_connection_url="postgresql://me:s3cret@host/db",
        database_password="s3cret",  # type: ignore[arg-type]
    )
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)


@pytest.mark.parametrize(
    ("url", "filled"),
    [
        ("postgresql://me@host/db", "postgresql+asyncpg://me:p%40%3A%2F%25@host/db"),
        ("postgresql://me:own@host/db", "postgresql://me:own@host/db"),
        ("sqlite:////full/path.db", "sqlite:////full/path.db"),
    ],
)
def test_a_password_apart_fills_a_url_that_has_none(url: str, filled: str) -> None:
    password: Any = "p@:/%"
    settings = Settings(database_connection_url=url, database_password=password)
    assert settings.database_url == filled


def test_the_default_database_is_in_the_home_folder() -> None:
    assert Settings().database_url == f"sqlite+aiosqlite:///{Path.home()}/.interlock/interlock.db"
    moved = Settings(home=Path("/elsewhere"))
    assert moved.database_url == "sqlite+aiosqlite:////elsewhere/interlock.db"
    assert moved.admin_socket_path == Path("/elsewhere/admin.sock")


def test_each_option_of_the_database_has_a_setting_with_its_default() -> None:
    assert Settings().database_options == DatabaseOptions()
    values: dict[str, Any] = {
        f"database_{field.name}": 7 for field in fields(DatabaseOptions) if field.name != "tls"
    }
    tls = TlsOptions(TlsMode.REQUIRE, Path("ca"), Path("cert"), Path("key"))
    values |= {f"database_tls_{field.name}": getattr(tls, field.name) for field in fields(tls)}
    told = Settings(**values).database_options
    assert told.tls == tls
    assert {getattr(told, f.name) for f in fields(told) if f.name != "tls"} == {7}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("30d", 2_592_000), ("1h30m", 5_400), ("3600", 3_600), ("0", 0), ("0d", 0), (86_400, 86_400)],
)
def test_logs_are_kept_for_a_length_of_time(given: Any, seconds: float) -> None:
    assert Settings(log_retention=given).log_retention_micros == seconds * 1_000_000


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("59m", "at least an hour"),
        ("60", "at least an hour"),
        ("-1", "greater than or equal to 0"),
        ("soon", "no length of time"),
        ("5000d", "less than or equal"),
        ("nan", "no length of time"),
    ],
)
def test_a_retention_that_makes_no_sense_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(log_retention=given)


def test_the_reference_is_what_the_settings_say(tmp_path: Path) -> None:
    made = tmp_path / "configuration.md"
    subprocess.run(
        [sys.executable, _REPOSITORY / "tools" / "generate_reference.py", made], check=True
    )
    kept = _REPOSITORY / "docs" / "configuration.md"
    assert made.read_text() == kept.read_text(), "Run `make generate`."
