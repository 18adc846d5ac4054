"""`interlock flow-run`: looking at flow runs and their logs, and steering them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from interlock_server.cli import run_history, runs, steering
from interlock_server.cli.connection import connected, server_option
from interlock_server.cli.finding import Wanted, finding, flow_run_order
from interlock_server.cli.log_lines import Look, follow_log, show_log
from interlock_server.cli.log_options import WantedRecords, record_options, showing
from interlock_server.cli.times import since as since_option

if TYPE_CHECKING:
    from interlock import Client
    from interlock.v1.flow_run_pb2 import FlowRun
    from interlock.v1.state_pb2 import StateType


@click.group()
def flow_run() -> None:
    """Look at flow runs, and steer them."""


flow_run.add_command(steering.pause)
flow_run.add_command(steering.resume)
flow_run.add_command(steering.cancel)
flow_run.add_command(steering.explain_flow_run, "explain")


@flow_run.command("ls")
@click.option("--flow", help="Only runs of the flow of this name.")
@runs.listing
def list_runs(
    flow: str | None, wanted: Wanted, order: str, limit: int, as_json: bool, target: str
) -> None:
    """List flow runs, the newest first unless told otherwise."""
    from interlock.v1.flow_run_pb2 import FlowRunFilter

    from interlock_server.cli import output

    made = wanted.filter(FlowRunFilter())
    with connected(target) as client:
        if flow is not None:
            made.flow_ids.append(client.get_flow(name=flow).id)
        listed = client.list_flow_runs(
            made, order_by=flow_run_order(order), page_size=runs.page_size(limit)
        )
        found, more = runs.first(listed, limit)
        flows = {} if as_json else runs.flow_names(client, found)
    if as_json:
        for run in found:
            output.write_json(output.as_json(run))
        return
    if not found:
        everything = flow is None and wanted.anything
        click.echo("No flow runs yet." if everything else "No such flow runs.", err=True)
        return
    columns = ("ID", "FLOW", "NAME", "STATE", "STARTED", "TIME")
    table = output.table(*columns, flexible=("FLOW", "NAME"), right=("TIME",))
    for run in found:
        table.add_row(
            run.id,
            output.cut(flows.get(run.flow_id, "?")),
            output.cut(run.name),
            output.state_word(run.state),
            runs.started(run),
            runs.took(run),
        )
    output.console().print(table)
    runs.and_more(more, limit)


@flow_run.command(short_help="Count flow runs by time and state.")
@click.option("--flow", help="Only runs of the flow of this name.")
@finding(times=False)
@run_history.period
def history(
    flow: str | None,
    wanted: Wanted,
    since: datetime,
    until: datetime | None,
    interval: int | None,
    as_json: bool,
    target: str,
) -> None:
    """Count flow runs by when they were first due, and by the state that they are in now."""
    from interlock.v1.flow_run_pb2 import FlowRunFilter

    made = wanted.filter(FlowRunFilter())
    with connected(target) as client:
        if flow is not None:
            made.flow_ids.append(client.get_flow(name=flow).id)
        pieces = run_history.pieces(since, until, interval)
        run_history.show(client.get_flow_run_history(*pieces, filter=made), as_json)


@flow_run.command(short_help="Show all of one flow run.")
@click.argument("run_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@server_option
def inspect(run_id: str, as_json: bool, target: str) -> None:
    """Show all of one flow run: its times, its task runs, its history with each decision."""
    from interlock_server.cli import output

    with connected(target) as client:
        run = client.get_flow_run(run_id)
        transitions = list(client.list_flow_run_states(run))
        tasks = _task_counts(client, run)
        flow = client.get_flow(run.flow_id)
    if as_json:
        output.write_json(
            output.as_json(run)
            | {
                "flow": output.as_json(flow),
                "task_run_counts": {output.type_name(kind): n for kind, n in tasks.items()},
                "history": [output.as_json(each) for each in transitions],
            }
        )
        return
    console = output.console()
    console.print(
        runs.facts(
            [
                ("flow run", output.plain(run.name, "bold")),
                ("id", run.id),
                ("flow", output.plain(flow.name)),
                ("version", output.plain(run.flow_version)),
                ("state", output.state_word(run.state) if run.HasField("state") else None),
                ("message", output.plain(run.state.message)),
                ("attempts", runs.attempts(run)),
                *runs.times(run),
                ("created by", output.plain(run.created_by)),
                ("runs in", output.plain(run.infrastructure_pid)),
                ("parent task", run.parent_task_run_id),
                ("tags", output.plain(", ".join(run.tags))),
                ("labels", output.plain(", ".join(f"{k}={v}" for k, v in run.labels.items()))),
                ("parameters", output.plain(run.parameters_json)),
                ("task runs", output.counts(tasks)),
            ]
        )
    )
    if transitions:
        console.print()
        console.print(runs.history(transitions))


def _task_counts(client: Client, run: FlowRun) -> dict[StateType.ValueType, int]:
    """Count the flow run's task runs by the type of their state; types without any are left out."""
    from interlock.v1.state_pb2 import StateType
    from interlock.v1.task_run_pb2 import TaskRunFilter

    counts = {}
    for kind in StateType.values()[1:]:
        wanted = TaskRunFilter(flow_run_ids=[run.id], state_types=[kind])
        if count := client.count_task_runs(wanted):
            counts[kind] = count
    return counts


