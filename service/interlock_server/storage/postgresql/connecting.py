"""How to connect to PostgreSQL: the URL and the options, as arguments of the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from interlock_server.storage.errors import UnusableDatabaseError
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.tls import TlsMode, TlsOptions, ssl_argument

_URL_TLS = {
    "ssl": "mode",
    "sslmode": "mode",
    "sslrootcert": "ca_file",
    "sslcert": "cert_file",
    "sslkey": "key_file",
}
"""What a URL may say of TLS, as PostgreSQL's own clients call it, and our fields for it."""

_URL_PLAIN = {
    "host",
    "port",
    "user",
    "password",
    "passfile",
    "service",
    "servicefile",
    "target_session_attrs",
    "krbsrvname",
    "gsslib",
    "prepared_statement_cache_size",
}
"""What else a URL may say that the driver takes as it is."""


class Connecting:
    """How to connect: what the URL says and the options say, in the driver's arguments."""

    def __init__(self, url: URL, options: DatabaseOptions) -> None:
        """Raises UnusableDatabaseError for what the URL says and nobody understands."""
        query = dict(url.query)
        tls = _tls(query, options.tls)
        self._application = str(query.pop("application_name", "interlock"))
        self._arguments: dict[str, Any] = {"timeout": options.connect_timeout}
        if (argument := ssl_argument(tls)) is not None:
            self._arguments["ssl"] = argument
        if (size := query.pop("statement_cache_size", None)) is not None:
            if not str(size).isdecimal():
                raise UnusableDatabaseError(
                    "The database URL's option statement_cache_size has to be a whole number."
                )
            self._arguments["statement_cache_size"] = int(str(size))
        if unknown := sorted(query.keys() - _URL_PLAIN):
            known = [*_URL_PLAIN, *_URL_TLS, "application_name", "statement_cache_size"]
            raise UnusableDatabaseError(
                f"The database URL has options that are not known: {', '.join(unknown)}. "
                f"Known are {', '.join(sorted(known))}; for time-outs there are settings."
            )
        self.url = url.set(query=query)
        """The URL without what `arguments` has."""

    def arguments(self, **server_settings: str) -> dict[str, Any]:
        """Answer what SQLAlchemy's engine passes on to the driver, beside what is in the URL."""
        settings = {"application_name": self._application, "jit": "off", **server_settings}
        return {**self._arguments, "server_settings": settings}

    def drivers_arguments(self, **server_settings: str) -> dict[str, Any]:
        """Answer all that the driver needs by itself."""
        _, arguments = self.url.get_dialect()().create_connect_args(self.url)
        # SQLAlchemy keeps this for itself.
        arguments.pop("prepared_statement_cache_size", None)
        return {**arguments, **self.arguments(**server_settings)}


def _tls(query: dict[str, Any], chosen: TlsOptions) -> TlsOptions:
    """Take what the URL says of TLS out of its query. What is configured beside it goes before."""
    found = {field: str(query.pop(name)) for name, field in _URL_TLS.items() if name in query}
    try:
        mode = TlsMode(found["mode"]) if "mode" in found else None
    except ValueError:
        raise UnusableDatabaseError(
            f"The database URL's TLS mode {found['mode']!r} is not known; there are "
            f"{', '.join(TlsMode)}."
        ) from None
    files = {
        name: getattr(chosen, name) or (Path(found[name]) if name in found else None)
        for name in ("ca_file", "cert_file", "key_file")
    }
    return TlsOptions(chosen.mode or mode, **files)
