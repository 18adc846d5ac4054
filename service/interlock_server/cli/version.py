"""`interlock version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from interlock_server.cli.configuration import profile_option, read_configuration

_PACKAGES = {
    "server": "interlock-server",
    "client": "interlock-client",
    "grpc": "grpcio",
    "protobuf": "protobuf",
    "sqlalchemy": "sqlalchemy",
    "alembic": "alembic",
    "asyncpg": "asyncpg",
    "aiosqlite": "aiosqlite",
}


@click.command("version")
@profile_option
def show_version() -> None:
    """Tell what a bug report needs: the versions, the machine, and where things are.

    Passwords are not shown.
    """
    import sqlite3

    facts = {name: _version(package) for name, package in _PACKAGES.items()}
    facts["sqlite"] = sqlite3.sqlite_version
    facts["python"] = f"{platform.python_version()} ({platform.python_implementation()})"
    facts["platform"] = platform.platform()
    facts |= _whereabouts()
    for name, value in facts.items():
        click.echo(f"{name:<12}{value}")


def _whereabouts() -> dict[str, str]:
    from interlock_server.storage.urls import parse_url, show_url

    configuration = read_configuration()
    settings = configuration.settings
    return {
        "home": str(settings.home),
        "profile": configuration.profile,
        "database": show_url(parse_url(settings.database_url)),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
