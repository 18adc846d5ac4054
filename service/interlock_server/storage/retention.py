"""How long the rows of a table are kept. Each table declares it: `info={"retention": ...}`.

Pruning reads these declarations (`core.retention`), so that a new table is pruned by what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import MetaData, Table


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows stay until someone deletes them."""

    why: str


@dataclass(frozen=True, slots=True)
class AsLongAsAsked:
    """Runs: rows stay until the age that the operator gives, counted from their end."""

    at_once: int = 500
    """How many of them one transaction deletes: each has an entry in half a dozen indexes."""


@dataclass(frozen=True, slots=True)
class WithItsRun:
    """Rows are part of the run that their column `run_id` names, and go with it."""

    at_once: int = 2_000
    """How many of them one transaction deletes: what takes some ten milliseconds."""


@dataclass(frozen=True, slots=True)
class ForDays:
    """Rows stay for some days from the time, in microseconds, in one of their columns."""

    days: int
    column: str
    at_once: int = 2_000
    """How many of them one transaction deletes: what takes some ten milliseconds."""


Retention = Kept | AsLongAsAsked | WithItsRun | ForDays


def retention_of(table: Table) -> Retention:
    """Answer what a table declares. Raises LookupError where that is nothing."""
    declared = table.info.get("retention")
    if not isinstance(declared, Retention):
        raise LookupError(f"The table {table.name} does not declare how long its rows are kept.")
    return declared


def parts_of_runs(metadata: MetaData) -> Iterator[tuple[Table, WithItsRun]]:
    """Name the tables whose rows go with their run."""
    for table in metadata.sorted_tables:
        if isinstance(retention := retention_of(table), WithItsRun):
            yield table, retention


def owner_of(part: Table) -> str | None:
    """Name the table of the runs that the rows of a table are parts of; None: of both kinds.

    Where it has a name, a foreign key has the rows go with their run.
    """
    for key in part.c.run_id.foreign_keys:
        return key.column.table.name
    return None


def aging(metadata: MetaData) -> Iterator[tuple[Table, ForDays]]:
    """Name the tables whose rows go by their own age."""
    for table in metadata.sorted_tables:
        if isinstance(retention := retention_of(table), ForDays):
            yield table, retention
