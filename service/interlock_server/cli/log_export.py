"""`interlock logs export`: a run's log as a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from interlock_server.cli.connection import connected, server_option
from interlock_server.cli.log_lines import has_a_log
from interlock_server.cli.log_options import WantedRecords, record_options
from interlock_server.cli.text import safe

if TYPE_CHECKING:
    from interlock.v1.log_pb2 import LogRecord

_PAGE = 1000


@click.command("export", short_help="Write a run's log to a file.")
@click.argument("run_id", metavar="RUN_ID")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "jsonl"]),
    default="text",
    show_default=True,
    help="text: the messages as they were written, a line each. jsonl: all that is known of each "
    "record as a line of JSON; `logs import` makes the same records of it.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, whole or not at all; unless given, standard output.",
)
@click.option("--with-times", is_flag=True, help="text: put time and level before each message.")
@record_options()
@server_option
def export_log(
    run_id: str,
    form: str,
    output: Path | None,
    with_times: bool,
    wanted: WantedRecords,
    target: str,
) -> None:
    """Write the log of a run to a file.

    As text, what a program wrote comes out byte for byte: line ends (CRLF, too), colours, NUL and
    all. A message that was split is one line again.
    """
    if with_times and form != "text":
        raise click.UsageError("--with-times is for text: jsonl has times and levels in any case.")
    write = _json if form == "jsonl" else _text_with_times() if with_times else _text
    count = 0
    with connected(target) as client:
        has_a_log(client, run_id)
        # Before the file is touched: a run that is not there leaves no empty file.
        found = client.list_logs(run_id, wanted.filter(client, run_id), page_size=_PAGE)
        first = next(found, None)
        with _opened(output) as file:
            if first is not None:
                file.write(write(first))
                count = 1
            for record in found:
                file.write(write(record))
                count += 1
    if not count:
        such = "" if wanted.anything else "such "
        empty = "" if output is None else f" {safe(str(output))} is empty."
        click.echo(f"The run has no {such}log lines.{empty}", err=True)
    elif output is not None:
        click.echo(f"{count:,} records are in {safe(str(output))}.", err=True)


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """Open what is written to; a file appears only when it is whole.

    What is there and is no plain file (a device, a pipe) is written to as it is: to put a file in
    the place of /dev/null would harm the whole machine. Behind a link, what it names is replaced.
    """
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        if output.exists() and not output.is_file():
            with output.open("wb") as file:
                yield file
            return
        whole = output.resolve()
        part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                yield file
            part.replace(whole)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise click.ClickException(f"{safe(str(output))}: {error.strerror}") from None


def _json(record: LogRecord) -> bytes:
    from interlock_server.cli.log_files import as_json_line

    return as_json_line(record).encode()


def _text(record: LogRecord) -> bytes:
    return (record.message if record.continued else f"{record.message}\n").encode()


def _text_with_times() -> Callable[[LogRecord], bytes]:
    from interlock_server.cli.log_lines import LEVELS

    goes_on = False

    def write(record: LogRecord) -> bytes:
        nonlocal goes_on
        words = b""
        if not goes_on:
            level = LEVELS.get(record.level, str(record.level))
            words = f"{record.time.ToJsonString()} [{level}] ".encode()
        goes_on = record.continued
        return words + _text(record)

    return write
