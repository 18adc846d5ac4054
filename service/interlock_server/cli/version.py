"""`interlock version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

_PACKAGES = {
    "server": "interlock-server",
    "client": "interlock-client",
    "grpc": "grpcio",
    "protobuf": "protobuf",
    "sqlalchemy": "sqlalchemy",
}


@click.command("version")
def show_version() -> None:
    """Tell the versions of what is installed here."""
    import sqlite3

    found = {name: _version(package) for name, package in _PACKAGES.items()}
    found |= {"sqlite": sqlite3.sqlite_version, "python": platform.python_version()}
    for name, number in found.items():
        click.echo(f"{name:<12}{number}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
