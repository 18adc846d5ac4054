"""The options that say which runs a command is about, and in which order it lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interlock_server.cli.times import since as read_time

if TYPE_CHECKING:
    from interlock.v1.flow_run_pb2 import FlowRunFilter, FlowRunOrder
    from interlock.v1.state_pb2 import StateType
    from interlock.v1.task_run_pb2 import TaskRunFilter, TaskRunOrder

F = TypeVar("F", "FlowRunFilter", "TaskRunFilter")

_TIMES = "so long ago (90s, 10m, 1h30m, 2d) or an ISO 8601 time."

ORDERS: Mapping[str, int] = {
    "newest": 1,
    "due": 2,
    "due-last": 3,
    "started": 4,
    "started-last": 5,
    "ended-last": 6,
    "next": 7,
    "name": 8,
    "name-last": 9,
}
"""What the contract's orders are called here; both kinds of runs number them alike."""

tag_option = click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="Only those with this tag; repeatable."
)
name_option = click.option(
    "--name", metavar="TEXT", help="Only those with this text in their name; case is no matter."
)


@dataclass(frozen=True)
class Wanted:
    """Which runs are wanted."""

    states: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def anything(self) -> bool:
        """Whether all runs are."""
        return self == Wanted()

    def filter(self, made: F) -> F:
        """Write it into a filter, and answer that."""
        from interlock.values import timestamp

        add_states(made, self.states)
        made.tags.all.extend(self.tags)
        made.name_contains = self.name or ""
        if self.since is not None:
            made.expected_start_time.after.CopyFrom(timestamp(self.since))
        if self.until is not None:
            made.expected_start_time.before.CopyFrom(timestamp(self.until))
        return made


def types_and_names(states: tuple[str, ...]) -> tuple[list[StateType.ValueType], list[str]]:
    """Tell the types of states from their names."""
    from interlock.values import state_type

    types, names = [], []
    for state in states:
        try:
            types.append(state_type(state))
        except ValueError:
            names.append(state)
    return types, names


def add_states(made: F, states: tuple[str, ...]) -> F:
    """Ask for types and for names; for either where both are given. Answers the filter."""
    types, names = types_and_names(states)
    if types and names:
        made.any_of.add(state_types=types)
        made.any_of.add(state_names=names)
    else:
        made.state_types.extend(types)
        made.state_names.extend(names)
    return made


def finding(times: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that say which runs; it is called with `wanted`.

    Without `times` the command has options of its own for those.
    """
    options = [
        click.option(
            "--state",
            "states",
            multiple=True,
            metavar="STATE",
            help="Only those in this state: a type (running, failed, ...) or an exact name "
            "(AwaitingRetry, ...); repeatable.",
        ),
        tag_option,
        name_option,
    ]
    if times:
        for option, words in (("--since", "since then"), ("--until", "until then")):
            options.append(
                click.option(
                    option,
                    callback=read_time,
                    metavar="TIME",
                    help=f"Only those first due {words}: {_TIMES}",
                )
            )

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def called(
            states: tuple[str, ...],
            tags: tuple[str, ...],
            name: str | None,
            **others: Any,
        ) -> Any:
            own = {key: others.pop(key) for key in ("since", "until") if times}
            return command(wanted=Wanted(states, tags, name, **own), **others)

        for option in reversed(options):
            option(called)
        return called

    return give


order_option = click.option(
    "--order",
    type=click.Choice(list(ORDERS)),
    default="newest",
    show_default=True,
    help="What comes first. What has no such time comes last.",
)


def flow_run_order(name: str) -> FlowRunOrder.ValueType:
    """Answer the contract's order of flow runs."""
    from interlock.v1.flow_run_pb2 import FlowRunOrder

    return FlowRunOrder.ValueType(ORDERS[name])


def task_run_order(name: str) -> TaskRunOrder.ValueType:
    """Answer the contract's order of task runs."""
    from interlock.v1.task_run_pb2 import TaskRunOrder

    return TaskRunOrder.ValueType(ORDERS[name])
