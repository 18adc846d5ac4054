"""A server of each dialect for what is to be played."""

from collections.abc import Iterator

import pytest

from tests.support.postgresql import Postgresql
from tests.support.stubs import Stubs
from tests.vectors.servers import quiet_server


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Iterator[Stubs]:
    """A server of its own for a test, on each dialect."""
    if request.param == "sqlite":
        with quiet_server() as server:
            yield server
        return
    postgresql: Postgresql = request.getfixturevalue("postgresql_18")
    with postgresql.database("vectors") as url, quiet_server(url) as server:
        yield server
