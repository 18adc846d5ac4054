"""What the commands for flow runs and for task runs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interlock_server.cli.connection import server_option
from interlock_server.cli.finding import finding, order_option, types_and_names

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp
    from interlock import Client
    from interlock.v1.deployment_pb2 import Deployment
    from interlock.v1.flow_run_pb2 import FlowRun
    from interlock.v1.state_pb2 import StateType, Transition
    from interlock.v1.task_run_pb2 import TaskRun
    from rich.table import Table
    from rich.text import Text

T = TypeVar("T")

PAGE = 1000
"""The most that is asked for at once; the client asks again for more."""

state_option = click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help="Only those in this state: a type (running, failed, ...) or an exact name "
    "(AwaitingRetry, ...). Give it again for more of the same kind.",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How many at most.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def listing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of all lists of runs."""
    for option in (server_option, json_option, limit_option, order_option, finding()):
        command = option(command)
    return command


def state_filter(states: tuple[str, ...]) -> tuple[list[StateType.ValueType], list[str]]:
    """Tell the types from the names. Raises a usage error where both are given."""
    types, names = types_and_names(states)
    if types and names:
        raise click.UsageError(
            f"--state {names[0]} is the name of a state, others are types: give only one kind."
        )
    return types, names


def first(items: Iterator[T], limit: int) -> tuple[list[T], bool]:
    """Take the first items, and tell whether there are more."""
    found = list(islice(items, limit + 1))
    return found[:limit], len(found) > limit


def page_size(limit: int) -> int:
    """Answer how many items to ask for at once."""
    return min(limit + 1, PAGE)


def flow_names(client: Client, things: Iterable[FlowRun | Deployment]) -> dict[str, str]:
    """Read the names of the flows that some things belong to, by the flows' ids."""
    from interlock.v1.flow_pb2 import FlowFilter

    ids = sorted({thing.flow_id for thing in things})
    names: dict[str, str] = {}
    for start in range(0, len(ids), 100):
        part = FlowFilter(ids=ids[start : start + 100])
        names |= {flow.id: flow.name for flow in client.list_flows(part)}
    return names


def started(run: FlowRun | TaskRun) -> Text:
    """Say when a run started, or when it is due."""
    from interlock_server.cli.output import plain
    from interlock_server.cli.times import age

    now = datetime.now(UTC)
    if run.HasField("start_time"):
        return plain(age(run.start_time, now))
    if run.HasField("next_scheduled_start_time"):
        return plain(f"due {age(run.next_scheduled_start_time, now)}", "dim")
    return plain("-", "dim")


def took(run: FlowRun | TaskRun) -> str:
    """Say how long a run has run so far."""
    from interlock_server.cli.times import length

    return length(run.estimated_run_time) if run.HasField("start_time") else "-"


def attempts(run: FlowRun | TaskRun) -> str:
    """Say how often a run has run, and how often it may."""
    retries = run.retry_policy.max_retries
    return f"{run.run_count} of {retries + 1} at most" if retries else str(run.run_count)


def facts(pairs: Iterable[tuple[str, str | Text | None]]) -> Table:
    """Lay out names and values; those without a value are left out."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            grid.add_row(name, value)
    return grid


def times(
    run: FlowRun | TaskRun,
) -> Iterator[tuple[str, str | None]]:
    """Say all that is known of a run's times."""
    from interlock_server.cli.times import age, length, moment

    now = datetime.now(UTC)

    def at(name: str) -> str | None:
        time: Timestamp = getattr(run, name)
        return f"{moment(time)}  ({age(time, now)})" if run.HasField(name) else None  # type: ignore[arg-type]

    def lasting(duration: Duration) -> str | None:
        return length(duration) if duration.seconds or duration.nanos else None

    yield "created", at("create_time")
    yield "due", at("next_scheduled_start_time")
    yield "started", at("start_time")
    yield "ended", at("end_time")
    yield "run time", lasting(run.estimated_run_time)
    yield "late by", lasting(run.lateness)


def history(transitions: Iterable[Transition]) -> Table:
    """Lay out a run's history: what was proposed, what became of it, and by which rule."""
    from interlock_server.cli.output import plain, state_word, table
    from interlock_server.cli.times import moment

    lines = list(transitions)
    columns = ["TIME", "PROPOSED", "DECISION", "STATE", "RULE", "REASON"]
    if somebody := any(each.proposed_by for each in lines):
        columns.insert(2, "BY")
    made = table(*columns, flexible=("REASON",))
    for each in lines:
        state = state_word(each.state) if each.HasField("state") else plain("-", "dim")
        words = each.explanation or (each.state.message if each.HasField("state") else "")
        reason = ": ".join(filter(None, (each.reason, words)))
        verdict = _verdict(each)
        by = [plain(each.proposed_by)] if somebody else []
        rule = plain(each.rule or ("forced" if each.force else ""))
        made.add_row(
            moment(each.decide_time),
            plain(each.proposed_name),
            *by,
            verdict,
            state,
            rule,
            plain(reason),
        )
    return made


def _verdict(transition: Transition) -> Text:
    from interlock.v1.state_pb2 import Verdict

    from interlock_server.cli.output import plain

    colours = {Verdict.VERDICT_REJECT: "yellow", Verdict.VERDICT_ABORT: "red"}
    try:
        word = Verdict.Name(transition.verdict).removeprefix("VERDICT_").lower()
    except ValueError:
        word = str(int(transition.verdict))
    return plain(word, colours.get(transition.verdict, ""))


def and_more(more: bool, limit: int) -> None:
    """Tell a person that the list goes on. Not on stdout: that is for the list."""
    if more:
        click.echo(f"The first {limit}; there are more: see --limit.", err=True)
