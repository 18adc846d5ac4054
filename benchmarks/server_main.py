"""The `interlock` command with instruments, for benchmarks only: the product has none of this.

Its own options come first; the command's arguments follow behind `--`. On standard input it takes
the word `counts`, and answers on standard output with a line of JSON: what its commit pipeline has
done so far. It ends at once when its standard input does.

- `--commit-delay SECONDS`: SQLite waits so long before each COMMIT, as a slower disk would.
  (PostgreSQL can do that by itself: `commit_delay`.)
- `--count-statements`: counts the statements that the database is sent. It slows the server, so it
  is never on while something is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from interlock_server.cli.main import main
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.pipeline import Pipeline
from interlock_server.storage.postgresql.writer import PostgresqlWriter
from interlock_server.storage.sqlite import database as sqlite_database
from interlock_server.storage.sqlite import writer as sqlite_writer
from interlock_server.storage.steps import Write


class _Instruments:
    def __init__(self) -> None:
        self.pipelines: list[Pipeline] = []
        self.statements = 0

    def watch_pipelines(self) -> None:
        make: Any = Pipeline.__init__

        def noting(pipeline: Pipeline, *arguments: Any) -> None:
            make(pipeline, *arguments)
            self.pipelines.append(pipeline)

        setattr(Pipeline, "__init__", noting)  # noqa: B010 - mypy forbids the plain form

    def count_statements(self) -> None:
        def count(*_: object) -> None:
            self.statements += 1

        make_prepare = sqlite_database._preparing

        def preparing(options: DatabaseOptions) -> Callable[[Any, object], None]:
            prepare = make_prepare(options)

            def prepare_and_trace(connection: Any, record: object) -> None:
                prepare(connection, record)
                # Each row of an executemany is a statement of its own here.
                connection.run_async(lambda driver: driver.set_trace_callback(count))

            return prepare_and_trace

        sqlite_database._preparing = preparing
        connect = PostgresqlWriter.connect

        async def connect_and_log(writer: PostgresqlWriter) -> None:
            await connect(writer)
            writer._connection.add_query_logger(count)

        setattr(PostgresqlWriter, "connect", connect_and_log)  # noqa: B010

    def answer(self) -> None:
        for _ in sys.stdin:
            counts = {"time": time.monotonic(), "statements": float(self.statements)}
            for pipeline in self.pipelines:
                for name, number in asdict(pipeline.counts).items():
                    counts[name] = counts.get(name, 0) + number
            print(json.dumps(counts), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def _delay_sqlite_commits(seconds: float) -> None:
    commit = sqlite_writer._commit

    def waiting(steps: Iterable[Write]) -> Iterator[Write]:
        yield from steps
        time.sleep(seconds)

    sqlite_writer._commit = lambda connection, steps, position: commit(
        connection, waiting(steps), position
    )


def _run() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_main", description=__doc__)
    parser.add_argument("--commit-delay", type=float, default=0.0)
    parser.add_argument("--count-statements", action="store_true")
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args()
    instruments = _Instruments()
    instruments.watch_pipelines()
    if options.count_statements:
        instruments.count_statements()
    if options.commit_delay:
        _delay_sqlite_commits(options.commit_delay)
    threading.Thread(target=instruments.answer, name="instruments", daemon=True).start()
    main(options.arguments, prog_name="interlock")


if __name__ == "__main__":
    _run()
