"""`interlock server loops`: what the loops of the running server do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock_server.cli.configuration import profile_option, read_settings
from interlock_server.cli.connection import be_quiet, failure

if TYPE_CHECKING:
    from interlock.admin.v1.maintenance_pb2 import ListLoopsResponse, Loop

_PATIENCE = 10.0
"""Seconds that a person waits for an answer before being told that there is none."""


@click.command()
@click.option(
    "--admin-socket",
    type=click.Path(path_type=Path),
    help="The running server's admin socket.  [default: admin.sock in the home folder]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a loop.")
@profile_option
def loops(admin_socket: Path | None, as_json: bool) -> None:
    """Show what the server does by itself: its loops, and when each of them looked last.

    They end runs whose heartbeats have ceased and pauses whose time is over, mark late runs, and
    cancel what is part of a cancelled flow run; where INTERLOCK_LOG_RETENTION is set they delete
    what came to logs before. Of several servers on one database one runs them.
    """
    socket = read_settings(admin_socket=admin_socket).admin_socket_path
    answer = _ask(socket)
    from interlock_server.cli import output

    if as_json:
        for loop in answer.loops:
            output.write_json(output.as_json(loop))
        return
    table = output.table(
        "LOOP", "PERIOD", "LOOKED", "FOUND", "DONE", "ERROR", flexible=("ERROR",), right=("DONE",)
    )
    now = datetime.now(UTC)
    for loop in answer.loops:
        table.add_row(*_row(loop, now), output.cut(loop.error))
    output.console().print(table)
    if not answer.running:
        click.echo("They rest here: another server runs them, or INTERLOCK_LOOPS is off.", err=True)


def _row(loop: Loop, now: datetime) -> tuple[str, ...]:
    from interlock_server.cli.times import age, length

    looked = age(loop.look_time, now) if loop.HasField("look_time") else "-"
    found = age(loop.done_time, now) if loop.HasField("done_time") else "-"
    return loop.name, length(loop.period), looked, found, f"{loop.done:,}"


def _ask(socket: Path) -> ListLoopsResponse:
    be_quiet()
    import grpc
    from interlock.admin.v1.maintenance_pb2 import ListLoopsRequest
    from interlock.admin.v1.maintenance_pb2_grpc import MaintenanceServiceStub
    from interlock.errors import from_rpc_error

    if not socket.exists():
        raise click.ClickException(f"No server answers at {socket}: loops run in a server.")
    try:
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            return MaintenanceServiceStub(channel).ListLoops(ListLoopsRequest(), timeout=_PATIENCE)
    except grpc.RpcError as error:
        raise failure(from_rpc_error(error), str(socket)) from None
