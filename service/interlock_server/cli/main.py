"""The `interlock` command: its commands by name, and how it ends."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, NoReturn

import click

from interlock_server.cli.configuration import profile_option
from interlock_server.cli.lazy import LazyGroup, Listed

_BY_SIGNAL = 128
"""A command that a signal ended exits with this and the signal's number, as shells have it."""
_INTERRUPTED, _BROKEN_PIPE = _BY_SIGNAL + 2, _BY_SIGNAL + 13


class _Interlock(LazyGroup):
    """The outermost group: it ends quietly where a person or a pipe ended it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
            return answer
        except KeyboardInterrupt:
            _end_interrupted(ctx)
        except RuntimeError as error:
            # Where Ctrl-C meets a thread that is just about to wait, the lock that it waits with
            # complains first.
            # (Click's own ways to end are RuntimeErrors, too: they pass.)
            if type(error) is not RuntimeError or not isinstance(
                error.__context__, KeyboardInterrupt
            ):
                raise
            _end_interrupted(ctx)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ENOSPC):
                raise
            # What is still buffered goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno == errno.ENOSPC:
                raise click.ClickException(f"Not all could be written: {error.strerror}.") from None
            # Whoever read has enough (`| head`).
            ctx.exit(_BROKEN_PIPE)


def _end_interrupted(ctx: click.Context) -> NoReturn:
    # The shell's prompt does not begin behind a half line.
    if sys.stderr.isatty():
        click.echo(err=True)
    ctx.exit(_INTERRUPTED)


@click.group(
    cls=_Interlock,
    listed={
        "server": Listed("interlock_server.cli.server:server", "Run the server."),
        "deployment": Listed(
            "interlock_server.cli.deployments:deployment", "Look at deployments, make them."
        ),
        "flow": Listed("interlock_server.cli.flows:flow", "Look at flows."),
        "flow-run": Listed(
            "interlock_server.cli.flow_runs:flow_run", "Look at flow runs, and steer them."
        ),
        "task-run": Listed("interlock_server.cli.task_runs:task_run", "Look at task runs."),
        "logs": Listed("interlock_server.cli.logs:logs", "Search, export, import, delete logs."),
        "replay": Listed(
            "interlock_server.cli.replay:replay", "Play a recorded run against a server."
        ),
        "config": Listed("interlock_server.cli.config:config", "Look at settings, and set them."),
        "profile": Listed("interlock_server.cli.profile:profile", "Keep sets of settings."),
        "version": Listed("interlock_server.cli.version:show_version", "Tell the versions."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@profile_option
def main() -> None:
    """Track the runs of a fleet of workflow workers.

    Exit codes: 0, all is well; 1, it could not be done; 2, the command makes no sense. Some
    commands have more: see their help.
    """
