"""`interlock task-run`: looking at task runs."""

from __future__ import annotations

from dataclasses import replace

import click

from interlock_server.cli import runs, steering
from interlock_server.cli.connection import connected, server_option
from interlock_server.cli.finding import Wanted, task_run_order
from interlock_server.cli.log_lines import Look, follow_log, show_log
from interlock_server.cli.log_options import WantedRecords, record_options, showing


@click.group()
def task_run() -> None:
    """Look at task runs."""


task_run.add_command(steering.explain_task_run, "explain")


@task_run.command("ls")
@click.option("--flow-run", "flow_run_id", metavar="ID", help="Only those of this flow run.")
@runs.listing
def list_runs(
    flow_run_id: str | None, wanted: Wanted, order: str, limit: int, as_json: bool, target: str
) -> None:
    """List task runs, the newest first unless told otherwise."""
    from interlock.v1.task_run_pb2 import TaskRunFilter

    from interlock_server.cli import output

    made = wanted.filter(TaskRunFilter())
    if flow_run_id is not None:
        made.flow_run_ids.append(flow_run_id)
    with connected(target) as client:
        if flow_run_id is not None:
            # A list would be empty for a run that is not there; this says so.
            client.get_flow_run(flow_run_id)
        listed = client.list_task_runs(
            made, order_by=task_run_order(order), page_size=runs.page_size(limit)
        )
        found, more = runs.first(listed, limit)
    if as_json:
        for run in found:
            output.write_json(output.as_json(run))
        return
    if not found:
        everything = flow_run_id is None and wanted.anything
        click.echo("No task runs yet." if everything else "No such task runs.", err=True)
        return
    columns = ("ID", "TASK", "NAME", "STATE", "RUNS", "STARTED", "TIME")
    table = output.table(*columns, flexible=("TASK", "NAME"), right=("RUNS", "TIME"))
    for run in found:
        table.add_row(
            run.id,
            output.cut(run.task_key),
            output.cut(run.name),
            output.state_word(run.state),
            str(run.run_count),
            runs.started(run),
            runs.took(run),
        )
    output.console().print(table)
    runs.and_more(more, limit)


@task_run.command(short_help="Show all of one task run.")
@click.argument("run_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@server_option
def inspect(run_id: str, as_json: bool, target: str) -> None:
    """Show all of one task run: its times, its inputs, its history with each decision."""
    from interlock_server.cli import output

    with connected(target) as client:
        run = client.get_task_run(run_id)
        transitions = list(client.list_task_run_states(run))
    if as_json:
        history = [output.as_json(each) for each in transitions]
        output.write_json(output.as_json(run) | {"history": history})
        return
    console = output.console()
    console.print(
        runs.facts(
            [
                ("task run", output.plain(run.name, "bold")),
                ("id", run.id),
                ("task", output.plain(run.task_key)),
                ("key", output.plain(run.dynamic_key)),
                ("version", output.plain(run.task_version)),
                ("flow run", run.flow_run_id),
                ("state", output.state_word(run.state) if run.HasField("state") else None),
                ("message", output.plain(run.state.message)),
                ("runs", runs.attempts(run)),
                *runs.times(run),
                ("subflow", run.state.details.child_flow_run_id),
                ("cache key", output.plain(run.state.details.cache_key)),
                ("tags", output.plain(", ".join(run.tags))),
                ("labels", output.plain(", ".join(f"{k}={v}" for k, v in run.labels.items()))),
                ("inputs", output.plain(run.inputs_json)),
            ]
        )
    )
    if transitions:
        console.print()
        console.print(runs.history(transitions))


@task_run.command(short_help="Print or follow the log of a task run.")
@click.argument("run_id", metavar="ID")
@showing
@record_options(task_runs=False)
@server_option
def logs(run_id: str, follow: bool, wanted: WantedRecords, look: Look, target: str) -> None:
    """Print the log of a task run: its lines in the log of its flow run.

    One that is part of no flow run has a log of its own.
    """
    with connected(target) as client:
        run = client.get_task_run(run_id)
    if run.flow_run_id:
        wanted = replace(wanted, task_runs=(run.id,))
    show = follow_log if follow else show_log
    show(target, run.flow_run_id or run.id, wanted, look)
