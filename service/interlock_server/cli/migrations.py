"""The schema's service: the running server's, or the same one in this process where none runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Union

import click

from interlock_server.cli.connection import be_quiet, failure

if TYPE_CHECKING:
    from interlock.admin.v1.migration_pb2 import (
        DowngradeRequest,
        GetStatusResponse,
        ListRevisionsResponse,
        MigrationEvent,
        ResetRequest,
        StampRequest,
        StampResponse,
        UpgradeRequest,
    )

    from interlock_server.rpc.migration_service import MigrationService
    from interlock_server.settings import Settings

_PATIENCE = 30.0
"""Seconds to wait for the status: longer than the server itself waits for its database."""

Moving = Union["UpgradeRequest", "DowngradeRequest", "ResetRequest"]

Progress = Callable[["MigrationEvent"], None]

ANOTHER_MIGRATES = 5
"""The exit code where another migrator did not end in time."""


class MigrationRunning(click.ClickException):
    """Another migrator did not end in time."""

    exit_code = ANOTHER_MIGRATES


class Migrations(Protocol):
    """The schema of one database. What fails ends the command, with words for people."""

    def status(self) -> GetStatusResponse:
        """Tell where the schema stands."""

    def revisions(self) -> ListRevisionsResponse:
        """List the history."""

    def stamp(self, request: StampRequest) -> StampResponse:
        """Write down the revision."""

    def move(self, request: Moving, progress: Progress) -> None:
        """Upgrade, downgrade or reset, as the request says; `progress` hears of each step."""


def find_migrations(settings: Settings) -> Migrations:
    """Answer the service of the server that runs, if it serves the database that is meant."""
    own = OwnMigrations(settings)
    address = settings.admin_socket_path
    if not _listens(address):
        return own
    servers = ServersMigrations(address)
    if settings.database_connection_url and servers.status().database_url != own.shown_url:
        click.echo(f"The server at {address} serves another database: it is left alone.", err=True)
        return own
    return servers


def _listens(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(address))
        except PermissionError:
            raise click.ClickException(
                f"The admin socket {address} belongs to another user: run this as the user of the "
                "server."
            ) from None
        except OSError:
            return False
    return True


class ServersMigrations:
    """What the server at an admin socket answers."""

    def __init__(self, address: Path) -> None:
        be_quiet()
        import grpc
        from interlock.admin.v1.migration_pb2_grpc import MigrationServiceStub

        self._address = address
        self._stub = MigrationServiceStub(grpc.insecure_channel(f"unix:{address}"))

    def status(self) -> GetStatusResponse:
        """See `Migrations.status`."""
        from interlock.admin.v1.migration_pb2 import GetStatusRequest

        with self._failures():
            return self._stub.GetStatus(GetStatusRequest(), timeout=_PATIENCE)

    def revisions(self) -> ListRevisionsResponse:
        """See `Migrations.revisions`."""
        from interlock.admin.v1.migration_pb2 import ListRevisionsRequest

        with self._failures():
            return self._stub.ListRevisions(ListRevisionsRequest(), timeout=_PATIENCE)

    def stamp(self, request: StampRequest) -> StampResponse:
        """See `Migrations.stamp`."""
        with self._failures():
            return self._stub.Stamp(request)

    def move(self, request: Moving, progress: Progress) -> None:
        """See `Migrations.move`."""
        with self._failures():
            for answer in getattr(self._stub, _method(request))(request):
                progress(answer.event)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        import grpc
        from interlock.errors import from_rpc_error

        try:
            yield
        except grpc.RpcError as raised:
            error = from_rpc_error(raised)
            if error.reason == _RUNNING:
                raise MigrationRunning(error.message) from None
            raise failure(error, str(self._address)) from None


class OwnMigrations:
    """What the same service answers in this process."""

    def __init__(self, settings: Settings) -> None:
        from interlock_server.storage.errors import UnusableDatabaseError
        from interlock_server.storage.urls import is_in_memory, parse_url, show_url

        self._settings = settings
        try:
            url = parse_url(settings.database_url)
            self.shown_url, self._in_memory = show_url(url), is_in_memory(url)
        except UnusableDatabaseError as error:
            raise click.ClickException(str(error)) from None

    def status(self) -> GetStatusResponse:
        """See `Migrations.status`."""
        from interlock.admin.v1.migration_pb2 import GetStatusRequest

        async def ask() -> GetStatusResponse:
            async with self._service() as service:
                return await service.GetStatus(GetStatusRequest(), _NO_CALL)

        return asyncio.run(ask())

    def revisions(self) -> ListRevisionsResponse:
        """See `Migrations.revisions`."""
        from interlock.admin.v1.migration_pb2 import ListRevisionsRequest

        async def ask() -> ListRevisionsResponse:
            async with self._service() as service:
                return await service.ListRevisions(ListRevisionsRequest(), _NO_CALL)

        return asyncio.run(ask())

    def stamp(self, request: StampRequest) -> StampResponse:
        """See `Migrations.stamp`."""

        async def ask() -> StampResponse:
            async with self._service(changing=True) as service:
                return await service.Stamp(request, _NO_CALL)

        return asyncio.run(ask())

    def move(self, request: Moving, progress: Progress) -> None:
        """See `Migrations.move`. On SQLite no server may serve the database meanwhile."""

        async def apply() -> None:
            changing = not getattr(request, "dry_run", False)
            async with self._service(changing=changing) as service:
                async for answer in getattr(service, _method(request))(request, _NO_CALL):
                    progress(answer.event)

        asyncio.run(apply())

    @asynccontextmanager
    async def _service(self, *, changing: bool = False) -> AsyncIterator[MigrationService]:
        from interlock_server.core.errors import CallError
        from interlock_server.core.schema import Schema
        from interlock_server.rpc.migration_service import MigrationService
        from interlock_server.storage.dialects import open_database
        from interlock_server.storage.errors import StorageError, UnavailableError

        if self._in_memory:
            raise click.ClickException(
                f"The database {self.shown_url} lives in the memory of its server, where no other "
                "process can reach it, and that server does not answer at "
                f"{self._settings.admin_socket_path}. Start it with `interlock server start`, or "
                "use a database in a file."
            )
        try:
            database = open_database(self._settings.database_url, self._settings.database_options)
            try:
                if changing:
                    database.create()
                await database.check()
                yield MigrationService(Schema(database))
            finally:
                await database.close()
        except UnavailableError as error:
            raise click.ClickException(
                f"The database {self.shown_url} can not be reached: {error}"
            ) from None
        except CallError as error:
            if error.reason == _RUNNING:
                raise MigrationRunning(error.message) from None
            raise click.ClickException(str(error)) from None
        except StorageError as error:
            raise click.ClickException(str(error)) from None


def _method(request: Moving) -> str:
    """Name the method that a request is for."""
    return type(request).__name__.removesuffix("Request")


_RUNNING = "MIGRATION_RUNNING"

_NO_CALL: Any = None
"""Stands for the gRPC call that there is none of: MigrationService asks nothing of it."""
