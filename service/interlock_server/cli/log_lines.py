"""Log records as lines: how they look, and following them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

import click

from interlock_server.cli.connection import connected, following
from interlock_server.cli.text import safe, safe_message
from interlock_server.cli.times import moment

if TYPE_CHECKING:
    from interlock import Client
    from interlock.v1.log_pb2 import LogFilter, LogRecord

    from interlock_server.cli.log_options import WantedRecords

LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
_COLOURS = {10: "2", 20: "32", 30: "33", 40: "31", 50: "1;31"}
_HIT = "1;31"
_TASK_COLOURS = ("36", "33", "35", "34", "32", "96", "93", "95", "94", "92")
"""Of the task runs' names, in turn."""
_WIDEST = 24
"""Columns of the longest name that is shown whole; on a narrow terminal a fifth of it."""
_LONGEST = 16 * 1024 * 1024
"""Characters of a message that was split that are put together again."""
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


@dataclass(frozen=True)
class Look:
    """How lines are shown."""

    as_json: bool = False
    raw: bool = False
    last: int | None = None
    """Only so many of the last lines, to begin with; None: all."""


def show_log(target: str, run_id: str, wanted: WantedRecords, look: Look) -> None:
    """Print what there is."""
    with connected(target) as client:
        records = _what_is_there(client, run_id, wanted.filter(client, run_id), look)
        write = _writer(client, look)
        first = list(islice(records, _PAGE))
        write.foresee(first)
        for record in chain(first, records):
            write.write(record)
        write.end()
        if not first:
            has_a_log(client, run_id)
            _say_that_there_is_nothing(client, run_id, wanted)


def follow_log(target: str, run_id: str, wanted: WantedRecords, look: Look) -> None:
    """Print what there is and what comes, until the run has ended and said all; then say so."""
    from interlock.v1.log_pb2 import TAIL_END_SILENT

    with connected(target) as client:
        # Whether the server is there, and the run, is told at once. Later a server that goes away
        # is waited for, since a restart ends no run.
        filter_ = wanted.filter(client, run_id)
        last = [] if look.last is None else list(_what_is_there(client, run_id, filter_, look))
        start = last[-1].ordinal + 1 if last else 0
        if look.last == 0:
            newest = next(client.list_logs(run_id, descending=True, page_size=1), None)
            start = 0 if newest is None else newest.ordinal + 1
        else:
            next(client.list_logs(run_id, filter_, page_size=1), None)
    with following(target) as client:
        write = _writer(client, look)
        write.foresee(last)
        for record in last:
            write.write(record)
        tail = client.tail_logs(run_id, filter_, from_ordinal=start)
        sys.stdout.flush()
        for record in tail:
            write.write(record)
            sys.stdout.flush()
    write.end()
    sys.stdout.flush()
    why = (
        "it has ended, and nothing has come for a while from those who did not say they are done."
        if tail.end == TAIL_END_SILENT
        else "it has ended, and has said all."
    )
    click.echo(f"That is all of {run_id}: {why}", err=True)


def _what_is_there(
    client: Client, run_id: str, wanted: LogFilter, look: Look
) -> Iterator[LogRecord]:
    if look.last is None:
        yield from client.list_logs(run_id, wanted, page_size=_PAGE)
    elif look.last:
        newest = client.list_logs(run_id, wanted, descending=True, page_size=min(look.last, _PAGE))
        yield from reversed(list(islice(newest, look.last)))


def _say_that_there_is_nothing(client: Client, run_id: str, wanted: WantedRecords) -> None:
    """Tell a person why nothing is shown. Not on stdout: that is for the lines."""
    if next(client.list_logs(run_id, page_size=1), None) is None:
        click.echo("The run has no log lines.", err=True)
    elif not wanted.anything:
        click.echo("The run has no such log lines.", err=True)


def has_a_log(client: Client, run_id: str) -> None:
    """Find out whether a run has a log of its own.

    Raises NotFound; ClickException for a task run whose lines are in the log of its flow run.
    """
    from interlock import NotFound

    if next(client.list_logs(run_id, page_size=1), None) is not None:
        return
    try:
        flow_run_id = client.get_task_run(run_id).flow_run_id
    except NotFound:
        return  # It is a flow run.
    if flow_run_id:
        raise click.ClickException(
            f"{safe(run_id)} is a task run: its lines are in the log of flow run {flow_run_id}. "
            f"`interlock task-run logs {safe(run_id)}` shows them."
        )


