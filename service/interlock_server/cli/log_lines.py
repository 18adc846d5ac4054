"""Log records as lines: how they look, and following them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from interlock_server.cli.connection import connected, following
from interlock_server.cli.text import safe, safe_message
from interlock_server.cli.times import moment

if TYPE_CHECKING:
    from interlock import Client
    from interlock.v1.log_pb2 import LogFilter, LogRecord

LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
_COLOURS = {10: "2", 20: "32", 30: "33", 40: "31", 50: "1;31"}
_HIT = "1;31"
_PAGE = 1000


def log_level(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """Read a level by name or number; 0 for none. For click, as an option's callback."""
    if value is None:
        return 0
    numbers = {name: number for number, name in LEVELS.items()} | {"WARN": 30, "FATAL": 50}
    number = numbers.get(value.upper())
    if number is None and value.isdecimal() and len(value) < 6:
        number = int(value)
    if number is None:
        raise click.BadParameter(
            f"{value!r} is no level. Say {', '.join(LEVELS.values()).lower()}, or a number."
        )
    return number


def show_log(target: str, run_id: str, wanted: LogFilter, *, as_json: bool, raw: bool) -> None:
    """Print what there is."""
    with connected(target) as client:
        write = _writer(client, as_json=as_json, raw=raw)
        for record in client.list_logs(run_id, wanted, page_size=_PAGE):
            write(record)


def follow_log(target: str, run_id: str, wanted: LogFilter, *, as_json: bool, raw: bool) -> None:
    """Print what there is and what comes, until the run has ended and said all; then say so."""
    from interlock.v1.log_pb2 import TAIL_END_SILENT

    with connected(target) as client:
        # Whether the server is there, and the run, is told at once. Later a server that goes away
        # is waited for, since a restart ends no run.
        next(client.list_logs(run_id, wanted, page_size=1), None)
    with following(target) as client:
        write = _writer(client, as_json=as_json, raw=raw)
        tail = client.tail_logs(run_id, wanted)
        for record in tail:
            write(record)
            sys.stdout.flush()
    sys.stdout.flush()
    why = (
        "it has ended, and what had not said all has been silent for long."
        if tail.end == TAIL_END_SILENT
        else "it has ended, and has said all."
    )
    click.echo(f"That is all of {run_id}: {why}", err=True)


Write = Callable[["LogRecord"], None]


def _writer(client: Client, *, as_json: bool, raw: bool) -> Write:
    if as_json:
        from interlock_server.cli.output import as_json as to_json
        from interlock_server.cli.output import write_json

        return lambda record: write_json(to_json(record))
    be_tolerant()
    return LogLines(client, colours=sys.stdout.isatty(), raw=raw).write


def be_tolerant() -> None:
    """Have all that a message holds written: lone surrogates, what the terminal does not know."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


class LogLines:
    """Writes records for people."""

    def __init__(self, client: Client, *, colours: bool, raw: bool) -> None:
        self._client = client
        self._colours = colours
        self._raw = raw
        self._names: dict[str, str] = {}

    def write(self, record: LogRecord, hits: Any = None) -> None:
        """Write a record; the further lines of its message are indented.

        What `hits`, a pattern of RE2, finds in it is highlighted, in place of its own colours.
        """
        message = record.message
        if hits is not None:
            message = safe_message(message, colours=False)
            message = hits.sub(lambda hit: self._paint(hit.group(), _HIT), message)
        elif not self._raw:
            message = safe_message(message, colours=self._colours)
        if not self._raw:
            message = message.replace("\n", "\n    ")
        source = safe(record.logger) or "-"
        if record.task_run_id:
            source = f"{self._name(record.task_run_id)} {source}"
        goes_on = self._paint(" …", "2") if record.continued else ""
        sys.stdout.write(
            f"{self._paint(moment(record.time), '2')} {self._level(record.level)} "
            f"{self._paint(source, '36')} {message}{goes_on}\n"
        )

    def _level(self, level: int) -> str:
        known = max((each for each in LEVELS if each <= level), default=10)
        return self._paint(f"{LEVELS.get(level, str(level)):<8}", _COLOURS[known])

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and text else text

    def _name(self, task_run_id: str) -> str:
        """Name a task run; each is asked for once."""
        from interlock import NotFound

        name = self._names.get(task_run_id)
        if name is None:
            try:
                name = safe(self._client.get_task_run(task_run_id).name)
            except NotFound:
                # It was deleted; its lines stay.
                name = task_run_id
            self._names[task_run_id] = name
        return name
