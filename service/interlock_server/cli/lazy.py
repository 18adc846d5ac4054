"""Groups of commands that are imported only when they are called: `--help` answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Listed:
    """Where a command is (`package.module:name`), and what the group's help says of it."""

    home: str
    help: str


class LazyGroup(click.Group):
    """A group that knows of its commands no more than their names, homes and help."""

    def __init__(self, *args: Any, listed: Mapping[str, Listed], **options: Any) -> None:
        super().__init__(*args, **options)
        self._listed = listed

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the list."""
        return [*self._listed, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        listed = self._listed.get(cmd_name)
        if listed is None:
            return super().get_command(ctx, cmd_name)
        module, name = listed.home.split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        rows = [(name, listed.help) for name, listed in self._listed.items()]
        rows += [
            (name, command.get_short_help_str(formatter.width))
            for name, command in sorted(self.commands.items())
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
