"""The options that say which records of a run's log are wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from interlock_server.cli.log_lines import LEVELS, Look, log_level
from interlock_server.cli.text import safe
from interlock_server.cli.times import since as read_time

if TYPE_CHECKING:
    from interlock import Client
    from interlock.v1.log_pb2 import LogFilter

_TIMES = "so long ago (90s, 10m, 1h30m, 2d) or an ISO 8601 time."


@dataclass(frozen=True)
class WantedRecords:
    """Which records are wanted."""

    level: int = 0
    since: datetime | None = None
    until: datetime | None = None
    pattern: str | None = None
    regex: bool = False
    ignore_case: bool = False
    loggers: tuple[str, ...] = ()
    task_runs: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether all are."""
        return self == WantedRecords()

    def filter(self, client: Client, run_id: str) -> LogFilter:
        """Make the contract's filter. Raises ClickException for a task run that is not there."""
        from interlock.v1.log_pb2 import LogFilter
        from interlock.values import timestamp

        made = LogFilter(min_level=self.level, loggers=self.loggers)
        made.task_run_ids.extend(self._task_run_ids(client, run_id))
        if self.since is not None:
            made.since.CopyFrom(timestamp(self.since))
        if self.until is not None:
            made.until.CopyFrom(timestamp(self.until))
        if self.pattern is not None:
            if self.regex:
                made.text.regex = self.pattern
            else:
                made.text.substring = self.pattern
            made.text.ignore_case = self.ignore_case
        return made

    def _task_run_ids(self, client: Client, run_id: str) -> list[str]:
        if not self.task_runs:
            return []
        from interlock.v1.task_run_pb2 import TaskRunFilter

        found: list[str] = []
        for wanted in self.task_runs:
            inside = TaskRunFilter(flow_run_ids=[run_id])
            if _is_id(wanted):
                inside.ids.append(wanted)
            else:
                inside.any_of.add(names=[wanted])
                inside.any_of.add(task_keys=[wanted])
            ids = [each.id for each in client.list_task_runs(inside, page_size=1000)]
            if not ids:
                raise click.ClickException(
                    f"The flow run {safe(run_id)} has no task or task run {safe(wanted)}. "
                    f"`interlock task-run ls --flow-run {safe(run_id)}` lists them."
                )
            found += ids
        return found


def _is_id(text: str) -> bool:
    import uuid

    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def record_options(*, task_runs: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that say which records; it is called with `wanted`."""
    names = ", ".join(LEVELS.values()).lower()
    options = [
        click.option(
            "--level",
            callback=log_level,
            metavar="LEVEL",
            help=f"Only lines of at least this level: {names}, or a number.",
        ),
        click.option(
            "--since",
            callback=read_time,
            metavar="TIME",
            help=f"Only lines made since then: {_TIMES}",
        ),
        click.option(
            "--until",
            callback=read_time,
            metavar="TIME",
            help=f"Only lines made before then: {_TIMES}",
        ),
        click.option(
            "--grep", "pattern", metavar="TEXT", help="Only lines with this in their message."
        ),
        click.option(
            "-E", "--regex", is_flag=True, help="--grep is a regular expression (syntax of RE2)."
        ),
        click.option(
            "-i", "--ignore-case", is_flag=True, help="For --grep, capitals are no matter."
        ),
        click.option(
            "--logger",
            "loggers",
            multiple=True,
            metavar="NAME",
            help="Only lines of this logger and its children; repeatable.",
        ),
    ]
    if task_runs:
        options.append(
            click.option(
                "--task-run",
                "task_runs",
                multiple=True,
                metavar="TASK",
                help="Only lines of these task runs: a task, or the name or id of one task run; "
                "repeatable.",
            )
        )

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def called(
            level: int,
            since: datetime | None,
            until: datetime | None,
            pattern: str | None,
            regex: bool,
            ignore_case: bool,
            loggers: tuple[str, ...],
            task_runs: tuple[str, ...] = (),
            **others: Any,
        ) -> Any:
            if pattern is None and (regex or ignore_case):
                raise click.UsageError("-E and -i say how --grep looks: give --grep, too.")
            if since is not None and until is not None and since >= until:
                raise click.UsageError("--until is not later than --since: no line is between.")
            wanted = WantedRecords(
                level, since, until, pattern, regex, ignore_case, loggers, task_runs
            )
            return command(wanted=wanted, **others)

        for option in reversed(options):
            option(called)
        return called

    return give


def showing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how lines are shown; it is called with `look`."""

    @wraps(command)
    def called(as_json: bool, raw: bool, last: int | None, **others: Any) -> Any:
        return command(look=Look(as_json, raw, last), **others)

    for option in (
        click.option(
            "--raw",
            is_flag=True,
            help="Messages as they are, with whatever they do to the terminal.",
        ),
        click.option("--json", "as_json", is_flag=True, help="One JSON object a line."),
        click.option(
            "--tail", "last", type=click.IntRange(min=0), metavar="N", help="Only the last N lines."
        ),
        click.option(
            "-f", "--follow", is_flag=True, help="Go on until the run has ended and said all."
        ),
    ):
        option(called)
    return called
