"""Real PostgreSQL servers, private to whoever starts them.

A test asks for one of the servers that its whole run shares (`shared`), and makes databases there.
A test that stops or kills a server starts its own: `PostgresqlServer`.
"""

from tests.support.postgresql.server import Postgresql, PostgresqlServer

__all__ = ["NEWEST", "OLDEST", "Postgresql", "PostgresqlServer"]

OLDEST = 13
"""The oldest major version that Interlock supports."""

NEWEST = 18
"""The newest major version that Interlock supports."""
