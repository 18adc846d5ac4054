"""Databases of their own for tests that break them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgresql import Postgresql
from tests.support.servers import sqlite_url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, on each dialect that outlasts its server."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "interlock.db")
        return
    postgresql: Postgresql = request.getfixturevalue("postgresql_18")
    with postgresql.database("faults") as url:
        yield url
