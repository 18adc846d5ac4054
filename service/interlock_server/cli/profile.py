"""`interlock profile`: named sets of settings."""

from __future__ import annotations

import os

import click

from interlock_server.cli.configuration import entries_of, find_profile, quoted, refusals
from interlock_server.cli.text import safe


@click.group()
def profile() -> None:
    """Keep sets of settings under names: one for each place that you work with."""


@profile.command()
def ls() -> None:
    """List the profiles; the one in use has a star."""
    store, used = find_profile()
    with refusals():
        names = sorted(store.read().profiles)
    for name in names:
        click.echo(f"{'*' if name == used else ' '} {safe(name)}")


@profile.command()
@click.argument("name")
@click.option("--from", "origin", metavar="NAME", help="Begin with the settings of this one.")
def create(name: str, origin: str | None) -> None:
    """Make a profile. `interlock profile use` makes it the active one."""
    store, _ = find_profile()
    values = entries_of(store, origin) if origin else {}
    with refusals():
        store.create(name, values)
    click.echo(f"Made the profile {name!r}.")


@profile.command()
@click.argument("name")
def use(name: str) -> None:
    """Make a profile the active one, for all commands that name no other."""
    store, _ = find_profile()
    with refusals():
        store.use(name)
    click.echo(f"The profile {name!r} is the active one.")
    if (other := os.environ.get("INTERLOCK_PROFILE")) and other != name:
        click.echo(
            "Warning: The environment variable INTERLOCK_PROFILE is set, and goes before it.",
            err=True,
        )


@profile.command()
@click.argument("name", required=False)
@click.option("--show-secrets", is_flag=True, help="Passwords in clear.")
def inspect(name: str | None, show_secrets: bool) -> None:
    """Show what a profile says; the one in use, where none is named."""
    from interlock_server.configuration.catalogue import MASK, find_setting

    store, used = find_profile()
    for key, value in entries_of(store, name or used).items():
        if not show_secrets:
            # What a key that is no setting was to be, nobody knows: it may be a password.
            setting = find_setting(key)
            value = MASK if setting is None else setting.masked(value)
        click.echo(f"{safe(key)}={quoted(value)}")


@profile.command()
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a profile, and all that it says."""
    store, _ = find_profile()
    with refusals():
        store.read().check_deletable(name)
    entries = entries_of(store, name)
    if not yes:
        click.confirm(
            f"Delete the profile {name!r} with its {len(entries)} settings?", abort=True, err=True
        )
    with refusals():
        store.delete(name)
    click.echo(f"Deleted the profile {name!r}.")
