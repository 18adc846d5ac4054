"""The server: its listeners, its services, its start and its end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from interlock_server.background.health import HealthLoop, Problem
from interlock_server.background.loops import LoopOptions, Loops
from interlock_server.core.engine import Engine
from interlock_server.core.errors import CallError
from interlock_server.core.maintenance import Maintenance
from interlock_server.core.schema import MIGRATION_RUNNING, Schema
from interlock_server.rpc import log_records
from interlock_server.rpc.deployment_service import DeploymentService
from interlock_server.rpc.flow_run_service import FlowRunService
from interlock_server.rpc.flow_service import FlowService
from interlock_server.rpc.interceptors import Gate, interceptors
from interlock_server.rpc.limits import MAX_MESSAGE_BYTES
from interlock_server.rpc.log_service import LogService
from interlock_server.rpc.maintenance_service import MaintenanceService
from interlock_server.rpc.migration_service import MigrationService
from interlock_server.rpc.registration import generic_handler
from interlock_server.rpc.run_event_service import RunEventService
from interlock_server.rpc.run_heartbeat_service import RunHeartbeatService
from interlock_server.rpc.server_service import ServerService
from interlock_server.rpc.status import NotServingError
from interlock_server.rpc.task_run_service import TaskRunService
from interlock_server.storage.database import Database
from interlock_server.storage.errors import UnavailableError, UnusableDatabaseError

_PATIENCE = 10.0
"""Seconds that a start waits for another server to build the schema. After that it goes on without,
and looks again every now and then."""

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # One server a port: a second one is told, instead of sharing the calls.
    ("grpc.so_reuseport", 0),
    # Clients may ping every 10 s on idle streams: tails and log streams are idle for long.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]

log = structlog.get_logger(__name__)


class CanNotListenError(Exception):
    """An address that the server can not listen on; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server listens. `port` 0 stands for any free one."""

    host: str
    port: int
    admin_socket: Path


class Server:
    """One server process: the data services, and the admin services on a socket of their own."""

    def __init__(
        self,
        database: Database,
        addresses: Addresses,
        *,
        grace: float,
        loops: LoopOptions | None = None,
    ) -> None:
        """`grace` is how long, in seconds, running calls have to end when the server stops."""
        self._grace = grace
        self._addresses = addresses
        self._engine = Engine(database)
        loops = loops or LoopOptions()
        self._loops = Loops(self._engine, loops, log_records.join)
        self._patience = loops.patience
        self._schema = Schema(database, self._step_aside)
        self._gate = Gate()
        self._health = health_aio.HealthServicer()
        self._health_loop = HealthLoop(self._schema, self._prepare_database, self._report)
        self._data = grpc.aio.server(options=_OPTIONS)
        self._admin = grpc.aio.server(options=_OPTIONS)
        self._service_names: list[str] = []
        self._prepared = False

    async def start(self) -> int:
        """Listen, and answer the port. Migrates a database that is empty.

        Raises UnusableDatabaseError, CanNotListenError. A schema that can not be served is no
        error: calls are answered UNAVAILABLE until it can.
        """
        try:
            await self._prepare_database()
        except UnavailableError as error:
            log.warning("database_unavailable", error=str(error))
        self._register()
        port = self._bind()
        await self._health_loop.look()
        await self._data.start()
        old_mask = os.umask(0o177)
        try:
            await self._admin.start()
        finally:
            os.umask(old_mask)
        self._health_loop.start()
        return port

    async def _prepare_database(self) -> None:
        if self._prepared:
            return
        database = self._engine.database
        database.create()
        await database.check()
        database.claim()
        status = await self._schema.status()
        if status.current and not status.servable:
            # Perhaps another server, started at the same time, is in the midst of building it.
            await self._schema.settle(_PATIENCE)
        elif not status.current:
            try:
                await self._schema.build(_PATIENCE)
            except CallError as error:
                if error.reason == MIGRATION_RUNNING:
                    raise UnavailableError(error.reason, str(error)) from error
                raise UnusableDatabaseError(
                    f"The tables can not be made in {database.shown_url}: {error}"
                ) from error
        self._prepared = True

    def _register(self) -> None:
        engine = self._engine
        services = {
            "interlock.v1.ServerService": ServerService(engine),
            "interlock.v1.FlowService": FlowService(engine),
            "interlock.v1.DeploymentService": DeploymentService(engine),
            "interlock.v1.FlowRunService": FlowRunService(engine, self._patience),
            "interlock.v1.TaskRunService": TaskRunService(engine),
            "interlock.v1.RunHeartbeatService": RunHeartbeatService(engine),
            "interlock.v1.LogService": LogService(engine),
            "interlock.v1.RunEventService": RunEventService(engine),
        }
        chain = interceptors(self._gate)
        self._data.add_generic_rpc_handlers(
            [generic_handler(name, service, chain) for name, service in services.items()]
        )
        self._service_names = list(services)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._data)
        reflection.enable_server_reflection(
            [
                *services,
                health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
                reflection.SERVICE_NAME,
            ],
            self._data,
        )
        # Operators are let in also while nothing can be served: it is they who mend it.
        maintenance = Maintenance(engine.database, engine.pipeline)
        admin_services = {
            "interlock.admin.v1.MigrationService": MigrationService(
                self._schema, self._health_loop.look
            ),
            "interlock.admin.v1.MaintenanceService": MaintenanceService(maintenance, self._loops),
        }
        chain = interceptors(Gate())
        self._admin.add_generic_rpc_handlers(
            [generic_handler(name, service, chain) for name, service in admin_services.items()]
        )

    def _bind(self) -> int:
        addresses = self._addresses
        try:
            port = self._data.add_insecure_port(f"{_bracketed(addresses.host)}:{addresses.port}")
        except RuntimeError:
            raise CanNotListenError(
                f"{addresses.host}:{addresses.port} is not free, or no address of this machine. "
                "Stop what listens there, or choose another with --port."
            ) from None
        path = addresses.admin_socket
        if len(os.fsencode(path)) > 100:
            raise CanNotListenError(
                f"The path of the admin socket is too long for a socket: {path}. "
                "Choose a shorter one with --admin-socket."
            )
        if _answers(path):
            raise CanNotListenError(
                f"Another server has the admin socket {path}. Choose another with --admin-socket."
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise CanNotListenError(
                f"The folder {path.parent} of the admin socket can not be made: {error.strerror}."
            ) from None
        old_mask = os.umask(0o177)
        try:
            self._admin.add_insecure_port(f"unix:{path}")
        except RuntimeError:
            raise CanNotListenError(f"The admin socket {path} can not be made.") from None
        finally:
            os.umask(old_mask)
        return port

    @asynccontextmanager
    async def _step_aside(self, interrupts: bool) -> AsyncIterator[None]:
        """Keep out of the way while a step changes the schema; see `Guard`."""
        async with AsyncExitStack() as stack:
            if interrupts:
                await stack.enter_async_context(
                    self._health_loop.busy(
                        Problem(
                            "SCHEMA_CHANGING",
                            "The database's schema is being changed; the server serves again as "
                            "soon as it can.",
                        )
                    )
                )
            if interrupts or self._engine.database.one_writer:
                await stack.enter_async_context(self._engine.pipeline.paused())
            yield

    async def _report(self, problem: Problem | None) -> None:
        response = health_pb2.HealthCheckResponse
        serving = response.SERVING if problem is None else response.NOT_SERVING
        if problem is None:
            self._gate.why = None
            self._engine.start()
            self._loops.start()
        else:
            self._gate.why = NotServingError(problem.reason, problem.message)
            await self._loops.stop()
        for name in ("", *self._service_names):
            await self._health.set(name, serving)

    async def stop(self) -> None:
        """Drain and end: health first, then loops, long streams, then calls, then the database.

        Also for a server whose start has failed.
        """
        await self._health_loop.stop()
        await self._loops.stop()
        await self._health.enter_graceful_shutdown()
        self._engine.drain()
        await asyncio.gather(self._data.stop(self._grace), self._admin.stop(self._grace))
        await self._schema.stop()
        await self._engine.stop()


def _answers(path: Path) -> bool:
    """Tell whether someone listens on a socket; a file that a dead server left does not count."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
