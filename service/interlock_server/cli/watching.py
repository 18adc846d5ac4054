"""What happens to runs, as lines: how they look, and following them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from interlock_server.cli.connection import connected, following

if TYPE_CHECKING:
    from interlock.v1.run_event_pb2 import RunEvent, RunEventFilter

Write = Callable[["RunEvent"], None]


def watch(target: str, wanted: RunEventFilter, since: datetime | None, *, as_json: bool) -> None:
    """Print what happens, one line each, until someone ends it."""
    with connected(target) as client:
        # Whether the server is there is told at once. Later one that goes away is waited for.
        first = client.watch_runs(wanted, since=since)
        first.start()
    write = _write_json if as_json else _writer()
    with following(target) as client:
        for event in client.watch_runs(wanted, resume_token=first.resume_token):
            write(event)
            sys.stdout.flush()


def _write_json(event: RunEvent) -> None:
    from interlock_server.cli.output import as_json, write_json

    write_json(as_json(event))


def _writer() -> Write:
    from interlock.v1.run_event_pb2 import RUN_EVENT_TYPE_DELETED, RUN_KIND_TASK_RUN
    from rich.text import Text

    from interlock_server.cli.output import console, plain, state_word
    from interlock_server.cli.text import safe
    from interlock_server.cli.times import moment

    screen = console()

    def write(event: RunEvent) -> None:
        kind = "task run" if event.kind == RUN_KIND_TASK_RUN else "flow run"
        gone = event.type == RUN_EVENT_TYPE_DELETED
        words = [
            plain(moment(event.time), "dim"),
            Text(kind),
            Text(event.run_id),
            plain("deleted", "dim") if gone else state_word(event.state),
            plain(event.name, "bold"),
            plain(_why(event)),
        ]
        screen.print(Text(" ").join(word for word in words if word), soft_wrap=True)

    def _why(event: RunEvent) -> str:
        return safe(
            ": ".join(filter(None, (event.reason, event.explanation or event.state.message)))
        )

    return write
