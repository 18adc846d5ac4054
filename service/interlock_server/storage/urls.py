"""The addresses of databases: read from settings, and shown to people without their passwords."""

from __future__ import annotations

from urllib.parse import quote

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from interlock_server.storage.errors import UnusableDatabaseError


def parse_url(text: str) -> URL:
    """Read a database URL in SQLAlchemy's form; plain `sqlite://` and `postgresql://` serve too.

    Raises UnusableDatabaseError that names what is wrong with it, without its password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: the port is no number
        raise UnusableDatabaseError(
            "The database URL can not be read. Give it as "
            "sqlite+aiosqlite:////full/path/interlock.db or postgresql+asyncpg://user:password@host:5432/name."
        ) from None
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    if url.drivername in drivers:
        url = url.set(drivername=drivers[url.drivername])
    if url.drivername not in drivers.values():
        raise UnusableDatabaseError(
            f"The database driver {url.drivername!r} is not supported. "
            f"Use {' or '.join(drivers.values())}."
        )
    return url


def with_password(text: str, password: str) -> str:
    """Fill a password into a database's URL that names a host, and has none. Not to be shown.

    Raises UnusableDatabaseError for a URL that can not be read.
    """
    url = parse_url(text)
    if url.get_backend_name() == "sqlite" or has_password(url):
        return text
    return url.set(password=password).render_as_string(hide_password=False)


_HIDDEN = "***"
"""What stands for a password, as SQLAlchemy has it."""


def has_password(url: URL) -> bool:
    """Tell whether a URL has a password: at its place, or among the options."""
    return url.password is not None or any("password" in name for name in url.query)


def show_url(url: URL) -> str:
    """Write a URL for people: without its password, wherever that stands in it."""
    hidden = {name: _HIDDEN for name in url.query if "password" in name}
    text = url.update_query_dict(hidden).render_as_string(hide_password=True)
    text = text.replace(quote(_HIDDEN), _HIDDEN)
    # A path is easier to read as it is, and so is the name of a database in memory.
    path = url.database or ""
    return text.replace(f"/{quote(path, safe=' +/')}", f"/{path}", 1)


def is_in_memory(url: URL) -> bool:
    """Tell whether a database lives in the memory of its process, and ends with it."""
    if url.get_backend_name() != "sqlite":
        return False
    name = url.database or ":memory:"
    return (
        name == ":memory:" or name.startswith("file::memory:") or url.query.get("mode") == "memory"
    )
