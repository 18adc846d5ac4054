"""How Alembic runs our migrations. What it works with comes from `interlock_server.storage`:

- `connection`: the connection, which is in no transaction.
- `before_commit`, if there is one, is called with the connection when all is done but the commit.
- `template_args`, `on_new_revision`: for the file of a new revision.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from alembic import context
from interlock_server.storage import version_tables
from interlock_server.storage.sqlite.migrating import atomic
from interlock_server.storage.tables import exists_on, metadata
from interlock_server.storage.types import IdType
from sqlalchemy import Connection

attributes = context.config.attributes


def run(connection: Connection) -> None:
    """Run the migrations that were asked for, all or none of them."""
    sqlite = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # On PostgreSQL such a batch is plain ALTER TABLE: one file serves both.
        render_as_batch=True,
        transactional_ddl=True,
        on_version_apply=write_floor,
        compare_type=True,
        compare_server_default=True,
        include_name=lambda name, kind, _: kind != "table" or name not in version_tables.NAMES,
        include_object=lambda thing, *_: exists_on(thing, connection.dialect.name),
        render_item=render_item,
        template_args=attributes.get("template_args", {}),
        process_revision_directives=attributes.get("on_new_revision"),
    )
    with atomic(connection) if sqlite else context.begin_transaction():
        context.run_migrations()
        if before_commit := attributes.get("before_commit"):
            before_commit(connection)
    if not sqlite:
        connection.commit()


def write_floor(ctx: Any, step: Any, heads: Collection[Any], run_args: Any) -> None:
    """Write down which servers can serve the schema as it is now."""
    revision = next(iter(heads), "")
    floor = context.script.get_revision(revision).module.compatible_from if revision else ""
    version_tables.write_floor(ctx.connection, revision, floor)


def render_item(kind: str, item: Any, autogenerate: Any) -> Any:
    """Name our own type of columns as the revisions do."""
    if kind == "type" and isinstance(item, IdType):
        autogenerate.imports.add("from interlock_server.storage.types import IdType")
        return "IdType()"
    return False


run(attributes["connection"])