@flow_run.command(short_help="Print or follow the log of a flow run.")
@click.argument("run_id", metavar="ID")
@showing
@record_options()
@server_option
def logs(run_id: str, follow: bool, wanted: WantedRecords, look: Look, target: str) -> None:
    """Print the log of a flow run: time, level, task run, logger, message.

    The lines of its task runs are among them, each behind the name of its task run. The id may also
    be that of a task run that is part of no flow run.
    """
    show = follow_log if follow else show_log
    show(target, run_id, wanted, look)


@flow_run.command(short_help="Print what happens to flow runs, as it happens.")
@click.argument("run_ids", nargs=-1, metavar="[ID]...")
@click.option("--flow", help="Only runs of the flow of this name.")
@runs.state_option
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only runs with all of these.")
@click.option(
    "--task-runs", is_flag=True, help="Also their task runs; --state and --tag go by those of each."
)
@click.option(
    "--since",
    callback=since_option,
    metavar="TIME",
    help="Begin with what happened then: so long ago (90s, 10m, 1h30m, 2d) or an ISO 8601 time.",
)
@runs.json_option
@server_option
def watch(
    run_ids: tuple[str, ...],
    flow: str | None,
    states: tuple[str, ...],
    tags: tuple[str, ...],
    task_runs: bool,
    since: datetime | None,
    as_json: bool,
    target: str,
) -> None:
    """Print what happens to flow runs, one line each: time, run, state, name, reason.

    All flow runs are watched, or those of the ids given. It goes on until Ctrl-C; a server that is
    restarted is waited for, and nothing is missed.
    """
    from interlock.v1.filter_pb2 import TagFilter
    from interlock.v1.run_event_pb2 import (
        RUN_EVENT_TYPE_STATE,
        RUN_KIND_FLOW_RUN,
        RunEventFilter,
    )

    from interlock_server.cli.watching import watch as watch_runs

    types, names = runs.state_filter(states)
    wanted = RunEventFilter(flow_run_ids=run_ids, state_types=types, state_names=names)
    if not task_runs:
        wanted.kinds.append(RUN_KIND_FLOW_RUN)
    if states or tags:
        # Of a run that is deleted nobody knows the state, or the tags.
        wanted.types.append(RUN_EVENT_TYPE_STATE)
    if tags:
        wanted.tags.CopyFrom(TagFilter(all=tags))
    if flow is not None:
        with connected(target) as client:
            wanted.flow_ids.append(client.get_flow(name=flow).id)
    watch_runs(target, wanted, since, as_json=as_json)
