"""What an operator asks of a server, with nothing but the generated stubs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from interlock.admin.v1 import maintenance_pb2 as pb
from interlock.admin.v1.maintenance_pb2_grpc import MaintenanceServiceStub

from tests.support.servers import ServerProcess


class Maintenance:
    """The maintenance of a server's database."""

    def __init__(self, stub: MaintenanceServiceStub) -> None:
        self.stub = stub

    def backup(self, path: Path | str, *, overwrite: bool = False) -> list[pb.BackupResponse]:
        """Copy the database; answer all that was told."""
        return list(self.stub.Backup(pb.BackupRequest(path=str(path), overwrite=overwrite)))

    def vacuum(self) -> list[pb.VacuumResponse]:
        """Give room back; answer all that was told."""
        return list(self.stub.Vacuum(pb.VacuumRequest()))

    def check(self) -> dict[str, list[str]]:
        """What each check has found."""
        found: dict[str, list[str]] = {}
        for event in self.stub.Check(pb.CheckRequest()):
            found.setdefault(event.check, []).extend(
                f"{each.subject}: {each.description}" for each in event.findings
            )
        return found

    def prune(
        self, seconds: int | None, *, logs: int | None = None, dry_run: bool = False
    ) -> list[pb.PruneResponse]:
        """Delete runs, and parts of logs, that are older; answer all that was told."""
        request = pb.PruneRequest(dry_run=dry_run)
        if seconds is not None:
            request.older_than.FromSeconds(seconds)
        if logs is not None:
            request.logs_older_than.FromSeconds(logs)
        return list(self.stub.Prune(request))


@contextmanager
def maintenance_of(server: ServerProcess) -> Iterator[Maintenance]:
    """The maintenance of a server, over its admin socket."""
    with grpc.insecure_channel(server.admin_target) as channel:
        yield Maintenance(MaintenanceServiceStub(channel))
