"""A server of each dialect for what is to be played."""

from collections.abc import Iterator

import pytest

from tests.support.postgresql import Postgresql
from tests.support.stubs import Stubs
from tests.vectors.servers import quiet_server


@pytest.fixture(params=["sqlite", "postgresql"])
def quiet_stubs(request: pytest.FixtureRequest) -> Iterator[Stubs]:
    """Stubs of a server of its own whose loops change no run."""
    if request.param == "sqlite":
        with quiet_server() as stubs:
            yield stubs
        return
    postgresql: Postgresql = request.getfixturevalue("postgresql_18")
    with postgresql.database("vectors") as url, quiet_server(url) as stubs:
        yield stubs
