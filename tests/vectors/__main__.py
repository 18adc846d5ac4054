"""Plays all that was recorded, on each database, and prints the report: `make vectors`."""

import sys
from collections.abc import Sequence

from tests.support import shared_data
from tests.support.needs import Unavailable
from tests.support.postgresql import NEWEST, PostgresqlServer
from tests.vectors import listed, recorded, report
from tests.vectors.playing import play_all
from tests.vectors.recorded import Scenario
from tests.vectors.servers import quiet_server


def main() -> int:
    """Answer the exit code: 1 where a difference is not listed, or a listed one does not occur."""
    scenarios, waiting = recorded.read(shared_data.vectors_folder())
    table = listed.read()
    found = _report("SQLite", None, scenarios, table)
    with PostgresqlServer(NEWEST) as server, server.database("vectors") as url:
        found += _report(f"PostgreSQL {server.version}", url, scenarios, table)
    print("\n".join(report.waiting_lines(waiting)))
    return 1 if found else 0


def _report(
    where: str, url: str | None, scenarios: Sequence[Scenario], table: Sequence[listed.Listed]
) -> int:
    with quiet_server(url) as server:
        comparison = play_all(server, scenarios)
    print("\n".join(report.lines(where, comparison, table)), flush=True)
    return len(report.problems(comparison, table))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unavailable as reason:
        sys.exit(str(reason))
