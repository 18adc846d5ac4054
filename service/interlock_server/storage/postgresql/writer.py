"""The writer: a connection of its own, straight to the driver."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import Table

from interlock_server.rules.states import Micros
from interlock_server.storage import failpoints
from interlock_server.storage.errors import (
    ConflictError,
    ConnectionLostError,
    OutcomeUnknownError,
)
from interlock_server.storage.facts import Facts, Needs
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.plan import load, writes
from interlock_server.storage.postgresql import event_order, statements
from interlock_server.storage.postgresql.connecting import Connecting
from interlock_server.storage.postgresql.errors import LOST, translate, words
from interlock_server.storage.rows import Row
from interlock_server.storage.steps import (
    BeginAgain,
    Delete,
    DeleteBelow,
    DeleteExpired,
    DeleteOlder,
    DeleteRows,
    DeleteSome,
    FirstChunks,
    Insert,
    Lock,
    NewestCached,
    Query,
    ReadClock,
    RememberDeleted,
    Select,
    Trackers,
    Update,
    Upsert,
    WhichHave,
    Write,
)

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds beyond the server's own time-outs after which a connection is given up: it stalls."""


def milliseconds(seconds: float) -> str:
    """Write a time-out as PostgreSQL's settings take it."""
    # 0 would mean for ever.
    return str(max(1, round(seconds * 1000)))