class _Writer(Protocol):
    def foresee(self, records: Sequence[LogRecord]) -> None:
        """Hear of records to come, to leave room for the names in them."""

    def write(self, record: LogRecord) -> None:
        """Write a record."""

    def end(self) -> None:
        """Write what was kept back."""


def _writer(client: Client, look: Look) -> _Writer:
    if look.as_json:
        return _JsonLines()
    be_tolerant()
    return LogLines(client, colours=in_colour(), raw=look.raw)


def in_colour() -> bool:
    """Whether lines for people have colours: on a terminal, unless the person wants none."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def be_tolerant() -> None:
    """Have all that a message holds written: lone surrogates, what the terminal does not know."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


class _JsonLines:
    """Writes records for programs."""

    def foresee(self, records: Sequence[LogRecord]) -> None:
        """See `_Writer.foresee`."""

    def write(self, record: LogRecord) -> None:
        """See `_Writer.write`."""
        from interlock_server.cli.output import as_json, write_json

        write_json(as_json(record))

    def end(self) -> None:
        """See `_Writer.end`."""


class LogLines:
    """Writes records for people.

    Lines of task runs stand behind the task run's name, in a column that grows with the names and
    in a colour of each task run's own. A message that was split is written as one.
    """

    def __init__(self, client: Client, *, colours: bool, raw: bool) -> None:
        self._client = client
        self._colours = colours
        self._raw = raw
        self._names: dict[str, str] = {}
        self._width = 0
        narrow = shutil.get_terminal_size().columns // 5 if sys.stdout.isatty() else _WIDEST
        self._widest = max(min(_WIDEST, narrow), 8)
        self._begun: LogRecord | None = None
        self._parts: list[str] = []
        self._size = 0

    def foresee(self, records: Sequence[LogRecord]) -> None:
        """See `_Writer.foresee`."""
        for id_ in dict.fromkeys(record.task_run_id for record in records):
            if id_:
                self._name(id_)

    def write(self, record: LogRecord) -> None:
        """Write a record; the further lines of its message are indented."""
        begun = self._begun
        if begun is not None and not _goes_on(begun, record):
            self._put(" …")
        if self._begun is None:
            self._begun = record
        self._parts.append(record.message)
        self._size += len(record.message)
        if not record.continued:
            self._put("")
        elif self._size > _LONGEST:
            self._put(" …")

    def end(self) -> None:
        """See `_Writer.end`."""
        if self._begun is not None:
            self._put(" …")

    def write_found(self, record: LogRecord, hits: Any = None) -> None:
        """Write a record by itself, as a part where it is one.

        What `hits`, a pattern of RE2, finds in it is highlighted, in place of its own colours.
        """
        self._begun, self._parts = record, [record.message]
        self._put(" …" if record.continued else "", hits)

    def _put(self, mark: str, hits: Any = None) -> None:
        record, message = self._begun, "".join(self._parts)
        self._begun, self._parts, self._size = None, [], 0
        assert record is not None
        if hits is not None:
            message = safe_message(message, colours=False)
            message = hits.sub(lambda hit: self._paint(hit.group(), _HIT), message)
        elif not self._raw:
            message = safe_message(message, colours=self._colours)
        if not self._raw:
            message = message.replace("\n", "\n    ")
        words = [self._paint(moment(record.time), "2"), self._level(record.level)]
        if (column := self._task_column(record.task_run_id)) is not None:
            words.append(column)
        words += [self._paint(safe(record.logger) or "-", "36"), message]
        sys.stdout.write(f"{' '.join(words)}{self._paint(mark, '2') if mark else ''}\n")

    def _task_column(self, task_run_id: str) -> str | None:
        name = self._name(task_run_id) if task_run_id else ""
        if not self._width:
            return None
        if len(name) > self._width:
            name = name[: self._width - 1] + "…"
        padded = f"{name:<{self._width}} |"
        if not task_run_id:
            return padded
        place = list(self._names).index(task_run_id) if len(self._names) <= 100 else 0
        return self._paint(padded, _TASK_COLOURS[place % len(_TASK_COLOURS)])

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
            self._width = min(max(self._width, len(name)), self._widest)
        return name


def _goes_on(begun: LogRecord, record: LogRecord) -> bool:
    """Tell whether a record is the next part of a message that has begun."""
    return (
        record.task_run_id == begun.task_run_id
        and record.logger == begun.logger
        and record.level == begun.level
        and record.time == begun.time
    )
