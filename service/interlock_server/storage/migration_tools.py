"""What revisions in `migrations/versions` use for work on large tables: see `docs/migrations.md`.

Each of these may commit in the midst of a revision. A revision that is broken off there is applied
again from its beginning, and they go on where it was. So a revision that uses one of them does
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alembic import context, op
from sqlalchemy import Connection, Row, text

BATCH = 2_000
"""Rows that a backfill changes in one transaction: some 20 ms, so that nobody waits for long."""

_PASSES = 10
"""How often a backfill begins anew because servers have written further rows meanwhile."""

RowsDone = Callable[[str, int, int], None]
"""Is told a table, how many rows of it are done, and how many there were to do."""


def build_index(
    name: str, table: str, columns: list[str], *, unique: bool = False, where: str = ""
) -> None:
    """Build an index without keeping writers out: on PostgreSQL concurrently, outside of a
    transaction.

    What a broken build has left behind is dropped first; an index that is there and whole is left
    as it is. Raises RuntimeError where the index is not valid after all, as a unique one over rows
    that are not.
    """
    kind = "UNIQUE INDEX" if unique else "INDEX"
    target = f"{name} ON {table} ({', '.join(columns)})" + (f" WHERE {where}" if where else "")
    if not _is_postgresql():
        op.execute(f"CREATE {kind} IF NOT EXISTS {target}")
        return
    _lock_for_rehearsal(table)
    with _outside_of_transactions() as connection:
        valid = _is_valid(connection, name)
        if valid is False:
            connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
        if not valid:
            try:
                connection.execute(text(f"CREATE {kind} CONCURRENTLY {target}"))
            except BaseException:
                _drop_leftover(connection, name)
                raise
        if not _is_valid(connection, name):
            raise RuntimeError(f"the index {name} was built, but is not valid")
        _note(f"the index {name} is built")


def build_substring_index(name: str, table: str, column: str) -> None:
    """Build, within the revision's transaction, what finds texts by their parts.

    For tables that are new or small: writers have to wait. SQLite has nothing of the kind.
    """
    if not _is_postgresql():
        return
    # By its full name: a rehearsal sees temporary things only. Where the extension is missing it is
    # one, since migrators enable it before they apply anything.
    schema = op.get_bind().scalar(
        text(
            "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace "
            "WHERE extname = 'pg_trgm'"
        )
    )
    if schema is not None:
        op.execute(f'CREATE INDEX {name} ON {table} USING gin ({column} "{schema}".gin_trgm_ops)')


def drop_index(name: str) -> None:
    """Drop an index without keeping writers out. One that is not there is no error."""
    if not _is_postgresql():
        op.execute(f"DROP INDEX IF EXISTS {name}")
        return
    with _outside_of_transactions() as connection:
        connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
        _note(f"the index {name} is dropped")


def backfill(
    table: str, assignments: str, *, where: str, key: str = "id", batch: int = BATCH
) -> int:
    """Change the rows that meet a condition, in batches by primary key, each of them committed.

    The assignments must make a row no longer meet the condition: that is how the work that is done
    already is told from the rest, also after the migrator was killed. Answers how many rows it has
    changed. Raises RuntimeError where rows are left that meet the condition.
    """
    change = f"UPDATE {table} SET {assignments} WHERE ({where})"
    if context.config.attributes.get("rehearsal"):
        op.execute(change)  # There are no rows, but people want to see it.
        return 0

    def write(connection: Connection, within: str, given: dict[str, object]) -> int:
        return connection.execute(text(f"{change}{within}"), given).rowcount

    return _backfill(table, key, where, write, batch)


def backfill_rows(
    table: str,
    columns: list[str],
    write: Callable[[Connection, Sequence[Row[Any]]], object],
    *,
    where: str,
    key: str = "id",
    batch: int = BATCH,
) -> int:
    """Have Python do for the rows that meet a condition what SQL can not; else as `backfill`.

    `write` is given some rows, each its key and then the columns, and may change or insert what it
    likes, so that the rows no longer meet the condition. They stay locked meanwhile. It is given
    further rows in the next transaction.
    """
    if context.config.attributes.get("rehearsal"):
        return 0
    # On SQLite the transaction has the whole database.
    lock = f" FOR UPDATE OF {table}" if _is_postgresql() else ""

    def change(connection: Connection, within: str, given: dict[str, object]) -> int:
        wanted = f"SELECT {', '.join([key, *columns])} FROM {table} WHERE ({where}){within}{lock}"
        rows = connection.execute(text(wanted), given).all()
        if rows:
            write(connection, rows)
        return len(rows)

    return _backfill(table, key, where, change, batch)


Change = Callable[[Connection, str, dict[str, object]], int]
"""Changes the rows within bounds, given as further conditions with their values; answers how many
they were."""


def _backfill(table: str, key: str, where: str, change: Change, batch: int) -> int:
    connection = op.get_bind()
    done = 0
    for _ in range(_PASSES):
        left = connection.scalar(text(f"SELECT count(*) FROM {table} WHERE {where}")) or 0
        if not left:
            return done
        changed = 0
        for rows in _change_in_batches(connection, table, key, where, change, batch):
            changed += rows
            done += rows
            _commit(connection)
            _note(
                f"{done:,} rows of {table} are changed", instead_of=f"rows of {table} are changed"
            )
            _tell(table, done, done + max(left - changed, 0))
        if not changed:
            break
    raise RuntimeError(f"rows of {table} still meet {where!r} after they were changed")


def _change_in_batches(
    connection: Connection, table: str, key: str, where: str, change: Change, batch: int
) -> Iterator[int]:
    """Go through a table once; yields after each batch, with the number of its rows."""
    last: object = None
    while True:
        after = "" if last is None else f" AND {key} > :last"
        given = {} if last is None else {"last": last}
        keys = f"SELECT {key} FROM {table} WHERE ({where}){after} ORDER BY {key} LIMIT {int(batch)}"
        largest = connection.scalar(
            text(f"SELECT {key} FROM ({keys}) AS part ORDER BY {key} DESC LIMIT 1"), given
        )
        if largest is None:
            return
        within = f"{after} AND {key} <= :largest"
        yield change(connection, within, given | {"largest": largest})
        last = largest


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


@contextmanager
def _outside_of_transactions() -> Iterator[Connection]:
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        # Such a build waits for all older transactions, and blocks nobody meanwhile.
        connection.execute(text("SET lock_timeout = 0"))
        try:
            yield connection
        finally:
            if not connection.invalidated:
                connection.execute(text("RESET lock_timeout"))


def _is_valid(connection: Connection, name: str) -> bool | None:
    """Answer whether an index is whole; None: there is none."""
    found: bool | None = connection.scalar(
        text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"),
        {"name": name},
    )
    return found


def _drop_leftover(connection: Connection, name: str) -> None:
    try:
        connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
    except Exception:
        _note(f"the index {name} is there, but not valid; the next try drops it")


def _commit(connection: Connection) -> None:
    if _is_postgresql():
        with op.get_context().autocommit_block():
            pass  # It commits what was done before it, and begins anew after it.
        return
    connection.exec_driver_sql("COMMIT")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _lock_for_rehearsal(table: str) -> None:
    """Tell a rehearsal which lock is taken: it is gone when the step is over."""
    context.config.attributes.get("locks", []).append((table, "ShareUpdateExclusiveLock"))


def _note(words: str, instead_of: str = "") -> None:
    """Remember what stays, also if the revision fails."""
    kept: list[str] = context.config.attributes.get("kept", [])
    if instead_of and kept and kept[-1].endswith(instead_of):
        kept.pop()
    kept.append(words)


def _tell(table: str, done: int, total: int) -> None:
    tell: RowsDone = context.config.attributes.get("rows_done", _nobody)
    tell(table, done, total)


def _nobody(table: str, done: int, total: int) -> None:
    """Nobody asked."""
