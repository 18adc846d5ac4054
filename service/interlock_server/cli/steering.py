"""`interlock flow-run pause | resume | cancel`, and `explain` for both kinds of runs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock_server.cli import runs
from interlock_server.cli.connection import connected, server_option
from interlock_server.cli.times import seconds

if TYPE_CHECKING:
    from interlock.inputs import JsonText
    from interlock.v1.explanation_pb2 import Cause, Explanation
    from interlock.v1.state_pb2 import Decision
    from rich.text import Text

_run_id = click.argument("run_id", metavar="ID")
_json = click.option(
    "--json", "as_json", is_flag=True, help="The whole answer, as one JSON object."
)


def _read_json(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> JsonText | None:
    from interlock.inputs import JsonText

    if value is None:
        return None
    if value == "-":
        return JsonText(sys.stdin.read())
    if value.startswith("@"):
        try:
            return JsonText(Path(value[1:]).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{value[1:]} can not be read: {error}") from None
    return JsonText(value)


@click.command(short_help="Ask a running flow run to pause.")
@_run_id
@click.option(
    "--timeout",
    callback=lambda context, parameter, value: value and seconds(context, parameter, value),
    metavar="LENGTH",
    help="How long it may last before the run fails: 90s, 30m, 2d. 5m unless given.",
)
@click.option("--suspend", is_flag=True, help="End its process; it is scheduled again on resume.")
@click.option("--key", default="", help="Names the place in its code; fires once an attempt.")
@click.option(
    "--schema",
    callback=_read_json,
    metavar="JSON",
    help="The JSON Schema of the input to resume it with; @FILE reads a file.",
)
@click.option("--message", default="", help="Words for people: what is being waited for.")
@_json
@server_option
def pause(
    run_id: str,
    timeout: int | None,
    suspend: bool,
    key: str,
    schema: JsonText | None,
    message: str,
    as_json: bool,
    target: str,
) -> None:
    """Ask a running flow run to pause, until it is resumed."""
    from interlock.v1.state_pb2 import VERDICT_ACCEPT

    with connected(target) as client:
        decision = client.pause_flow_run(
            run_id, timeout=timeout, reschedule=suspend, key=key, schema=schema, message=message
        )
    _tell(run_id, decision, as_json, done=decision.verdict == VERDICT_ACCEPT)


@click.command(short_help="Let a paused flow run go on.")
@_run_id
@click.option(
    "--input",
    "given",
    callback=_read_json,
    metavar="JSON",
    help="What the pause asks for; @FILE reads a file, - the standard input.",
)
@_json
@server_option
def resume(run_id: str, given: JsonText | None, as_json: bool, target: str) -> None:
    """Let a paused flow run go on, with the input that its pause asks for, if it does.

    `interlock flow-run explain ID` tells which input that is.
    """
    from interlock.inputs import NOTHING
    from interlock.v1.state_pb2 import VERDICT_ACCEPT

    with connected(target) as client:
        decision = client.resume_flow_run(run_id, NOTHING if given is None else given)
    _tell(run_id, decision, as_json, done=decision.verdict == VERDICT_ACCEPT)


@click.command(short_help="Ask for a flow run to be stopped.")
@_run_id
@click.option("--message", default="", help="Words for people: why.")
@_json
@server_option
def cancel(run_id: str, message: str, as_json: bool, target: str) -> None:
    """Ask for a flow run to be stopped; one that nothing runs yet is cancelled at once."""
    from interlock.v1.state_pb2 import (
        STATE_TYPE_CANCELLED,
        STATE_TYPE_CANCELLING,
        VERDICT_ABORT,
    )

    with connected(target) as client:
        decision = client.cancel_flow_run(run_id, message=message)
    stops = decision.state.type in (STATE_TYPE_CANCELLING, STATE_TYPE_CANCELLED)
    _tell(run_id, decision, as_json, done=stops and decision.verdict != VERDICT_ABORT)


def _tell(run_id: str, decision: Decision, as_json: bool, *, done: bool) -> None:
    """Say what became of a proposal; where it was not done that ends the command."""
    from interlock_server.cli import output
    from interlock_server.cli.text import safe

    if as_json:
        output.write_json(output.as_json(decision))
    if not done:
        words, name = decision.explanation, decision.state.name
        # Most explanations name the state already.
        state = f" (it is {safe(name)})" if name and name not in words else ""
        raise click.ClickException(f"{decision.reason}: {safe(words)}{state}")
    if not as_json:
        output.console().print(
            output.plain(f"{run_id} is "), output.state_word(decision.state), sep="", end=".\n"
        )


# --- explain --------------------------------------------------------------------------------------


@click.command(short_help="Say what a flow run waits for, or why it ended.")
@_run_id
@_json
@server_option
def explain_flow_run(run_id: str, as_json: bool, target: str) -> None:
    """Say what a flow run waits for, or why it ended as it did."""
    with connected(target) as client:
        told = client.explain_flow_run(run_id)
    _show(told, as_json)


@click.command(short_help="Say what a task run waits for, or why it ended.")
@_run_id
@_json
@server_option
def explain_task_run(run_id: str, as_json: bool, target: str) -> None:
    """Say what a task run waits for, or why it ended as it did."""
    with connected(target) as client:
        told = client.explain_task_run(run_id)
    _show(told, as_json)


def _show(told: Explanation, as_json: bool) -> None:
    from interlock_server.cli import output

    if as_json:
        output.write_json(output.as_json(told))
        return
    console = output.console()
    if told.HasField("state"):
        console.print(output.state_word(told.state))
    console.print()
    console.print(runs.facts([(cause.reason, _words(cause)) for cause in told.causes]))


def _words(cause: Cause) -> Text:
    from interlock_server.cli import output
    from interlock_server.cli.times import age, moment

    words = [cause.explanation]
    if cause.HasField("until_time"):
        now = datetime.now(UTC)
        words.append(f"until {moment(cause.until_time)}  ({age(cause.until_time, now)})")
    if cause.resource_id:
        words.append(f"{cause.resource_type.replace('_', ' ')} {cause.resource_id}")
    text = output.plain(words[0])
    for more in words[1:]:
        text.append("\n")
        text.append(output.plain(more, "dim"))
    return text
