"""Which value counts, and what is said of values and names that can not be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from interlock_server.configuration.profiles import ProfilesError, ProfileStore
from interlock_server.configuration.sources import (
    Configuration,
    InvalidConfigurationError,
    Source,
    configure,
)

Configure = Callable[..., Configuration]


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path)


@pytest.fixture
def configured(tmp_path: Path) -> Configure:
    """Configure with a home folder of the test's own, and these variables."""

    def call(
        profile: str | None = None, *, flags: object = None, **environment: str
    ) -> Configuration:
        return configure(flags, profile, {"INTERLOCK_HOME": str(tmp_path), **environment})  # type: ignore[arg-type]

    return call


def test_a_flag_goes_before_the_environment_before_the_profile_before_the_default(
    store: ProfileStore, configured: Configure
) -> None:
    def port(**arguments: object) -> tuple[int, Source]:
        found = configured(**arguments)
        return found.settings.port, found.sources["port"]

    assert port() == (4200, Source.DEFAULT)
    store.set("default", {"INTERLOCK_PORT": 4301})
    assert port() == (4301, Source.PROFILE)
    assert port(INTERLOCK_PORT="4302") == (4302, Source.ENVIRONMENT)
    assert port(INTERLOCK_PORT="4302", flags={"port": 4303}) == (4303, Source.FLAG)


def test_an_empty_variable_counts_as_none(store: ProfileStore, configured: Configure) -> None:
    store.set("default", {"INTERLOCK_PORT": 4301})
    assert configured(INTERLOCK_PORT="").settings.port == 4301


def test_a_flag_chooses_the_profile_before_the_environment_before_the_active_one(
    store: ProfileStore, configured: Configure
) -> None:
    for name in ("one", "two", "three"):
        store.create(name, {})
    store.use("one")
    assert configured().profile == "one"
    assert configured(INTERLOCK_PROFILE="two").profile == "two"
    assert configured("three", INTERLOCK_PROFILE="two").profile == "three"


def test_a_profile_that_does_not_exist_is_named_with_those_that_do(configured: Configure) -> None:
    with pytest.raises(ProfilesError, match=r"no profile 'nope'; there are: default\."):
        configured("nope")


def test_the_older_name_of_the_database_serves_in_the_environment(configured: Configure) -> None:
    found = configured(INTERLOCK_API_DATABASE_CONNECTION_URL="sqlite:////older.db")
    assert found.settings.database_connection_url == "sqlite:////older.db"
    assert found.sources["database_connection_url"] is Source.ENVIRONMENT
    assert found.warnings == ()


def test_of_two_names_with_two_values_the_newer_counts_and_that_is_said(
    configured: Configure,
) -> None:
    found = configured(
        INTERLOCK_API_DATABASE_CONNECTION_URL="sqlite:////older.db",
        INTERLOCK_DATABASE_CONNECTION_URL="sqlite:////newer.db",
    )
    assert found.settings.database_connection_url == "sqlite:////newer.db"
    (warning,) = found.warnings
    assert "are one setting, with two values: the first one counts" in warning


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("INTERLOCK_DATABSE_CONNECTION_URL", "INTERLOCK_DATABASE_CONNECTION_URL"),
        ("INTERLOCK_DATABASE_URL", "INTERLOCK_DATABASE_CONNECTION_URL"),
        ("INTERLOCK_DB_PASSWORD", "INTERLOCK_DATABASE_PASSWORD"),
        ("INTERLOCK_PROT", "INTERLOCK_PORT"),
        ("interlock_port", "INTERLOCK_PORT"),
        ("INTERLOCK_PROFIL", "INTERLOCK_PROFILE"),
    ],
)
def test_a_near_miss_in_the_environment_is_pointed_out(
    configured: Configure, name: str, meant: str
) -> None:
    (warning,) = configured(**{name: "x"}).warnings
    assert f"{name} is no setting; did you mean" in warning
    assert meant in warning


@pytest.mark.parametrize(
    "name", ["INTERLOCK_TEST_CACHE", "INTERLOCK_REQUIRE_POSTGRESQL", "INTERLOCK_FOO"]
)
def test_a_variable_that_looks_like_no_setting_may_be_another_programs(
    configured: Configure, name: str
) -> None:
    found = configured(**{name: "x"})
    assert (found.warnings, found.strangers) == ((), (name,))


def test_what_the_client_reads_is_no_stranger(configured: Configure) -> None:
    found = configured(INTERLOCK_TARGET="localhost:4200")
    assert (found.warnings, found.strangers) == ((), ())


def test_keys_of_a_profile_that_are_of_no_use_are_pointed_out(
    store: ProfileStore, configured: Configure
) -> None:
    store.path.write_text('[profiles.default]\nINTERLOCK_PROT = 1\nINTERLOCK_HOME = "/x"\n')
    found = configured()
    assert "INTERLOCK_PROT is no setting; did you mean INTERLOCK_PORT" in found.warnings[0]
    assert "INTERLOCK_HOME has no effect. The profiles lie in the home folder" in found.warnings[1]
    assert found.settings.home_folder == store.path.parent


def test_a_wrong_value_is_told_with_its_source_what_fits_and_what_to_do(
    store: ProfileStore, configured: Configure
) -> None:
    store.path.write_text('[profiles.default]\nINTERLOCK_LOG_LEVEL = "LOUD"\n')
    with pytest.raises(InvalidConfigurationError) as caught:
        configured(
            flags={"database_connection_url": "mysql://me:secret@host/db"}, INTERLOCK_PORT="http"
        )
    port, level, url = caught.value.problems
    assert port == (
        "The environment variable INTERLOCK_PORT: 'http' does not fit: give a whole number from 0 "
        "to 65535. Correct it, or unset it."
    )
    assert level == (
        "INTERLOCK_LOG_LEVEL in the profile 'default': 'LOUD' does not fit: give DEBUG, INFO, "
        "WARNING or ERROR. Correct it with "
        "`interlock --profile default config set INTERLOCK_LOG_LEVEL=...`, or remove it with "
        "`config unset`."
    )
    assert url.startswith("--database: The database driver 'mysql' is not supported.")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "soon", "86401"])
def test_a_time_out_is_a_number_over_0(configured: Configure, value: str) -> None:
    with pytest.raises(InvalidConfigurationError, match="give a number over 0, up to 86400"):
        configured(INTERLOCK_DATABASE_READ_TIMEOUT=value)


def test_a_value_of_the_wrong_kind_never_shows_what_may_be_a_password(
    store: ProfileStore, configured: Configure
) -> None:
    store.path.write_text("[profiles.default]\nINTERLOCK_DATABASE_PASSWORD = ['secret']\n")
    with pytest.raises(InvalidConfigurationError) as caught:
        configured()
    assert "secret" not in str(caught.value)
