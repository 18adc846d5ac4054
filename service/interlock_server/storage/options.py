"""What an operator may choose about how the database is used. The defaults are for most."""

from __future__ import annotations

from dataclasses import dataclass, field

from interlock_server.storage.tls import TlsOptions


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How a database is used. Times are in seconds.

    How durable a commit is, is no option: what was acknowledged survives a power cut.
    """

    pool_size: int = 4
    """Connections for reads. Reads are short; more of them only contend for the same few cores."""

    read_timeout: float = 15.0
    """How long one read may take. The longest useful read is a page of a list; what takes longer
    holds a connection that others wait for."""

    pool_timeout: float = 10.0
    """How long a read waits for a connection before it is answered UNAVAILABLE."""

    statement_timeout: float = 8.0
    """How long one statement of a batch may take, on PostgreSQL. All of a batch takes a tenth of a
    second; a statement that takes this long waits for a disk that fails."""

    lock_timeout: float = 5.0
    """How long a batch waits for another writer before its commands are answered UNAVAILABLE."""

    connect_timeout: float = 3.0
    """How long to wait for a connection to PostgreSQL before the database counts as away."""

    tls: TlsOptions = field(default_factory=TlsOptions)
    """How the connection to PostgreSQL is encrypted."""

    sqlite_cache_mib: int = 32
    """What each connection to SQLite may keep of the file in memory, in MiB: the inner pages of all
    indexes of a million runs."""
