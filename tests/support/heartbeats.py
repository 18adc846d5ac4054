"""Heartbeats in a few words."""

from interlock.v1 import run_heartbeat_pb2 as pb

from tests.support.stubs import Stubs


def beat(kind: str, run_id: str, attempt: int, *, timeout: float = 60.0) -> pb.Heartbeat:
    """A heartbeat of a run; `timeout` in seconds."""
    heartbeat = pb.Heartbeat(attempt=attempt)
    if kind == "flow_run":
        heartbeat.flow_run_id = run_id
    else:
        heartbeat.task_run_id = run_id
    heartbeat.timeout.FromMicroseconds(round(timeout * 1_000_000))
    return heartbeat


def beats(stubs: Stubs, *heartbeats: pb.Heartbeat) -> list[pb.HeartbeatOutcome]:
    """Send heartbeats, and answer what became of each."""
    request = pb.SendHeartbeatsRequest(heartbeats=heartbeats)
    return list(stubs.heartbeats.SendHeartbeats(request).outcomes)
