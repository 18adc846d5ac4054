"""What all tables have in common: the console, how a state looks, and JSON for scripts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NoReturn

from google.protobuf.json_format import MessageToDict
from interlock.v1.state_pb2 import State, StateType
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from interlock_server.cli.text import safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

_WIDE = 10_000
"""Columns of what is no terminal: nothing is cut for whoever reads a pipe."""

_COLOURS: dict[int, str] = {
    StateType.STATE_TYPE_SCHEDULED: "yellow",
    StateType.STATE_TYPE_PENDING: "cyan",
    StateType.STATE_TYPE_RUNNING: "bold blue",
    StateType.STATE_TYPE_PAUSED: "magenta",
    StateType.STATE_TYPE_CANCELLING: "yellow",
    StateType.STATE_TYPE_CANCELLED: "bright_black",
    StateType.STATE_TYPE_COMPLETED: "green",
    StateType.STATE_TYPE_FAILED: "bold red",
    StateType.STATE_TYPE_CRASHED: "bold red",
}


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Let the command end as `interlock_server.cli.main` has it."""
        raise BrokenPipeError(32, "Broken pipe")


def console() -> Console:
    """Make the console of a command: colours and cut lines on a terminal only."""
    made = _Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDE
    return made


def table(*columns: str, flexible: tuple[str, ...] = (), right: tuple[str, ...] = ()) -> Table:
    """Make a table. Only `flexible` columns give way where the terminal is too narrow.

    Their cells wrap, or are cut where they were made by `cut`.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name not in flexible,
            overflow="fold",
            min_width=4,
        )
    return made


def width(console: Console, table: Table) -> int:
    """Answer how many columns of the terminal a table takes where nothing gives way."""
    return Measurement.get(console, console.options.update(max_width=_WIDE), table).maximum


def cut(text: str) -> Text:
    """Show a text from elsewhere in a flexible column, in one line."""
    return Text(safe(text), no_wrap=True, overflow="ellipsis")


def plain(text: str, style: str = "") -> Text:
    """Show a text from elsewhere as it is: no markup, no controls."""
    return Text(safe(text), style=style)


def state_word(state: State) -> Text:
    """Name a state, in the colour of its type."""
    return Text(safe(state.name), style=_COLOURS.get(state.type, ""))


def type_word(kind: StateType.ValueType) -> Text:
    """Name a type of states in its colour."""
    return Text(type_name(kind).capitalize(), style=_COLOURS.get(kind, ""))


def type_name(kind: StateType.ValueType) -> str:
    """Answer the type's own word, such as `RUNNING`; a number for one that is newer than this."""
    try:
        return StateType.Name(kind).removeprefix("STATE_TYPE_")
    except ValueError:
        return str(int(kind))


def counts(by_type: Mapping[StateType.ValueType, int]) -> Text:
    """Say how many there are of each type of states, without those of which there are none."""
    words = [
        Text.assemble(f"{count} ", type_word(kind)) for kind, count in by_type.items() if count
    ]
    return Text(", ").join(words)


def as_json(message: Message) -> dict[str, object]:
    """Make JSON of a message, with the names of the contract."""
    made: dict[str, object] = MessageToDict(message, preserving_proto_field_name=True)
    return made


def write_json(thing: object) -> None:
    """Write one JSON object on a line of its own."""
    sys.stdout.write(json.dumps(thing) + "\n")
