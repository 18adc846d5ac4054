"""Ports for servers that will be stopped and started again."""

import random
import socket

_CANDIDATES = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections.

A client that tries again and again to reach a server that is down could be given the server's own
port, meet itself there, and keep the server from ever coming back."""


def free() -> int:
    """A port of the loopback address that nobody listens on."""
    for _ in range(100):
        port = random.choice(_CANDIDATES)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port in {_CANDIDATES}")
