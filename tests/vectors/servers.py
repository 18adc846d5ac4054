"""Servers that leave runs alone, as the peer's did while it was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers import QUIET, ServerProcess
from tests.support.stubs import Stubs, connected


@contextmanager
def quiet_server(database_url: str | None = None) -> Iterator[Stubs]:
    """Stubs of a server whose loops change no run; its database is a SQLite file unless told."""
    with (
        ServerProcess(database_url, environment=QUIET) as server,
        connected(server.target) as stubs,
    ):
        yield stubs