class PostgresqlWriter:
    """A connection of its own, straight to the driver: statements are few, large and prepared."""

    def __init__(self, connecting: Connecting, options: DatabaseOptions) -> None:
        self._command_timeout = options.statement_timeout + PATIENCE
        self._arguments = connecting.drivers_arguments(
            # A commit is on the disk before it is answered.
            synchronous_commit="on",
            lock_timeout=milliseconds(options.lock_timeout),
            statement_timeout=milliseconds(options.statement_timeout),
            idle_in_transaction_session_timeout="30000",
        )
        self._connection: Any = None
        self._clock: Micros | None = None
        """The database's clock behind the locks of the batch, as far as they are taken."""

    async def connect(self) -> None:
        """Connect, or connect again after the connection was lost. Raises ConnectionLostError."""
        await self.close()
        try:
            connection = await asyncpg.connect(
                **self._arguments, command_timeout=self._command_timeout
            )
            # Ids are text in Python, without a detour through UUID objects.
            await connection.set_type_codec(
                "uuid", schema="pg_catalog", encoder=str, decoder=str, format="text"
            )
            await event_order.settle(connection)
        except (*LOST, asyncpg.PostgresError) as error:
            raise ConnectionLostError(words(error)) from error
        self._connection = connection

    async def begin(self, needs: Needs) -> Facts:
        """See `Writer.begin`."""
        if self._connection is None or self._connection.is_closed():
            await self.connect()
        loading = load(needs)
        self._clock = None
        try:
            await self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            query = next(loading)
            while True:
                query = loading.send(await self._select(query))
        except StopIteration as done:
            facts: Facts = done.value
            return facts
        except BaseException as error:
            await self._abandon(error)
            raise translate(error) from error

    async def commit(self, facts: Facts) -> None:
        """See `Writer.commit`."""
        try:
            for step in writes(facts):
                await self._write(step)
        except BaseException as error:
            await self._abandon(error)
            raise translate(error) from error
        failpoints.reach(failpoints.BEFORE_COMMIT)
        try:
            await self._connection.execute("COMMIT")
        except BaseException as error:
            await self.close()
            raise OutcomeUnknownError(words(error)) from error

    async def rollback(self) -> None:
        """See `Writer.rollback`."""
        await self._abandon()

    async def close(self) -> None:
        """See `Writer.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _abandon(self, error: BaseException | None = None) -> None:
        # What a stalled connection was asked last it may do yet, or never.
        if isinstance(error, asyncio.TimeoutError):
            return await self.close()
        try:
            await self._connection.execute("ROLLBACK")
        except BaseException:
            await self.close()

    async def _select(self, query: Query) -> list[Row]:
        match query:
            case ReadClock():
                if self._clock is None:
                    self._clock = await self._connection.fetchval(f"SELECT {statements.CLOCK}")
                return [(self._clock,)]
            case WhichHave(table, by, keys):
                statement = (
                    "SELECT k FROM unnest($1::uuid[]) AS keys (k) "
                    f"WHERE EXISTS (SELECT FROM {table.name} WHERE {by} = k)"
                )
                return list(await self._connection.fetch(statement, keys))
            case Trackers(flow_run_ids):
                return list(await self._connection.fetch(statements.TRACKERS, flow_run_ids))
            case NewestCached(cache_keys, now):
                found = await self._connection.fetch(statements.NEWEST_CACHED, cache_keys, now)
                return list(found)
            case FirstChunks(run_id, limit):
                return list(await self._connection.fetch(statements.FIRST_CHUNKS, run_id, limit))
            case Select(table, columns, (by,), keys, lock):
                statement = statements.select_any(table, columns, by, lock)
                rows: list[Row] = await self._connection.fetch(statement, keys)
                if rows and lock is not Lock.NONE:
                    self._clock = rows[-1][-1]
                    return [row[:-1] for row in rows]
                return rows
            case Select(table, columns, by_columns, tuples, _):
                return await self._select_by_several(table, columns, by_columns, tuples)

    async def _select_by_several(
        self, table: Table, columns: tuple[str, ...], by: tuple[str, ...], keys: list[Row]
    ) -> list[Row]:
        # NULL equals nothing, so keys are sorted by which of their parts are NULL.
        groups: dict[tuple[bool, ...], list[Row]] = {}
        for key in keys:
            groups.setdefault(tuple(part is None for part in key), []).append(key)
        rows: list[Row] = []
        for absent, members in groups.items():
            statement = statements.select_joined(table, columns, by, absent)
            parts = [
                part
                for part, is_absent in zip(zip(*members, strict=True), absent, strict=True)
                if not is_absent
            ]
            rows += await self._connection.fetch(statement, *parts)
        return rows

    async def _write(self, step: Write) -> None:
        execute = self._connection.execute
        match step:
            case Insert(table, rows):
                tag = await execute(statements.insert(table), *zip(*rows, strict=True))
                if int(tag.rpartition(" ")[2]) < len(rows):
                    raise ConflictError(f"A row of {table.name} was made meanwhile.")
            case Upsert(table, rows):
                await execute(statements.upsert(table), *zip(*rows, strict=True))
            case Update(table, columns, rows):
                await execute(statements.update(table, columns), *zip(*rows, strict=True))
            case Delete(table, by, keys):
                await execute(f"DELETE FROM {table.name} WHERE {by} = ANY($1::uuid[])", keys)
            case DeleteRows(table, by_columns, rows):
                statement = statements.delete_rows(table, by_columns)
                await execute(statement, *zip(*rows, strict=True))
            case DeleteSome(table, run_ids, limit):
                await execute(
                    statements.delete_some(table, "run_id = ANY($1::uuid[])"), run_ids, limit
                )
            case DeleteBelow(table, run_id, ordinal):
                await execute(
                    f"DELETE FROM {table.name} WHERE run_id = $1::uuid "
                    "AND first_ordinal < $2::bigint",
                    run_id,
                    ordinal,
                )
            case DeleteExpired(cache_keys, now):
                await execute(statements.DELETE_EXPIRED, cache_keys, now)
            case DeleteOlder(table, column, before, limit):
                await execute(
                    statements.delete_some(table, f"{column} < $1::bigint"), before, limit
                )
            case BeginAgain(table, now):
                await execute(f"UPDATE {table.name} SET deadline = $1::bigint + timeout", now)
            case RememberDeleted(kind, run_ids, deleted, ordinal):
                await execute(statements.remember_deleted(kind), run_ids, deleted, ordinal)
