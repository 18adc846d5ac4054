"""Histories of runs: how many there were, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from interlock_server.cli.connection import server_option
from interlock_server.cli.times import seconds
from interlock_server.cli.times import since as read_time

if TYPE_CHECKING:
    from interlock.v1.history_pb2 import HistoryBucket
    from interlock.v1.state_pb2 import StateType
    from rich.table import Table
    from rich.text import Text

_LINES = 24
"""How many there are where nobody says how long a bucket is, about."""

_LENGTHS = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 7 * 86_400)
"""Lengths of buckets, in seconds, that people like."""


def period(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which time, in which pieces."""
    options = [
        click.option(
            "--since",
            default="1d",
            show_default=True,
            callback=read_time,
            metavar="TIME",
            help="Where the first line begins: so long ago, or an ISO 8601 time.",
        ),
        click.option(
            "--until",
            callback=read_time,
            metavar="TIME",
            help="Where the last line ends; now, unless given.",
        ),
        click.option(
            "--interval",
            callback=lambda context, option, value: value and seconds(context, option, value),
            metavar="LENGTH",
            help=f"How much time a line is: 10m, 1h, 1d. What makes some {_LINES} lines, unless "
            "given.",
        ),
        click.option("--json", "as_json", is_flag=True, help="One JSON object a line."),
        server_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def pieces(
    since: datetime, until: datetime | None, interval: int | None
) -> tuple[datetime, datetime, timedelta]:
    """Answer the start, the end and the length of buckets; the start is a whole interval's."""
    end = until or datetime.now(UTC)
    if interval is None:
        wanted = (end - since).total_seconds() / _LINES
        interval = next((length for length in _LENGTHS if length >= wanted), _LENGTHS[-1])
    begin = since.timestamp()
    if interval > 0:
        begin -= begin % interval
    return datetime.fromtimestamp(begin, UTC), end, timedelta(seconds=interval)


def show(buckets: Iterable[HistoryBucket], as_json: bool) -> None:
    """Print what a history request was answered."""
    from interlock_server.cli import output

    if as_json:
        for bucket in buckets:
            output.write_json(output.as_json(bucket))
        return
    console = output.console()
    rows = list(buckets)
    table = _table(rows, together=False)
    # Numbers that are cut would be other numbers.
    if output.width(console, table) > console.width:
        table = _table(rows, together=True)
    console.print(table)


def _table(buckets: list[HistoryBucket], *, together: bool) -> Table:
    """Make the table, with a column for each type of states or with one for them all."""
    from google.protobuf.duration_pb2 import Duration

    from interlock_server.cli import output
    from interlock_server.cli.times import length, moment

    kinds = sorted({each.state_type for bucket in buckets for each in bucket.counts})
    columns = ["STATES"] if together else [output.type_name(kind) for kind in kinds]
    heads = ["FROM", "RUNS", *columns, "RUN TIME", "LATE"]
    right = tuple(head for head in heads[1:] if head != "STATES")
    table = output.table(*heads, flexible=("STATES",), right=right)

    def total(bucket: HistoryBucket, field: str) -> str:
        times = [getattr(each, f"total_{field}") for each in bucket.counts]
        seconds = sum(time.seconds + time.nanos / 1e9 for time in times)
        whole = int(seconds)
        return length(Duration(seconds=whole, nanos=int((seconds - whole) * 1e9)))

    def states(by_kind: dict[StateType.ValueType, int]) -> list[str | Text]:
        if together:
            return [output.counts(by_kind)]
        return [str(number) if number else "" for number in by_kind.values()]

    for bucket in buckets:
        by_kind = {
            kind: sum(each.count for each in bucket.counts if each.state_type == kind)
            for kind in kinds
        }
        count = sum(by_kind.values())
        table.add_row(
            moment(bucket.start_time)[:19],
            str(count) if count else "-",
            *states(by_kind),
            total(bucket, "estimated_run_time") if count else "",
            total(bucket, "lateness") if count else "",
        )
    return table
