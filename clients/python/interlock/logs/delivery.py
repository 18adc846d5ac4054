"""Delivering what a process has left in a file, from another process.

What it promises: exactly once. It goes on as the producer that the file names, so the service tells
what it has already; delivering a file twice, or once more after it broke off, does no harm.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import grpc

from interlock.logs.shipper import OnRefused, Shipper


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the records in a file."""

    records: int
    """How many were in it."""
    known: int
    """The service had them already."""
    delivered: int
    """Became durable now."""
    refused: int
    """Were refused by the service: of a run that is deleted, say."""
    torn_bytes: int
    """So many bytes at the end were no whole batch: the process was killed while it wrote them."""


def deliver(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    timeout: float | None = None,
    on_refused: OnRefused | None = None,
) -> Delivery:
    """Deliver what a process left in a file, and delete the file.

    Args:
        path: the file, as that process named it on stderr.
        target: where the server is; unless given, what `INTERLOCK_TARGET` says, else the local
            server.
        credentials: for TLS; none: a plain connection.
        timeout: how many seconds it may take; None: as long as it takes. A server that is away is
            waited for.
        on_refused: called, in another thread, with what was refused and how many records it was.

    Raises:
        SpillFileInUse: a living process keeps its records there.
        SpillFileError: it is no such file, or it is damaged.
        OSError: it can not be read or written.
        LogsNotDelivered: not all was durable in time; the file is left, for another time.
        InterlockError: the service can not be written to, and that will not pass by itself.
    """
    shipper, contents = Shipper.of_file(os.fspath(path), target, credentials, on_refused)
    shipper.finish(timeout)
    counts = shipper.statistics
    return Delivery(
        contents.records, shipper.known, counts.delivered, counts.refused, contents.torn
    )
