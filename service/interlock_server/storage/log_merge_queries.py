"""Reads for the merging of logs: which are due, their chunks without data, then some with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock_server.rules.log_merging import Piece
from interlock_server.rules.states import Id, Micros
from interlock_server.storage import tables
from interlock_server.storage.database import Database
from interlock_server.storage.log_queries import chunk_of
from interlock_server.storage.records import LogChunk, LogHead

_PIECES_AT_ONCE = 1000
"""How many chunks are read at a time, without their data."""


@dataclass(frozen=True, slots=True)
class DueMerge:
    """A log, and when its chunks are to be looked at."""

    run_id: Id
    due: Micros


@dataclass(frozen=True, slots=True)
class UnsealedLog:
    """A log as far as it is not sealed."""

    head: LogHead
    closed: bool
    """Whether each of its producers has said that nothing more comes from it."""
    pieces: tuple[Piece, ...]
    """Its first chunks behind what is sealed, in order."""
    complete: bool
    """Whether these are all."""


async def next_log_merges(database: Database, limit: int) -> list[DueMerge]:
    """Read which logs are, or will be, to be looked at first."""
    merge = tables.log_merge.c
    statement = select(merge.run_id, merge.due).order_by(merge.due).limit(limit)
    return [DueMerge(*row) for row in await _rows(database, statement)]


async def list_unsealed_logs(database: Database, run_ids: Sequence[Id]) -> list[UnsealedLog]:
    """Read some logs as far as they are not sealed, but for those that are not there any more."""
    # The heads first: what is appended meanwhile is among the chunks then, and not missed.
    head, producer = tables.log_head.c, tables.log_producer.c
    writing = select(producer.run_id).where(
        producer.run_id == head.run_id, producer.closed.is_(False)
    )
    statement = select(tables.log_head, ~writing.exists()).where(head.run_id.in_(run_ids))
    found = await _rows(database, statement.order_by(head.run_id))
    heads = {row[0]: (LogHead(*row[:-1]), bool(row[-1])) for row in found}
    pieces: dict[Id, list[Piece]] = {run_id: [] for run_id in heads}
    cut: set[Id] = set()
    waiting = list(heads)
    while waiting:
        rows = await _list_pieces(database, waiting, _PIECES_AT_ONCE)
        for run_id, *piece in rows:
            pieces[run_id].append(Piece(*piece))
        if len(rows) < _PIECES_AT_ONCE:
            break
        last = rows[-1][0]
        cut.add(last)
        waiting = waiting[waiting.index(last) + 1 :]
    return [
        UnsealedLog(
            head,
            closed,
            tuple(piece for piece in pieces[run_id] if piece.first_ordinal < head.next_ordinal),
            run_id not in cut,
        )
        for run_id, (head, closed) in heads.items()
    ]


async def _list_pieces(database: Database, run_ids: Sequence[Id], limit: int) -> Sequence[Any]:
    chunk, head = tables.log_chunk.c, tables.log_head.c
    statement = (
        select(chunk.run_id, chunk.first_ordinal, chunk.last_ordinal, chunk.raw_bytes, chunk.level)
        .join(tables.log_head, head.run_id == chunk.run_id)
        .where(chunk.run_id.in_(run_ids), chunk.first_ordinal >= head.sealed_ordinal)
        .order_by(chunk.run_id, chunk.first_ordinal)
        .limit(limit)
    )
    return await _rows(database, statement)


async def list_chunks_in(
    database: Database, ranges: Sequence[tuple[Id, int, int]]
) -> dict[tuple[Id, int], LogChunk]:
    """Read the chunks of some logs that begin at an ordinal of a range: run, first and last.

    They are answered by run and first ordinal.
    """
    chunk = tables.log_chunk.c
    statement = select(tables.log_chunk).where(
        or_(
            *(
                and_(chunk.run_id == run_id, chunk.first_ordinal.between(first, last))
                for run_id, first, last in ranges
            )
        )
    )
    found = [chunk_of(row) for row in await _rows(database, statement)]
    return {(each.run_id, each.first_ordinal): each for each in found}


async def _rows(database: Database, statement: Select[Any]) -> Sequence[Any]:
    async def read(connection: AsyncConnection) -> Sequence[Any]:
        rows: Sequence[Any] = (await connection.execute(statement)).all()
        return rows

    return await database.read(read)
