"""The two tables that say where a schema stands; they belong to no revision.

`alembic_version` is Alembic's own. `schema_floor` tells older servers, which do not know the
revision, whether they can serve the schema all the same. Both are written in the transaction that
changes the schema.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Connection, MetaData, String, Table, Text, inspect, select

from interlock_server.storage.tables import metadata as ours

_metadata = MetaData()

alembic_version = Table(
    "alembic_version", _metadata, Column("version_num", String(32), primary_key=True)
)
schema_floor = Table(
    "schema_floor",
    _metadata,
    Column("revision", Text, primary_key=True),
    Column("compatible_from", Text, nullable=False),
)

NAMES = frozenset(_metadata.tables)


@dataclass(frozen=True, slots=True)
class Look:
    """What a database says of its schema."""

    revision: str
    """Empty: none."""
    floor: str
    """The oldest version of Interlock that can serve it; empty: it does not say."""
    tables: frozenset[str]
    """All tables, those of other programs included."""

    @property
    def is_ours(self) -> bool:
        """Whether Interlock has been here: its mark is there, or the tables of its first days."""
        return schema_floor.name in self.tables or bool(
            self.revision and self.tables & ours.tables.keys()
        )

    @property
    def others(self) -> frozenset[str]:
        """The tables, if none of them is Interlock's."""
        return frozenset() if self.is_ours else self.tables - NAMES


def look(connection: Connection) -> Look:
    """Read where the schema stands."""
    # The list of tables comes first also for its own sake: old versions of SQLite answer from what
    # they knew of the schema before another connection changed it, until they read this list.
    tables = frozenset(inspect(connection).get_table_names())
    revision = floor = ""
    if alembic_version.name in tables:
        revision = connection.scalar(select(alembic_version.c.version_num)) or ""
    if schema_floor.name in tables:
        query = select(schema_floor.c.compatible_from).where(schema_floor.c.revision == revision)
        floor = connection.scalar(query) or ""
    return Look(revision, floor, tables)


def write_floor(connection: Connection, revision: str, floor: str) -> None:
    """Write down from which version of Interlock on the schema can be served."""
    schema_floor.create(connection, checkfirst=True)
    connection.execute(schema_floor.delete())
    if revision:
        connection.execute(schema_floor.insert(), {"revision": revision, "compatible_from": floor})


def write_revision(connection: Connection, revision: str, floor: str) -> None:
    """Write down the revision, whatever was there; empty: none."""
    alembic_version.create(connection, checkfirst=True)
    connection.execute(alembic_version.delete())
    if revision:
        connection.execute(alembic_version.insert(), {"version_num": revision})
    write_floor(connection, revision, floor)
