"""`interlock logs search`: finding lines in the logs of many runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from interlock_server.cli.connection import connected, following, server_option
from interlock_server.cli.finding import add_states, tag_option
from interlock_server.cli.log_lines import (
    LEVELS,
    LogLines,
    be_tolerant,
    has_a_log,
    in_colour,
    log_level,
)
from interlock_server.cli.runs import json_option
from interlock_server.cli.text import safe
from interlock_server.cli.times import since as read_time

if TYPE_CHECKING:
    from interlock import Client, LogSearch
    from interlock.v1.flow_run_pb2 import FlowRunFilter
    from interlock.v1.log_pb2 import FoundLogRecord, LogFilter

_NOTHING_FOUND = 3

_TIMES = "so long ago (90s, 10m, 1h30m, 2d) or an ISO 8601 time."
_CONTEXT = click.IntRange(0, 100)


@click.command(short_help="Find lines in the logs of many runs.")
@click.argument("pattern")
@click.option(
    "-E", "--regex", is_flag=True, help="PATTERN is a regular expression (syntax of RE2)."
)
@click.option("-i", "--ignore-case", is_flag=True, help="Capitals and small letters are the same.")
@click.option("--flow", metavar="NAME", help="Only runs of the flow of this name.")
@click.option("--run", "run_ids", multiple=True, metavar="ID", help="Only this run; repeatable.")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help="Only runs in this state: a type (running, failed, ...) or an exact name; repeatable.",
)
@tag_option
@click.option(
    "--level",
    callback=log_level,
    metavar="LEVEL",
    help=f"Only lines of at least this level: {', '.join(LEVELS.values()).lower()}, or a number.",
)
@click.option(
    "--since", callback=read_time, metavar="TIME", help=f"Only lines made since then: {_TIMES}"
)
@click.option(
    "--until", callback=read_time, metavar="TIME", help=f"Only lines made before then: {_TIMES}"
)
@click.option(
    "--logger",
    "loggers",
    multiple=True,
    metavar="NAME",
    help="Only lines of this logger or its children; repeatable.",
)
@click.option(
    "-C", "--context", type=_CONTEXT, metavar="N", help="Show so many lines around each match."
)
@click.option(
    "-B", "--before", type=_CONTEXT, metavar="N", help="Show so many lines before each match."
)
@click.option(
    "-A", "--after", type=_CONTEXT, metavar="N", help="Show so many lines after each match."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    metavar="N",
    default=1000,
    show_default=True,
    help="How many matches at most.",
)
@json_option
@server_option
def search(
    pattern: str,
    regex: bool,
    ignore_case: bool,
    flow: str | None,
    run_ids: tuple[str, ...],
    states: tuple[str, ...],
    tags: tuple[str, ...],
    context: int | None,
    before: int | None,
    after: int | None,
    limit: int,
    as_json: bool,
    target: str,
    **lines: Any,
) -> None:
    """Find the lines in which PATTERN is, run by run, the youngest run first.

    Each run's name is a heading. With context, `--` stands between lines that are apart.

    Exit codes: 0, something was found; 1, it could not be done; 2, the command makes no sense; 3,
    nothing was found.
    """
    from interlock.v1.flow_run_pb2 import FlowRunFilter

    wanted = _filter(pattern, regex, ignore_case, **lines)
    chosen: FlowRunFilter | None = None
    if flow is not None or states or tags:
        if run_ids:
            raise click.UsageError("--run names the runs: leave --flow, --state and --tag out.")
        chosen = add_states(FlowRunFilter(), states)
        chosen.tags.all.extend(tags)
    with connected(target) as client:
        # Whether the server is there is told at once.
        client.get_server_info()
        for run_id in run_ids:
            has_a_log(client, run_id)
        if flow is not None and chosen is not None:
            chosen.flow_ids.append(client.get_flow(name=flow).id)
    with following(target) as client:
        found = client.search_logs(
            wanted,
            runs=run_ids,
            flow_runs=chosen,
            context_before=(before if before is not None else context) or 0,
            context_after=(after if after is not None else context) or 0,
            max_matches=limit,
        )
        write = _writer(client, wanted, as_json=as_json)
        for each in found:
            write(each)
    sys.stdout.flush()
    if found.damaged_parts:
        click.echo(
            f"{found.damaged_parts:,} parts of logs are damaged, and were passed over: see "
            "`interlock server database check`.",
            err=True,
        )
    click.echo(_summary(found, limit), err=True)
    if not found.matches:
        raise SystemExit(_NOTHING_FOUND)


def _filter(
    pattern: str,
    regex: bool,
    ignore_case: bool,
    *,
    level: int,
    since: datetime | None,
    until: datetime | None,
    loggers: tuple[str, ...],
) -> LogFilter:
    from interlock.v1.log_pb2 import LogFilter, TextPattern
    from interlock.values import timestamp

    if not pattern:
        raise click.BadParameter("It is empty: say what to look for.", param_hint="PATTERN")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--until is not later than --since: no line is between.")
    text = TextPattern(ignore_case=ignore_case)
    if regex:
        text.regex = pattern
    else:
        text.substring = pattern
    wanted = LogFilter(min_level=level, loggers=loggers, text=text)
    if since is not None:
        wanted.since.CopyFrom(timestamp(since))
    if until is not None:
        wanted.until.CopyFrom(timestamp(until))
    return wanted


def _summary(found: LogSearch, limit: int) -> str:
    from interlock.v1.log_pb2 import SEARCH_END_ALL_SEARCHED, SEARCH_END_ENOUGH_MATCHES

    said = f"{found.matches:,} found in {found.scanned:,} lines that were looked at"
    if found.end == SEARCH_END_ALL_SEARCHED:
        return f"{said}: that is all."
    if found.end == SEARCH_END_ENOUGH_MATCHES:
        return f"{said}. There may be more: see --limit."
    return f"{said}, which is enough for one search: say --since, or which runs."


def _writer(
    client: Client, wanted: LogFilter, *, as_json: bool
) -> Callable[[FoundLogRecord], None]:
    if as_json:
        from interlock_server.cli.output import as_json as to_json
        from interlock_server.cli.output import write_json

        return lambda found: write_json(to_json(found))
    be_tolerant()
    return _Groups(client, wanted, colours=in_colour()).write


class _Groups:
    """Writes what is found for people, run by run."""

    def __init__(self, client: Client, wanted: LogFilter, *, colours: bool) -> None:
        self._client = client
        self._colours = colours
        self._lines = LogLines(client, colours=colours, raw=False)
        self._wanted = wanted
        self._hits: Any = None
        self._run_id = ""
        self._next_ordinal = 0
        self._context = False

    def write(self, found: FoundLogRecord) -> None:
        """Write a record, behind the heading of its run where it is the first one."""
        record = found.record
        if self._colours and self._hits is None:
            # The server has taken it.
            self._hits = _hits(self._wanted)
        self._context = self._context or found.is_context
        if found.run_id != self._run_id:
            space = "\n" if self._run_id else ""
            sys.stdout.write(f"{space}{self._heading(found.run_id)}\n")
        elif self._context and record.ordinal != self._next_ordinal:
            sys.stdout.write("--\n")
        self._run_id, self._next_ordinal = found.run_id, record.ordinal + 1
        self._lines.write_found(record, None if found.is_context else self._hits)

    def _heading(self, run_id: str) -> str:
        from interlock import NotFound

        try:
            name = safe(self._client.get_flow_run(run_id).name)
        except NotFound:
            try:
                name = safe(self._client.get_task_run(run_id).name)
            except NotFound:  # It was deleted meanwhile.
                name = ""
        heading = f"{name} ({run_id})" if name else run_id
        return f"\x1b[1;35m{heading}\x1b[0m" if self._colours else heading


def _hits(wanted: LogFilter) -> Any:
    """Find what is highlighted, in the same way as the server."""
    import re2

    options = re2.Options()
    options.log_errors = False
    text = wanted.text
    flags = "(?mi)" if text.ignore_case else "(?m)"
    return re2.compile(flags + (text.regex or re2.escape(text.substring)), options)
