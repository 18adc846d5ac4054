"""Who does the maintenance: the server that runs, or the same service in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from interlock_server.cli.connection import be_quiet, failure
from interlock_server.cli.migrations import Migrations, ServersMigrations, find_migrations

if TYPE_CHECKING:
    from interlock.admin.v1 import maintenance_pb2 as pb

    from interlock_server.rpc.maintenance_service import MaintenanceService
    from interlock_server.settings import Settings

M = TypeVar("M")


class Maintainer(Protocol):
    """The maintenance of one database. What fails ends the command, with words for people."""

    def shown_url(self) -> str:
        """Name the database, without passwords."""

    def backup(self, request: pb.BackupRequest) -> Iterator[pb.BackupResponse]:
        """Copy the database."""

    def vacuum(self) -> Iterator[pb.VacuumResponse]:
        """Give room back."""

    def check(self) -> Iterator[pb.CheckResponse]:
        """Check what is stored."""

    def prune(self, request: pb.PruneRequest) -> Iterator[pb.PruneResponse]:
        """Delete what is old."""


def find_maintainer(settings: Settings) -> Maintainer:
    """Answer the running server's, if it serves the database that is meant, else our own."""
    migrations = find_migrations(settings)
    if isinstance(migrations, ServersMigrations):
        return _Servers(settings.admin_socket_path, migrations)
    return _Own(settings, migrations)


class _Servers:
    """What the server at an admin socket does."""

    def __init__(self, address: Path, migrations: Migrations) -> None:
        be_quiet()
        import grpc
        from interlock.admin.v1.maintenance_pb2_grpc import MaintenanceServiceStub

        self._address = address
        self._migrations = migrations
        self._stub = MaintenanceServiceStub(grpc.insecure_channel(f"unix:{address}"))

    def shown_url(self) -> str:
        """See `Maintainer.shown_url`."""
        return self._migrations.status().database_url

    def backup(self, request: pb.BackupRequest) -> Iterator[pb.BackupResponse]:
        """See `Maintainer.backup`."""
        return self._events(self._stub.Backup(request))

    def vacuum(self) -> Iterator[pb.VacuumResponse]:
        """See `Maintainer.vacuum`."""
        from interlock.admin.v1 import maintenance_pb2 as pb

        return self._events(self._stub.Vacuum(pb.VacuumRequest()))

    def check(self) -> Iterator[pb.CheckResponse]:
        """See `Maintainer.check`."""
        from interlock.admin.v1 import maintenance_pb2 as pb

        return self._events(self._stub.Check(pb.CheckRequest()))

    def prune(self, request: pb.PruneRequest) -> Iterator[pb.PruneResponse]:
        """See `Maintainer.prune`."""
        return self._events(self._stub.Prune(request))

    def _events(self, call: Any) -> Iterator[Any]:
        import grpc
        from interlock.errors import from_rpc_error

        try:
            yield from call
        except grpc.RpcError as error:
            raise failure(from_rpc_error(error), str(self._address)) from None


_NO_CALL: Any = None
"""Stands for the gRPC call that there is none of: the service asks nothing of it."""


class _Own:
    """What the same service does in this process."""

    def __init__(self, settings: Settings, migrations: Migrations) -> None:
        self._settings = settings
        self._migrations = migrations

    def shown_url(self) -> str:
        """See `Maintainer.shown_url`."""
        return self._migrations.status().database_url

    def backup(self, request: pb.BackupRequest) -> Iterator[pb.BackupResponse]:
        """See `Maintainer.backup`. A server may serve the database meanwhile."""
        return self._events(lambda service: service.Backup(request, _NO_CALL))

    def vacuum(self) -> Iterator[pb.VacuumResponse]:
        """See `Maintainer.vacuum`. On SQLite no server may serve the database meanwhile."""
        from interlock.admin.v1 import maintenance_pb2 as pb

        return self._events(
            lambda service: service.Vacuum(pb.VacuumRequest(), _NO_CALL), changing=True
        )

    def check(self) -> Iterator[pb.CheckResponse]:
        """See `Maintainer.check`. A server may serve the database meanwhile."""
        from interlock.admin.v1 import maintenance_pb2 as pb

        return self._events(lambda service: service.Check(pb.CheckRequest(), _NO_CALL))

    def prune(self, request: pb.PruneRequest) -> Iterator[pb.PruneResponse]:
        """See `Maintainer.prune`. On SQLite no server may serve the database meanwhile."""
        return self._events(
            lambda service: service.Prune(request, _NO_CALL), changing=not request.dry_run
        )

    def _events(
        self, call: Callable[[MaintenanceService], AsyncIterator[M]], *, changing: bool = False
    ) -> Iterator[M]:
        # Says, too, why this process can not have a database, if it can not.
        self._migrations.status()
        # One event loop from the first event to the last: the work goes on while each is shown.
        with asyncio.Runner() as runner:
            events = self._served(call, changing)
            try:
                while True:
                    try:
                        event = runner.run(anext(events))
                    except StopAsyncIteration:
                        return
                    yield event
            finally:
                runner.run(events.aclose())

    async def _served(self, call: Callable[[MaintenanceService], Any], changing: bool) -> Any:
        async with self._service(changing) as service, aclosing(call(service)) as events:
            async for event in events:
                yield event

    @asynccontextmanager
    async def _service(self, changing: bool) -> AsyncIterator[MaintenanceService]:
        from interlock_server.core.errors import CallError
        from interlock_server.core.maintenance import Maintenance
        from interlock_server.rpc.maintenance_service import MaintenanceService
        from interlock_server.storage.dialects import open_database
        from interlock_server.storage.errors import StorageError, UnavailableError
        from interlock_server.storage.pipeline import Pipeline

        try:
            database = open_database(self._settings.database_url, self._settings.database_options)
            pipeline = Pipeline(database, lambda _: None)
            try:
                if not database.exists():
                    raise click.ClickException(
                        f"There is no database {database.shown_url}, and no server answers at "
                        f"{self._settings.admin_socket_path}."
                    )
                if changing:
                    database.claim()
                await database.check()
                pipeline.start()
                yield MaintenanceService(Maintenance(database, pipeline))
            finally:
                await pipeline.stop()
                await database.close()
        except UnavailableError as error:
            raise click.ClickException(f"The database can not be used now: {error}") from None
        except (StorageError, CallError) as error:
            raise click.ClickException(str(error)) from None
