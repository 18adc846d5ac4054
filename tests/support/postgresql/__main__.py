"""A PostgreSQL to try things with, in the foreground: `python -m tests.support.postgresql 18`."""

import argparse
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.needs import Unavailable
from tests.support.postgresql import NEWEST, PostgresqlServer

_DATABASE = "interlock"


def main() -> None:
    """Run a server until Ctrl-C, after printing its database's URL."""
    options = _options()
    for ending in (signal.SIGINT, signal.SIGTERM):  # A shell's `&` would have SIGINT ignored.
        signal.signal(ending, signal.default_int_handler)
    server = PostgresqlServer(
        options.major, durable=options.durable, home=options.data, port=options.port
    )
    with suppress(KeyboardInterrupt), server:
        if not server.has_database(_DATABASE):
            server.create_database(_DATABASE)
        print(server.database_url(_DATABASE), flush=True)
        signal.pause()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.postgresql", description=__doc__)
    parser.add_argument("major", type=int, nargs="?", default=NEWEST, help="13 or 18")
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep the data here")
    parser.add_argument("--port", type=int, help="a free one, unless given")
    parser.add_argument(
        "--durable",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="survive the machine's crash, at the price of waiting for the disk",
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except Unavailable as reason:
        sys.exit(str(reason))
