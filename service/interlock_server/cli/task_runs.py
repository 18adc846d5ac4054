"""`interlock task-run`: looking at task runs."""

from __future__ import annotations

import click

from interlock_server.cli import runs
from interlock_server.cli.connection import connected


@click.group()
def task_run() -> None:
    """Look at task runs."""


@task_run.command("ls")
@click.option("--flow-run", "flow_run_id", metavar="ID", help="Only those of this flow run.")
@runs.listing
def list_runs(
    flow_run_id: str | None, states: tuple[str, ...], limit: int, as_json: bool, target: str
) -> None:
    """List task runs, the newest first."""
    from interlock.v1.task_run_pb2 import TaskRunFilter

    from interlock_server.cli import output

    types, names = runs.state_filter(states)
    wanted = TaskRunFilter(state_types=types, state_names=names)
    if flow_run_id is not None:
        wanted.flow_run_ids.append(flow_run_id)
    with connected(target) as client:
        if flow_run_id is not None:
            # A list would be empty for a run that is not there; this says so.
            client.get_flow_run(flow_run_id)
        found, more = runs.first(
            client.list_task_runs(wanted, page_size=runs.page_size(limit)), limit
        )
    if as_json:
        for run in found:
            output.write_json(output.as_json(run))
        return
    if not found:
        click.echo("No such task runs." if states or flow_run_id else "No task runs yet.", err=True)
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
