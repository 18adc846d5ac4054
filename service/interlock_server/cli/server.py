"""`interlock server`: running the server."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock_server.cli.configuration import (
    profile_option,
    read_configuration,
    warn_of_unknown,
)
from interlock_server.cli.connection import be_quiet
from interlock_server.cli.lazy import LazyGroup, Listed

if TYPE_CHECKING:
    from interlock_server.settings import Settings

OPEN_FLAG = "--open-to-network-without-encryption-or-login"


@click.group(
    cls=LazyGroup,
    listed={
        "database": Listed("interlock_server.cli.database:database", "Look after the database."),
        "loops": Listed("interlock_server.cli.loops:loops", "Show what it does by itself."),
    },
)
def server() -> None:
    """Run the server, and look after its database."""


@server.command()
@click.option("--host", help="The address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0: any.  [default: 4200]")
@click.option("--database", help="The database's URL.  [default: interlock.db in the home folder]")
@click.option("--admin-socket", type=click.Path(path_type=Path), help="The operators' socket.")
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], False))
@click.option(
    OPEN_FLAG, "open_to_network", is_flag=True, help="Listen beyond this machine, for all to use."
)
@profile_option
def start(
    host: str | None,
    port: int | None,
    database: str | None,
    admin_socket: Path | None,
    log_level: str | None,
    open_to_network: bool,
) -> None:
    """Start the server, and run until it is told to stop (Ctrl-C, SIGTERM)."""
    configuration = read_configuration(
        host=host,
        port=port,
        database_connection_url=database,
        admin_socket=admin_socket,
        log_level=log_level,
    )
    warn_of_unknown(configuration)
    settings = configuration.settings
    if not open_to_network and not _is_loopback(settings.host):
        raise click.ClickException(
            f"{settings.host} can be reached from other machines, and there is neither encryption "
            f"nor login: whoever reaches the port may do everything. If that is what you want, say "
            f"so with {OPEN_FLAG}."
        )
    sys.exit(_run(settings))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _run(settings: Settings) -> int:
    # A failure is told in our words: gRPC's own lines say it less well, and first.
    be_quiet()
    # grpc and all that hangs on it is loaded only by those who need it.
    import uvloop

    from interlock_server import logging

    logging.configure(settings.log_level, settings.log_json)
    return uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    from interlock_server.background.loops import LoopOptions
    from interlock_server.rpc.server import Addresses, CanNotListenError, Server
    from interlock_server.rpc.server_service import VERSION
    from interlock_server.storage.dialects import open_database
    from interlock_server.storage.errors import UnusableDatabaseError

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        database = open_database(settings.database_url, settings.database_options)
    except UnusableDatabaseError as error:
        return _refuse(error)
    addresses = Addresses(settings.host, settings.port, settings.admin_socket_path)
    running = Server(
        database,
        addresses,
        grace=settings.shutdown_grace,
        loops=LoopOptions(
            settings.loops,
            settings.loops_period,
            settings.patience,
            settings.log_retention_micros,
        ),
    )
    try:
        port = await running.start()
    except (UnusableDatabaseError, CanNotListenError) as error:
        await running.stop()
        return _refuse(error)
    # What is alive now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    click.echo(
        f"Interlock {VERSION} listens on {settings.host}:{port}\n"
        f"  database      {database.shown_url}\n"
        f"  admin socket  {settings.admin_socket_path}\n"
        f"Workers and commands find it by INTERLOCK_TARGET={settings.host}:{port}\n"
        "Stop it with Ctrl-C."
    )
    await stopping.wait()
    click.echo("Stopping: calls that run may end.", err=True)
    await running.stop()
    return 0


def _refuse(error: Exception) -> int:
    click.echo(f"Error: {error}", err=True)
    return 1
