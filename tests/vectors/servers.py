"""Servers that leave runs alone, as the peer's did while it was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.servers import QUIET, ServerProcess
from tests.support.stubs import Stubs, connected


@dataclass(frozen=True)
class Quiet:
    """A server whose loops change no run."""

    stubs: Stubs
    database_url: str


@contextmanager
def quiet_server(database_url: str | None = None) -> Iterator[Quiet]:
    """A server whose loops change no run, on a SQLite database of its own unless told otherwise."""
    with (
        ServerProcess(database_url, environment=QUIET) as server,
        connected(server.target) as stubs,
    ):
        yield Quiet(stubs, server.database_url)
