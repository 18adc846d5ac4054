"""`interlock logs import`: a log file into the log of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from interlock_server.cli.connection import connected, failure, following, server_option
from interlock_server.cli.text import safe

if TYPE_CHECKING:
    from interlock import Client
    from interlock.log_columns import Line
    from interlock.logs import LogWriter

    from interlock_server.cli.log_files import TextCounts

_LOGGER = "import"
"""The logger of records whose file names none."""

_GZIP = "\x1f\ufffd\x08"
"""What every file of gzip begins with, read as UTF-8; no line of a log does."""

_TERMINAL_INTERVAL, _PLAIN_INTERVAL = 0.2, 5.0
"""Seconds between two lines of progress on a terminal, and elsewhere."""

_PATIENCE = 5.0
"""Seconds for which nothing goes on before that is said."""


@click.command("import", short_help="Read a log file into a run's log.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--run", "run_id", metavar="ID", help="Append to the log of this run.")
@click.option("--flow", metavar="NAME", help="Make a run of this flow for it, and complete it.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "text", "jsonl"]),
    default="auto",
    show_default=True,
    help="text: each line is a record. jsonl: what `logs export --format jsonl` wrote.",
)
@click.option("--logger", default=_LOGGER, show_default=True, help="text: the records' logger.")
@click.option("--utc", is_flag=True, help="text: times that name no zone are UTC, not local.")
@server_option
def import_log(
    file: str,
    run_id: str | None,
    flow: str | None,
    form: str,
    logger: str,
    utc: bool,
    target: str,
) -> None:
    """Read a log FILE into the log of a run; - is standard input. Prints the run's id.

    Of a text file each line becomes a record, with the line as it is for its message. Its time and
    level are those that it begins with, in the usual forms (ISO 8601, HTCondor, syslog, log4j,
    Python's logging, seconds since 1970, [LEVEL]); else those of the line before it.

    A file that is imported twice is in the log twice.
    """
    if (run_id is None) == (flow is None):
        raise click.UsageError("Say where to: either --run ID or --flow NAME.")
    from interlock import InterlockError
    from interlock.logs import LogWriter

    from interlock_server.cli.log_files import LogFileError, TextCounts

    counts = TextCounts()
    name = "stdin" if file == "-" else Path(file).name
    with connected(target) as client, _opened(file) as (opened, changed):
        made = ""
        if flow is not None:
            run_id = made = client.create_flow_run(client.create_flow(flow), name=name).id
            client.set_flow_run_state(made, "running")
        assert run_id is not None
        # Before anything is read: a run that is not there is told at once.
        next(client.list_logs(run_id, page_size=1), None)
        tasks = _TaskRuns(client, run_id)
        lines = _lines(opened, changed, form, logger, utc, counts)
        count, refused = 0, []
        progress = _Progress()
        try:
            with LogWriter(
                target, on_refused=lambda batch, records: refused.append(records)
            ) as writer:
                for line in lines:
                    _write(writer, run_id, tasks.known(line), progress)
                    count += 1
                    progress.tell(count)
                if count:
                    writer.end_run(run_id)
                while not writer.flush(_PATIENCE):
                    progress.wait(writer)
        except LogFileError as error:
            _give_up(target, made, str(error))
            kept = f" What is before it is in the log of {run_id}." if count else ""
            raise click.ClickException(f"{safe(str(error))}{kept}") from None
        except KeyboardInterrupt:
            _give_up(target, made, "The import was interrupted.")
            raise
        except InterlockError as error:
            with suppress(InterlockError):
                _give_up(target, made, str(error))
            raise failure(error, target) from None
        finally:
            progress.end()
    if made:
        with following(target) as client:
            client.set_flow_run_state(made, "completed", message=f"{count:,} records imported")
    for words in _notes(count - sum(refused), counts, tasks.unknown):
        click.echo(words, err=True)
    click.echo(run_id)
    if refused:
        raise click.ClickException(f"{sum(refused):,} records were refused; see above.")


def _write(writer: LogWriter, run_id: str, line: Line, progress: _Progress) -> None:
    """Write a record, however long it takes, and say so where it takes long."""
    while True:
        try:
            return writer.write(run_id, line, timeout=_PATIENCE)
        except TimeoutError:
            progress.wait(writer)


def _give_up(target: str, made: str, why: str) -> None:
    if made:
        with following(target) as client:
            client.set_flow_run_state(made, "failed", message=why)


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, datetime]]:
    """Open a file, and answer when it was changed last."""
    if file == "-":
        yield sys.stdin.buffer, datetime.now(UTC)
        return
    try:
        with Path(file).open("rb") as opened:
            yield opened, datetime.fromtimestamp(Path(file).stat().st_mtime, UTC)
    except OSError as error:
        raise click.ClickException(f"{safe(file)}: {error.strerror}") from None


def _lines(
    file: BinaryIO, changed: datetime, form: str, logger: str, utc: bool, counts: TextCounts
) -> Iterator[Line]:
    from itertools import chain

    from interlock_server.cli.line_recognition import recognizer
    from interlock_server.cli.log_files import (
        LogFileError,
        from_json_line,
        looks_like_json_lines,
        pieces,
        text_lines,
        whole_lines,
    )

    given = pieces(file, counts)
    first = next(given, None)
    if first is None:
        return
    if form == "auto" and first[0].startswith(_GZIP):
        raise LogFileError("The file is compressed: zcat FILE | interlock logs import - ...")
    given = chain([first], given)
    if form == "jsonl" or (form == "auto" and looks_like_json_lines(first[0])):
        for number, text in enumerate(whole_lines(given), 1):
            if text.strip():
                yield from_json_line(text, number)
        return
    start = int(changed.timestamp() * 1_000_000)
    zone = UTC if utc else None
    yield from text_lines(given, recognizer(start, zone, changed), logger)


class _TaskRuns:
    """Which task runs a file names are there; the records of others go without."""

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._known: dict[str, bool] = {"": True}
        self.unknown = 0
        """How many records named a task run that is not part of the run."""

    def known(self, line: Line) -> Line:
        """Answer a record, without its task run where the run has no such one."""
        id_ = line.task_run_id
        if id_ not in self._known:
            self._known[id_] = self._is_there(id_)
        if self._known[id_]:
            return line
        self.unknown += 1
        return line._replace(task_run_id="")

    def _is_there(self, id_: str) -> bool:
        from interlock import InvalidArgument, NotFound

        try:
            return self._client.get_task_run(id_).flow_run_id == self._run_id
        except (NotFound, InvalidArgument):
            return False


def _notes(count: int, counts: TextCounts, unknown: int) -> Iterator[str]:
    """Say what was imported, and what is not as it was in the file."""
    yield f"{count:,} records are in the log." if count else "The file has no lines."
    if counts.replaced:
        yield (
            f"{counts.replaced:,} lines held bytes that are no UTF-8: U+FFFD stands in their place."
        )
    if counts.with_cr:
        yield f"{counts.with_cr:,} lines end with CRLF; the CR is part of their message."
    if counts.last_is_open:
        yield "The last line has no newline; an export will end with one."
    if unknown:
        yield f"{unknown:,} records named task runs that the run does not have, and go without."


class _Progress:
    """Tells on stderr how far it is."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._interval = _TERMINAL_INTERVAL if self._terminal else _PLAIN_INTERVAL
        self._told_at = time.monotonic()
        self._told = False

    def tell(self, count: int) -> None:
        """Hear of a record."""
        if count % 256 or time.monotonic() - self._told_at < self._interval:
            return
        self._told, self._told_at = True, time.monotonic()
        end = "" if self._terminal else "\n"
        sys.stderr.write(f"{chr(13) if self._terminal else ''}{count:,} records{end}")
        sys.stderr.flush()

    def wait(self, writer: LogWriter) -> None:
        """Hear that nothing has gone on for some seconds."""
        self.end()
        delivered = writer.statistics.delivered
        sys.stderr.write(f"{delivered:,} records are in the log; waiting for the server ...\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._told and self._terminal:
            sys.stderr.write("\n")
