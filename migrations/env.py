"""How Alembic runs our migrations. The connection comes from `interlock_server.storage.migrations`.

On SQLite a migration that changes a table makes a new one, copies the rows and drops the old one,
and dropping a table deletes the rows that refer to it, where foreign keys are on. So each run turns
them off (outside of the transaction, where alone that has an effect), begins a transaction by
itself (the driver would not, before DDL), and checks all foreign keys before it commits.
"""

from __future__ import annotations

from alembic import context
from interlock_server.storage.tables import metadata
from sqlalchemy import Connection


def run(connection: Connection) -> None:
    """Run the migrations that were asked for, all or none of them."""
    sqlite = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=sqlite,
        transactional_ddl=True,
    )
    if not sqlite:
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
        return
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            context.run_migrations()
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise RuntimeError(
                    f"{len(broken)} rows refer to rows that are not there, the first one in table "
                    f"{broken[0][0]}: nothing was changed."
                )
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
    finally:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")


run(context.config.attributes["connection"])
