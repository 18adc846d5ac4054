"""`interlock deployment`: looking at deployments, making and deleting them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interlock_server.cli import runs
from interlock_server.cli.connection import connected, server_option
from interlock_server.cli.database import ask, yes_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interlock import Client
    from interlock.v1.deployment_pb2 import Deployment
    from rich.table import Table

_deployment = click.argument("name", metavar="ID|FLOW/NAME")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.group()
def deployment() -> None:
    """Look at deployments, make and delete them.

    A deployment is a flow as it is run somewhere. Its runs can be scheduled again after they have
    ended, or were suspended.
    """


@deployment.command("ls")
@click.option("--flow", help="Only deployments of the flow of this name.")
@runs.limit_option
@runs.json_option
@server_option
def list_deployments(flow: str | None, limit: int, as_json: bool, target: str) -> None:
    """List deployments, the newest first."""
    from interlock.v1.deployment_pb2 import DeploymentFilter

    from interlock_server.cli import output
    from interlock_server.cli.times import age

    wanted = DeploymentFilter()
    with connected(target) as client:
        if flow is not None:
            wanted.flow_ids.append(client.get_flow(name=flow).id)
        found, more = runs.first(
            client.list_deployments(wanted, page_size=runs.page_size(limit)), limit
        )
        flows = {} if as_json else runs.flow_names(client, found)
    if as_json:
        for each in found:
            output.write_json(output.as_json(each))
        return
    if not found:
        click.echo("No such deployments." if flow else "No deployments yet.", err=True)
        return
    now = datetime.now(UTC)
    table = output.table("ID", "FLOW", "NAME", "TAGS", "CREATED", flexible=("FLOW", "NAME", "TAGS"))
    for each in found:
        table.add_row(
            each.id,
            output.cut(flows.get(each.flow_id, "?")),
            output.cut(each.name),
            output.cut(", ".join(each.tags)),
            age(each.create_time, now),
        )
    output.console().print(table)
    runs.and_more(more, limit)


@deployment.command(short_help="Show all of one deployment.")
@_deployment
@_json
@server_option
def inspect(name: str, as_json: bool, target: str) -> None:
    """Show all of one deployment, named by its id or as FLOW/NAME."""
    from interlock_server.cli import output

    with connected(target) as client:
        found = _find(client, name)
        flow = client.get_flow(found.flow_id)
    if as_json:
        output.write_json(output.as_json(found) | {"flow": output.as_json(flow)})
        return
    output.console().print(_facts(found, flow.name))


@deployment.command(short_help="Make a deployment of a flow.")
@click.argument("flow")
@click.argument("name")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A word to find it by.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A pair to find it by.")
@_json
@server_option
def create(
    flow: str, name: str, tags: tuple[str, ...], labels: tuple[str, ...], as_json: bool, target: str
) -> None:
    """Make the deployment NAME of the flow FLOW, named by its name. The flow has to be there.

    The one of that name is shown if there is one already; it stays as it is.
    """
    from interlock.ids import uuid7

    from interlock_server.cli import output
    from interlock_server.cli.connection import user

    pairs = _pairs(labels)
    new_id = uuid7()
    with connected(target) as client:
        made = client.create_deployment(
            client.get_flow(name=flow),
            name,
            tags=tags,
            labels=pairs,
            created_by=user(),
            deployment_id=new_id,
        )
    if as_json:
        output.write_json(output.as_json(made))
        return
    if made.id != new_id:
        click.echo("There is one of this name already, which stays as it is.", err=True)
    output.console().print(_facts(made, flow))


@deployment.command(short_help="Delete a deployment; its runs stay.")
@_deployment
@yes_option
@server_option
def delete(name: str, yes: bool, target: str) -> None:
    """Delete a deployment, named by its id or as FLOW/NAME.

    Its runs stay, but can not be scheduled again: those that are suspended can not go on.
    """
    from interlock_server.cli import output

    with connected(target) as client:
        found = _find(client, name)
        shown = output.plain(found.name).plain
        ask(f"Delete the deployment {shown}? Its runs stay, but can not be scheduled again.", yes)
        client.delete_deployment(found, etag=found.etag)
    click.echo(f"Deleted {found.id}.")


def _find(client: Client, name: str) -> Deployment:
    flow, slash, deployment_name = name.partition("/")
    if not slash:
        if not _is_uuid(name):
            raise click.ClickException(f"{name!r} is neither an id nor FLOW/NAME.")
        return client.get_deployment(name)
    return client.get_deployment(flow=client.get_flow(name=flow), name=deployment_name)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _facts(found: Deployment, flow_name: str) -> Table:
    from interlock_server.cli import output
    from interlock_server.cli.times import age, moment

    now = datetime.now(UTC)
    created, updated = found.create_time, found.update_time
    return runs.facts(
        [
            ("deployment", output.plain(found.name, "bold")),
            ("id", found.id),
            ("flow", output.plain(flow_name)),
            ("created", f"{moment(created)}  ({age(created, now)})"),
            ("created by", output.plain(found.created_by)),
            ("changed", moment(updated) if updated != created else None),
            ("tags", output.plain(", ".join(found.tags))),
            ("labels", output.plain(", ".join(f"{k}={v}" for k, v in found.labels.items()))),
        ]
    )


def _pairs(labels: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for label in labels:
        key, equals, value = label.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{label!r} is not KEY=VALUE.", param_hint="--label")
        pairs[key] = value
    return pairs
