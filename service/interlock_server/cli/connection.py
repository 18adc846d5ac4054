"""From the command line to a server: its address, and what is said when it does not answer."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from interlock.channel import DEFAULT_TARGET, TARGET_VARIABLE

from interlock_server.cli.text import safe

if TYPE_CHECKING:
    from interlock import Client, InterlockError

_PATIENCE = 10.0
"""Seconds that a person waits for an answer before being told that there is none."""

server_option = click.option(
    "--server",
    "target",
    metavar="HOST:PORT",
    envvar=TARGET_VARIABLE,
    default=DEFAULT_TARGET,
    show_default=True,
    show_envvar=True,
    help="The server to ask.",
)


@contextmanager
def connected(target: str) -> Iterator[Client]:
    """Give a client that says at once when the server is away; its errors end the command."""
    from interlock import Client, InterlockError, RetryPolicy

    be_quiet()
    policy = RetryPolicy(max_attempts=1, attempt_timeout=_PATIENCE)
    with Client(target, timeout=_PATIENCE, retry=policy, proposed_by=user()) as client:
        try:
            yield client
        except InterlockError as error:
            raise failure(error, target) from None


@contextmanager
def following(target: str) -> Iterator[Client]:
    """Give a client that bridges a server's restart."""
    from interlock import Client, InterlockError

    be_quiet()
    with Client(target) as client:
        try:
            yield client
        except InterlockError as error:
            raise failure(error, target) from None


def user() -> str:
    """Name the person at the terminal, for the history; empty where they have no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, for an id without a name
        return ""


def be_quiet() -> None:
    """Keep gRPC's own lines off the terminal. Only before gRPC is first used."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def failure(error: InterlockError, target: str) -> click.ClickException:
    """Say what went wrong in a call, in one line for people."""
    from interlock import DeadlineExceeded, Unavailable

    if not error.reason and isinstance(error, Unavailable | DeadlineExceeded):
        # No word from Interlock itself: it is gRPC that gave up.
        return click.ClickException(
            f"No server answers at {safe(target)}. Start one with `interlock server start`, or say "
            "where it is with --server HOST:PORT, or for workers, too, with INTERLOCK_TARGET."
        )
    words = safe(error.message) or error.code.name
    fields = [
        f"{safe(each.field)}: {safe(each.description)}"
        for each in error.field_violations
        if each.field not in words
    ]
    return click.ClickException("; ".join([words, *fields]))
