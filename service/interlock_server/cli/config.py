"""`interlock config`: the settings, where they come from, and those of a profile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from interlock_server.cli.configuration import (
    entries_of,
    find_profile,
    profile_option,
    quoted,
    read_configuration,
    refusals,
    warn_of_unknown,
)
from interlock_server.cli.text import safe

if TYPE_CHECKING:
    from interlock_server.configuration.catalogue import Plain, Setting
    from interlock_server.configuration.sources import Configuration


@click.group()
@profile_option
def config() -> None:
    """Look at the settings, and change those of a profile.

    What counts is a flag of the command, else the environment, else the profile, else the default.
    """


@config.command("set")
@click.argument("assignments", nargs=-1, required=True, metavar="NAME=VALUE...")
@profile_option
def set_values(assignments: tuple[str, ...]) -> None:
    """Set settings in the profile.

    All of them are checked before any is written.
    """
    values = dict(map(_assignment, assignments))
    store, profile = find_profile()
    with refusals():
        store.set(profile, {setting.name: value for setting, value in values.items()})
    for setting, value in values.items():
        click.echo(f"Set {_shown(setting, value)} in the profile {profile!r}.")
        _warn_where_overridden(setting)


def _assignment(text: str) -> tuple[Setting, Plain]:
    from interlock_server.configuration.sources import HOME_IN_PROFILE, check_value

    name, equals, value = text.partition("=")
    if not equals:
        # Not shown in full: it may be a password.
        raise click.UsageError(
            f"Give each setting as NAME=VALUE; the argument that begins with {safe(name[:9])!r} "
            "has no `=`."
        )
    setting = _setting(name)
    if setting.field == "home":
        raise click.UsageError(HOME_IN_PROFILE)
    with refusals():
        return setting, setting.plain(check_value(setting, value))


def _setting(name: str) -> Setting:
    from interlock_server.configuration.catalogue import find_setting
    from interlock_server.configuration.sources import unknown_name

    if (setting := find_setting(name)) is None:
        raise click.UsageError(unknown_name(safe(name)))
    return setting


def _warn_where_overridden(setting: Setting) -> None:
    for name in (setting.name, *setting.older_names):
        if os.environ.get(name):
            click.echo(
                f"Warning: The environment variable {name} is set, and goes before any profile.",
                err=True,
            )


@config.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@profile_option
def unset(names: tuple[str, ...], yes: bool) -> None:
    """Remove settings from the profile."""
    from interlock_server.configuration.profiles import keys_of

    store, profile = find_profile()
    entries = entries_of(store, profile)
    for name in names:
        if not keys_of(name, entries):
            # A key that is no setting can be removed all the same, where it is there.
            raise click.ClickException(
                f"{_setting(name).name} is not set in the profile {profile!r}."
            )
    keys = [key for name in names for key in keys_of(name, entries)]
    if not yes:
        click.confirm(
            f"Remove {', '.join(map(safe, keys))} from the profile {profile!r}?",
            abort=True,
            err=True,
        )
    with refusals():
        store.unset(profile, keys)
    click.echo(f"Removed {', '.join(map(safe, keys))} from the profile {profile!r}.")


@config.command()
@click.option("--show-sources/--hide-sources", default=True, help="Where each value comes from.")
@click.option("--show-defaults/--hide-defaults", default=False, help="Also what is not set.")
@click.option("--show-secrets", is_flag=True, help="Passwords in clear.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="One JSON object.")
@profile_option
def view(show_sources: bool, show_defaults: bool, show_secrets: bool, output: str | None) -> None:
    """Show the settings that a server started here would have."""
    configuration = read_configuration()
    rows = [
        (setting, value, source)
        for setting, value, source in _rows(configuration, show_secrets)
        if show_defaults or source != "default"
    ]
    if output == "json":
        import json

        settings = {
            setting.name: {"value": value} | ({"source": source} if show_sources else {})
            for setting, value, source in rows
        }
        click.echo(json.dumps({"profile": configuration.profile, "settings": settings}))
        return
    click.echo(f"INTERLOCK_PROFILE={configuration.profile!r}")
    for setting, value, source in rows:
        line = f"{setting.name}={quoted(value)}"
        if show_sources:
            meaning = f": {setting.default}" if value is None else ""
            line += f" (from {source}{meaning})"
        click.echo(line)


def _rows(
    configuration: Configuration, show_secrets: bool
) -> list[tuple[Setting, Plain | None, str]]:
    from interlock_server.configuration.catalogue import all_settings

    settings = configuration.settings
    # A default that depends on the home folder is shown as what it comes to.
    values = settings.__dict__ | {"home": settings.home_folder}
    values["admin_socket"] = settings.admin_socket_path
    values["database_connection_url"] = settings.database_connection_url or settings.database_url
    rows = []
    for field, setting in all_settings().items():
        value = values[field]
        if value is not None:
            value = setting.plain(value) if show_secrets else setting.masked(value)
        rows.append((setting, value, configuration.sources[field].value))
    return rows


@config.command()
@profile_option
def validate() -> None:
    """Check all settings, and point out what looks like one and is none.

    Nothing is connected. Exit codes: 0, all is well; 1, something is to be mended; 2, a value can
    not be used.
    """
    configuration = read_configuration()
    warn_of_unknown(configuration)
    problems = list(_problems(configuration))
    for problem in problems:
        click.echo(f"Warning: {problem}", err=True)
    for name in configuration.strangers:
        click.echo(f"Note: The environment variable {safe(name)} is no setting.", err=True)
    if problems or configuration.warnings:
        click.get_current_context().exit(1)
    click.echo(f"All is well. The profile in use is {configuration.profile!r}.")


def _problems(configuration: Configuration) -> list[str]:
    from interlock_server.storage.dialects import open_database
    from interlock_server.storage.errors import UnusableDatabaseError
    from interlock_server.storage.urls import with_password

    settings, problems = configuration.settings, []
    try:
        # No connection is made before it is needed.
        open_database(settings.database_url, settings.database_options)
    except UnusableDatabaseError as error:
        problems.append(str(error))
    url = settings.database_connection_url
    if settings.database_password is not None and (not url or with_password(url, "?") == url):
        problems.append(
            "INTERLOCK_DATABASE_PASSWORD has no effect: the database's URL has a password, or "
            "needs none."
        )
    if configuration.store.others_may_read():
        path = configuration.store.path
        problems.append(
            f"Other users of this machine may read {path}, which may hold passwords: "
            f"`chmod 600 {path}` ends that."
        )
    return problems


def _shown(setting: Setting, value: Plain) -> str:
    """Write a setting and its value for people, passwords masked."""
    return f"{setting.name}={quoted(setting.masked(value))}"
