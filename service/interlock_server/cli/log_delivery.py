"""`interlock logs deliver`: what a process that has ended could not deliver."""

from __future__ import annotations

import click

from interlock_server.cli.connection import be_quiet, connected, failure, server_option
from interlock_server.cli.text import safe


@click.command("deliver")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@server_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    help="Seconds that it may take; unless given, as many as it takes.",
)
def deliver(file: str, target: str, timeout: float | None) -> None:
    """Deliver the log records that a process has left in a FILE.

    A worker that can not reach the server keeps its log records in a file; when it ends before the
    server is back it says where. Each record is delivered once, however often this is run; when all
    is durable the file is deleted. Exit code 1: not all was delivered, or some was refused.
    """
    be_quiet()
    from interlock import InterlockError
    from interlock.logs import LogsNotDelivered, SpillFileError
    from interlock.logs import deliver as deliver_file

    with connected(target) as client:
        # Whether a server is there at all is told at once; later one that goes away is waited for.
        client.get_server_info()
    try:
        delivery = deliver_file(file, target, timeout=timeout)
    except LogsNotDelivered as error:
        raise click.ClickException(f"{safe(str(error))}; run this again.") from None
    except SpillFileError as error:
        raise click.ClickException(safe(str(error))) from None
    except OSError as error:
        raise click.ClickException(f"{safe(file)}: {error.strerror}") from None
    except InterlockError as error:
        raise failure(error, target) from None
    said = f"Delivered {delivery.delivered:,} of {delivery.records:,} log records"
    if delivery.known:
        said += f"; {delivery.known:,} were there before"
    if delivery.refused:
        said += f"; {delivery.refused:,} were refused"
    click.echo(f"{said}.")
    if delivery.torn_bytes:
        click.echo(
            f"The last {delivery.torn_bytes:,} bytes of the file were no whole batch: the process "
            "was killed while it wrote them.",
            err=True,
        )
    if delivery.refused:
        raise SystemExit(1)
