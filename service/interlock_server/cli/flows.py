"""`interlock flow`: looking at flows."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from interlock_server.cli import runs
from interlock_server.cli.connection import connected, server_option
from interlock_server.cli.finding import name_option, tag_option

_ORDERS = {"newest": 1, "name": 2, "name-last": 3, "changed-last": 4}
"""What the contract's orders are called here."""


@click.group()
def flow() -> None:
    """Look at flows."""


@flow.command("ls")
@tag_option
@name_option
@click.option(
    "--order",
    type=click.Choice(list(_ORDERS)),
    default="newest",
    show_default=True,
    help="What comes first.",
)
@runs.limit_option
@runs.json_option
@server_option
def list_flows(
    tags: tuple[str, ...], name: str | None, order: str, limit: int, as_json: bool, target: str
) -> None:
    """List flows, the newest first."""
    from interlock.v1.filter_pb2 import TagFilter
    from interlock.v1.flow_pb2 import FlowFilter, FlowOrder

    from interlock_server.cli import output
    from interlock_server.cli.times import age

    wanted = FlowFilter(name_contains=name or "", tags=TagFilter(all=tags))
    order_by = FlowOrder.ValueType(_ORDERS[order])
    with connected(target) as client:
        listed = client.list_flows(wanted, order_by=order_by, page_size=runs.page_size(limit))
        found, more = runs.first(listed, limit)
    if as_json:
        for each in found:
            output.write_json(output.as_json(each))
        return
    if not found:
        click.echo("No such flows." if tags or name else "No flows yet.", err=True)
        return
    now = datetime.now(UTC)
    table = output.table("ID", "NAME", "TAGS", "CREATED", flexible=("NAME", "TAGS"))
    for each in found:
        table.add_row(
            each.id,
            output.cut(each.name),
            output.cut(", ".join(each.tags)),
            age(each.create_time, now),
        )
    output.console().print(table)
    runs.and_more(more, limit)
