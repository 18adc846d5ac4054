"""Encryption between the server and its database, in the words of PostgreSQL's own clients."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from interlock_server.storage.errors import UnusableDatabaseError


class TlsMode(StrEnum):
    """How much is asked of the connection."""

    DISABLE = "disable"
    """No encryption."""
    PREFER = "prefer"
    """Encryption where the database offers it; whoever it is."""
    REQUIRE = "require"
    """Encryption, or no connection. With a CA file, what `VERIFY_CA` asks as well."""
    VERIFY_CA = "verify-ca"
    """The database's certificate must be signed by a CA that is trusted."""
    VERIFY_FULL = "verify-full"
    """It must be made out to the host that was asked for, as well."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What is asked of the connection, and with which files."""

    mode: TlsMode | None = None
    """None: `VERIFY_FULL` where there is a CA file, else what the driver does: `PREFER`."""
    ca_file: Path | None = None
    """The certificates of the CAs to trust, as PEM; None: those that the system trusts."""
    cert_file: Path | None = None
    """The certificate that the server shows to the database, as PEM."""
    key_file: Path | None = None
    """Its private key, as PEM; None: it is in the certificate's file."""


def ssl_argument(options: TlsOptions) -> ssl.SSLContext | str | bool | None:
    """Answer what asyncpg's argument `ssl` is to be; None: nothing was chosen.

    Raises UnusableDatabaseError for options that contradict each other, and files that do not fit.
    """
    mode = options.mode or (TlsMode.VERIFY_FULL if options.ca_file else None)
    if mode is None or mode in (TlsMode.PREFER, TlsMode.DISABLE):
        if options.ca_file or options.cert_file or options.key_file:
            raise UnusableDatabaseError(
                f"TLS files of the database are configured, but its TLS mode is {mode or 'unset'}, "
                "which uses none of them. Choose require, verify-ca or verify-full."
            )
        if mode is TlsMode.DISABLE:
            return False
        return None if mode is None else mode.value
    return _context(mode, options)


def _context(mode: TlsMode, options: TlsOptions) -> ssl.SSLContext:
    if options.key_file and not options.cert_file:
        raise UnusableDatabaseError("The TLS key of the database needs its certificate as well.")
    verify = mode is not TlsMode.REQUIRE or options.ca_file is not None
    context = ssl.create_default_context(
        cafile=_readable(options.ca_file, "CA") if verify else None
    )
    context.check_hostname = mode is TlsMode.VERIFY_FULL
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    if cert := _readable(options.cert_file, "certificate"):
        key = _readable(options.key_file, "key")
        try:
            # An empty passphrase, or OpenSSL would ask for one on the terminal.
            context.load_cert_chain(cert, key, password="")
        except ssl.SSLError as error:
            raise UnusableDatabaseError(
                f"The TLS certificate {cert} and its key {key or 'in the same file'} can not be "
                f"used: they do not belong together, or the key has a passphrase ({error.reason})."
            ) from None
    return context


def _readable(path: Path | None, meaning: str) -> Path | None:
    if path is None:
        return None
    path = path.expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableDatabaseError(
            f"The TLS {meaning} file {path} of the database can not be read: {error.strerror}."
        ) from None
    if b"-----BEGIN " not in content:
        raise UnusableDatabaseError(
            f"The TLS {meaning} file {path} of the database is not in the form PEM."
        )
    return path
