"""Clusters for the model and for races: on SQLite one server, on PostgreSQL two."""

from collections.abc import Iterator

import pytest

from tests.model.cluster import Cluster, cluster
from tests.support.postgresql import Postgresql
from tests.support.servers import sqlite_url


@pytest.fixture(scope="session", params=["one_server_on_sqlite", "two_servers_on_postgresql"])
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    if request.param == "one_server_on_sqlite":
        url = sqlite_url(tmp_path_factory.mktemp("model") / "interlock.db")
        with cluster(url, servers=1) as made:
            yield made
        return
    postgresql: Postgresql = request.getfixturevalue("postgresql_18")
    with postgresql.database("model") as url, cluster(url, servers=2) as made:
        yield made
