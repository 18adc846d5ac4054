"""Encryption to PostgreSQL: what each mode asks, on all three kinds of connection."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from interlock_server.storage import migrations
from interlock_server.storage.dialects import open_database
from interlock_server.storage.errors import UnavailableError, UnusableDatabaseError
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.tls import TlsMode, TlsOptions
from sqlalchemy import Connection, make_url, text

from tests.support.certificates import Authority, Pair
from tests.support.needs import Unavailable, go_without
from tests.support.postgresql import NEWEST, PostgresqlServer

_ENCRYPTED = """
    SELECT ssl, client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
    WHERE application_name = 'interlock' AND datname = current_database()
"""


@dataclass(frozen=True)
class Encrypted:
    """A PostgreSQL that offers encryption, as `localhost`."""

    url: str
    authority: Authority
    client: Pair
    folder: Path

    def at(self, host: str) -> str:
        """The URL with another name for the same machine."""
        return make_url(self.url).set(host=host).render_as_string(hide_password=False)

    @property
    def by_name(self) -> str:
        """The URL with the name that the certificate is made out to."""
        return self.at("localhost")


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("certificates")
    try:
        authority = Authority(folder / "ours", "Test CA")
        pair, client = authority.issue("localhost"), authority.issue("interlock")
        server = PostgresqlServer(NEWEST)
    except Unavailable as reason:
        go_without("POSTGRESQL", reason)
    server.offer_tls(pair.cert, pair.key, authority.cert)
    with server, server.database() as url:
        yield Encrypted(url, authority, client, folder)


async def connections(url: str, tls: TlsOptions = TlsOptions()) -> list[tuple[bool, str | None]]:  # noqa: B008
    """Connect in all three ways; answer of each whether it is encrypted, and for whom."""

    def look(connection: Connection) -> list[Any]:
        return [tuple(row) for row in connection.execute(text(_ENCRYPTED))]

    database = open_database(url, DatabaseOptions(tls=tls))
    writer = None
    try:
        await migrations.upgrade(database)
        await database.read(lambda connection: connection.execute(text("SELECT 1")))
        writer = await database.open_writer()
        found = await database.migrate(look)
    finally:
        if writer is not None:
            await writer.close()
        await database.close()
    assert len(found) == 3
    return found


@pytest.mark.parametrize(
    ("mode", "is_encrypted"),
    [(None, True), ("prefer", True), ("require", True), ("disable", False)],
)
async def test_encryption_as_it_was_asked_for(
    encrypted: Encrypted, mode: str | None, is_encrypted: bool
) -> None:
    tls = TlsOptions(mode=TlsMode(mode) if mode else None)
    assert await connections(encrypted.url, tls) == [(is_encrypted, None)] * 3


async def test_with_a_ca_file_the_database_must_be_the_one_that_was_asked_for(
    encrypted: Encrypted,
) -> None:
    tls = TlsOptions(ca_file=encrypted.authority.cert)
    assert await connections(encrypted.by_name, tls) == [(True, None)] * 3
    with pytest.raises(UnavailableError, match="certificate"):
        await connections(encrypted.at("127.0.0.1"), tls)


@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.REQUIRE])
async def test_verify_ca_and_require_ask_only_who_signed(
    encrypted: Encrypted, mode: TlsMode
) -> None:
    tls = TlsOptions(mode, encrypted.authority.cert)
    assert await connections(encrypted.at("127.0.0.1"), tls) == [(True, None)] * 3
    other = Authority(encrypted.folder / "other", "Another CA")
    with pytest.raises(UnavailableError, match="certificate verify failed"):
        await connections(encrypted.at("127.0.0.1"), replace(tls, ca_file=other.cert))


async def test_without_a_ca_file_those_of_the_system_are_asked(encrypted: Encrypted) -> None:
    with pytest.raises(UnavailableError, match="certificate verify failed"):
        await connections(encrypted.by_name, TlsOptions(TlsMode.VERIFY_FULL))


async def test_the_servers_own_certificate_is_shown_to_the_database(encrypted: Encrypted) -> None:
    tls = TlsOptions(
        TlsMode.REQUIRE, cert_file=encrypted.client.cert, key_file=encrypted.client.key
    )
    assert await connections(encrypted.url, tls) == [(True, "/CN=interlock")] * 3


async def test_a_key_may_be_in_the_certificates_file(encrypted: Encrypted) -> None:
    both = encrypted.folder / "both.pem"
    both.write_text(encrypted.client.cert.read_text() + encrypted.client.key.read_text())
    tls = TlsOptions(TlsMode.REQUIRE, cert_file=both)
    assert await connections(encrypted.url, tls) == [(True, "/CN=interlock")] * 3


async def test_a_url_may_say_it_in_the_words_of_postgresqls_own_clients(
    encrypted: Encrypted,
) -> None:
    query = f"?sslmode=verify-full&sslrootcert={encrypted.authority.cert}"
    assert await connections(encrypted.by_name + query) == [(True, None)] * 3
    with pytest.raises(UnavailableError, match="certificate"):
        await connections(encrypted.at("127.0.0.1") + query)


async def test_an_option_goes_before_what_the_url_says(encrypted: Encrypted) -> None:
    url = f"{encrypted.url}?sslmode=disable"
    assert await connections(url, TlsOptions(TlsMode.REQUIRE)) == [(True, None)] * 3


async def test_a_database_without_encryption_is_not_enough_where_it_is_required(
    postgresql_18: Any,
) -> None:
    database = open_database(
        str(postgresql_18.database_url("postgres")),
        DatabaseOptions(tls=TlsOptions(TlsMode.REQUIRE)),
    )
    with pytest.raises(UnavailableError, match="rejected SSL upgrade"):
        await database.check()
    await database.close()


def refused(tls: TlsOptions) -> str:
    with pytest.raises(UnusableDatabaseError) as caught:
        open_database("postgresql://me:secret@host/db", DatabaseOptions(tls=tls))
    return str(caught.value)


def test_files_that_a_mode_would_not_use_are_refused(tmp_path: Path) -> None:
    for mode in (None, TlsMode.PREFER, TlsMode.DISABLE):
        words = refused(TlsOptions(mode, cert_file=tmp_path / "cert.pem"))
        assert f"its TLS mode is {mode or 'unset'}, which uses none of them" in words


def test_files_that_do_not_fit_are_named(tmp_path: Path, encrypted: Encrypted) -> None:
    missing = tmp_path / "missing.pem"
    assert f"CA file {missing} of the database can not be read: No such file" in refused(
        TlsOptions(ca_file=missing)
    )
    binary = tmp_path / "ca.der"
    binary.write_bytes(b"\x30\x82")
    assert "is not in the form PEM" in refused(TlsOptions(ca_file=binary))
    assert "needs its certificate as well" in refused(
        TlsOptions(TlsMode.REQUIRE, key_file=encrypted.client.key)
    )
    other = encrypted.authority.issue("other")
    mixed = TlsOptions(TlsMode.REQUIRE, cert_file=other.cert, key_file=encrypted.client.key)
    assert "they do not belong together, or the key has a passphrase" in refused(mixed)


def test_a_key_with_a_passphrase_is_refused_instead_of_asking_on_the_terminal(
    encrypted: Encrypted,
) -> None:
    locked = encrypted.authority.issue("locked", passphrase="secret")
    words = refused(TlsOptions(TlsMode.REQUIRE, cert_file=locked.cert, key_file=locked.key))
    assert "the key has a passphrase" in words
