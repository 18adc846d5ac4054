"""A database with very many flow runs, put straight into its tables, for what only many runs show.

Of N runs, made one a second, N/20 have failed, 30 have the tag `rare` and a `needle` in their name,
and each of the 250 flows has N/250 of them; 20 of those of flow 17 run.
"""

import asyncio

from interlock_server.storage import migrations
from interlock_server.storage.dialects import open_database
from sqlalchemy import Connection, text

START = 1_700_000_000_000_000
"""When the first run was due, in microseconds."""

SECOND = 1_000_000
FLOWS = 250
RARE = 30
RUNNING = 20


def id_of(number: int) -> str:
    """The id of a run, or of a flow, by its number: the number's 16 digits."""
    digits = f"{number:016d}".encode().hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_STATE = f"""CASE
    WHEN n % {FLOWS} = 17 AND n / {FLOWS} < {RUNNING} THEN 'RUNNING'
    WHEN n % 20 = 3 THEN 'FAILED'
    WHEN n > :count * 99 / 100 THEN 'SCHEDULED'
    ELSE 'COMPLETED'
END"""

_STATEMENTS = (
    f"""INSERT INTO flow (id, name, folded_name, tags, labels, created, updated, version)
    SELECT ID(n), 'flow ' || n, 'flow ' || n, '[]', '{{}}', {START}, {START}, 1
    FROM numbers WHERE n < {FLOWS}""",
    f"""INSERT INTO flow_run (
        id, flow_id, name, parameters, tags, labels, flow_version, infrastructure_pid, created_by,
        version, created, updated, digest, max_retries, retry_jitter_factor, state_id, state_type,
        state_name, state_timestamp, run_count, start_time, end_time, total_run_time,
        expected_start_time, next_scheduled_start_time, flow_run_run_count, resuming
    )
    SELECT
        ID(n), ID(n % {FLOWS}), name, '{{}}', '["nightly"]', '{{}}', '1', '', '',
        3, due, due, :digest, 0, 0.0, ID(n), state,
        substr(state, 1, 1) || lower(substr(state, 2)), due, 1,
        CASE WHEN state <> 'SCHEDULED' THEN due + 50000 END,
        CASE WHEN state IN ('COMPLETED', 'FAILED') THEN due + 60000000 END, 60000000,
        due, CASE WHEN state = 'SCHEDULED' THEN due END, 0, :no
    FROM runs""",
    """INSERT INTO flow_run_transition (
        id, run_id, decided, verdict, rule, reason, explanation, proposed_type, proposed_name,
        proposed_by, force, digest, run_count, state_type, state_name, message
    )
    SELECT
        ID(n), ID(n), due, 'ACCEPT', '', '', '', state, '', '', :no, :digest, 1, state,
        substr(state, 1, 1) || lower(substr(state, 2)), ''
    FROM runs""",
    """INSERT INTO flow_run_name (run_id, name, folded_name) SELECT ID(n), name, name FROM runs""",
    """INSERT INTO flow_run_tag (run_id, tag) SELECT ID(n), 'nightly' FROM runs WHERE n % 5 = 0""",
    """INSERT INTO flow_run_tag (run_id, tag) SELECT ID(n), 'rare' FROM runs WHERE rare""",
    """INSERT INTO flow_run_tag (run_id, tag) SELECT ID(n), 'team-' || (n % 50) FROM runs""",
)

_RUNS = f"""WITH RECURSIVE numbers (n) AS (
    SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count - 1
),
runs AS (
    SELECT
        n, {_STATE} AS state, {START} + {SECOND} * CAST(n AS BIGINT) AS due,
        rare, CASE WHEN rare THEN 'needle ' ELSE 'load orders ' END || n AS name
    FROM (
        SELECT n, n % (:count / {RARE}) = 7 AND n < :count / {RARE} * {RARE} AS rare FROM numbers
    ) AS numbered
)
"""

_IDS = {
    "sqlite": "CAST(printf('%016d', {}) AS BLOB)",
    "postgresql": "encode(convert_to(lpad(({})::text, 16, '0'), 'UTF8'), 'hex')::uuid",
}


_IN_HASTE = {
    "sqlite": "PRAGMA synchronous = OFF",
    # It does not look whether each row that another one refers to is there.
    "postgresql": "SET session_replication_role = replica",
}


def _ids(statement: str, dialect: str) -> str:
    """Write ids as a dialect makes them."""
    first, *parts = statement.split("ID(")
    made = [first]
    for part in parts:
        number, _, rest = part.partition(")")
        made.append(_IDS[dialect].format(number) + rest)
    return "".join(made)


def fill(url: str, count: int) -> None:
    """Build the schema in an empty database, and put so many runs into it."""

    def put(connection: Connection) -> None:
        given = {"count": count, "digest": b"", "no": False}
        connection.execute(text(_IN_HASTE[connection.dialect.name]))
        for statement in _STATEMENTS:
            into, _, source = _ids(statement, connection.dialect.name).partition("SELECT")
            made = text(f"{into} {_RUNS} SELECT {source}")
            used = {name: given[name] for name in given if f":{name}" in made.text}
            connection.execute(made, used)
            connection.commit()

    async def work() -> None:
        database = open_database(url)
        await database.check()
        await migrations.upgrade(database)
        await database.migrate(put)
        await database.close()

    asyncio.run(work())
