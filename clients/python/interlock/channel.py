"""Where the server is, and how a channel to it behaves."""

from __future__ import annotations

import os

DEFAULT_TARGET = "127.0.0.1:4200"
TARGET_VARIABLE = "INTERLOCK_TARGET"

OPTIONS: tuple[tuple[str, int], ...] = (
    # A server that comes back is found again within seconds, not within gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A connection that died unseen is noticed. Pinging more often than each five minutes is what a
    # server forbids unless it is told otherwise.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # The client retries by itself; a service config from the DNS would do it a second time.
    ("grpc.service_config_disable_resolution", 1),
    # A page of a list may be larger than gRPC's 4 MiB.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)


def target_or_default(target: str | None) -> str:
    """Answer the target given, else that of `INTERLOCK_TARGET`, else the local server's."""
    return target or os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET
