"""The file of profiles: whole, private, and as people left it, whoever writes."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from interlock_server.configuration.profiles import Profiles, ProfilesError, ProfileStore


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path / "home")


def test_without_a_file_there_is_an_empty_default_profile(store: ProfileStore) -> None:
    assert store.read() == Profiles("default", {"default": {}})
    assert not store.path.parent.exists()


def test_the_file_and_its_folder_are_for_their_owner_only(store: ProfileStore) -> None:
    store.set("default", {"INTERLOCK_PORT": 1})
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    assert not store.others_may_read()
    store.path.chmod(0o640)
    assert store.others_may_read()
    store.set("default", {"INTERLOCK_PORT": 2})
    assert not store.others_may_read()


def test_comments_and_order_stay_as_people_wrote_them(store: ProfileStore) -> None:
    store.path.parent.mkdir()
    written = """\
# Mine.
active = "default"

[profiles.default]
# The office's server.
port = 4300  # not 4200
INTERLOCK_LOG_LEVEL = "DEBUG"
"""
    store.path.write_text(written)
    store.set("default", {"INTERLOCK_PORT": 4400})
    assert store.path.read_text() == written.replace("4300", "4400")


def test_a_setting_under_two_of_its_names_is_one(store: ProfileStore) -> None:
    store.path.parent.mkdir()
    store.path.write_text("[profiles.default]\nport = 1\nINTERLOCK_PORT = 2\n")
    store.set("default", {"INTERLOCK_PORT": 3})
    assert store.read().get("default") == {"port": 3}
    store.unset("default", ["INTERLOCK_PORT"])
    assert store.read().get("default") == {}


def test_writers_at_the_same_time_lose_nothing_and_readers_see_whole_files(
    store: ProfileStore,
) -> None:
    def write(number: int) -> None:
        store.create(f"profile-{number}", {"INTERLOCK_PORT": number})

    def read(_: int) -> None:
        assert all(entries for name, entries in store.read().profiles.items() if name != "default")

    with ThreadPoolExecutor(8) as pool:
        reads = pool.map(read, range(50))
        list(pool.map(write, range(20)))
        list(reads)
    assert len(store.read().profiles) == 21
    assert sorted(path.name for path in store.path.parent.iterdir()) == [
        "profiles.toml",
        "profiles.toml.lock",
    ]


def test_what_fails_half_way_leaves_the_file_as_it_was(
    store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("default", {"INTERLOCK_PORT": 1})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ProfilesError, match="can not be written: No space left on device"):
        store.set("default", {"INTERLOCK_PORT": 2})
    assert store.read().get("default") == {"INTERLOCK_PORT": 1}
    assert len(list(store.path.parent.iterdir())) == 2


def test_a_link_stays_a_link(store: ProfileStore, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text("")
    store.path.parent.mkdir()
    store.path.symlink_to(elsewhere)
    store.set("default", {"INTERLOCK_PORT": 1})
    assert store.path.is_symlink()
    assert "INTERLOCK_PORT = 1" in elsewhere.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("active = ", "is not in the form TOML"),
        ("active = 1", "`active` has to be the name of a profile"),
        ("profiles = 1", r"profiles have to be tables, as \[profiles.default\]"),
        ("[profiles]\ndefault = 1", "profiles have to be tables"),
        ("\xff", "is not in the form TOML"),
    ],
)
def test_a_damaged_file_is_named_and_never_overwritten(
    store: ProfileStore, text: str, words: str
) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ProfilesError, match=words):
        store.read()
    with pytest.raises(ProfilesError, match=words):
        store.set("default", {"INTERLOCK_PORT": 1})
    assert store.path.read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize("name", ["", "-x", "a b", "a.b", "../a", "ä", "x" * 65])
def test_a_name_is_plain(store: ProfileStore, name: str) -> None:
    with pytest.raises(ProfilesError, match="can not be a profile's name"):
        store.create(name, {})


def test_neither_the_default_nor_the_active_profile_can_be_deleted(store: ProfileStore) -> None:
    store.create("mine", {})
    store.use("mine")
    with pytest.raises(ProfilesError, match="always there"):
        store.delete("default")
    with pytest.raises(ProfilesError, match="the active one"):
        store.delete("mine")
    store.use("default")
    store.delete("mine")
    assert list(store.read().profiles) == ["default"]
    with pytest.raises(ProfilesError, match="no profile 'mine'"):
        store.delete("mine")
