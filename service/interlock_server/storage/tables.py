"""The tables. One description for both dialects; `migrations/` builds the same, a test compares.

Times are microseconds since 1970-01-01 UTC in 64-bit integers: exact, the same on both dialects,
and sums of them are plain arithmetic. Free JSON is text, so that integers and key order survive.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import TEXT

from interlock_server.storage.retention import AsLongAsAsked, ForDays, Kept, Retention, WithItsRun
from interlock_server.storage.types import IdType

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s__%(column_0_N_name)s",
        "uq": "uq_%(table_name)s__%(column_0_N_name)s",
        "ix": "ix_%(table_name)s__%(column_0_N_name)s",
    }
)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _time(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


# Names sort by code point on both dialects, whatever the language of the PostgreSQL database.
_Name = Text().with_variant(TEXT(collation="C"), "postgresql")

# The same on every dialect: by Python's `str.casefold`. It is set in each row since revision 0005.
_FOLDED = "folded_name"


def _substring_index(column: str) -> Index:
    """Find texts by their parts. SQLite has nothing of the kind: it looks through them all."""
    trigrams = Index(
        None,
        column,
        postgresql_using="gin",
        postgresql_ops={column: "gin_trgm_ops"},
        info={"only_on": "postgresql"},
    )
    return trigrams.ddl_if(dialect="postgresql")


def exists_on(thing: object, dialect: str) -> bool:
    """Tell whether a dialect's schema has a thing: it lacks indexes that only another one has."""
    return not isinstance(thing, Index) or thing.info.get("only_on", dialect) == dialect


flow = Table(
    "flow",
    metadata,
    Column("id", IdType, primary_key=True),
    Column("name", _Name, nullable=False, unique=True),
    _text("tags"),
    _text("labels"),
    _time("created"),
    _time("updated"),
    Column("version", BigInteger, nullable=False),
    Column(_FOLDED, Text),
    Index(None, "created", "id"),
    _substring_index(_FOLDED),
    info={"retention": Kept("A flow's name, tags and labels say what its runs to come will be.")},
)

deployment = Table(
    "deployment",
    metadata,
    Column("id", IdType, primary_key=True),
    Column("flow_id", IdType, ForeignKey("flow.id", ondelete="CASCADE"), nullable=False),
    Column("name", _Name, nullable=False),
    _text("tags"),
    _text("labels"),
    _text("created_by"),
    _time("created"),
    _time("updated"),
    Column("version", BigInteger, nullable=False),
    Column(_FOLDED, Text),
    UniqueConstraint("flow_id", "name"),
    Index(None, "created", "id"),
    _substring_index(_FOLDED),
    info={"retention": Kept("A deployment says how its runs to come are run.")},
)


def _run_columns() -> list[Column[object]]:
    """The columns that flow runs and task runs share: what transitions read and write."""
    return [
        # Less than 0: the run is being pruned, and all but its deletion takes it for deleted.
        Column("version", BigInteger, nullable=False),
        Column("created", BigInteger, nullable=False),
        Column("updated", BigInteger, nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("max_retries", Integer, nullable=False),
        Column("retry_delays", Text),
        Column("retry_jitter_factor", Double, nullable=False),
        Column("retry_crashes", Boolean, nullable=False, server_default=false()),
        Column("state_id", IdType),
        Column("state_type", Text),
        Column("state_name", Text),
        Column("state_timestamp", BigInteger),
        Column("run_count", Integer, nullable=False),
        Column("start_time", BigInteger),
        Column("end_time", BigInteger),
        Column("total_run_time", BigInteger, nullable=False),
        Column("expected_start_time", BigInteger),
        Column("next_scheduled_start_time", BigInteger),
        Column("flow_run_run_count", Integer, nullable=False),
        Column("resuming", Boolean, nullable=False),
        Column("pause_keys", Text),
        Column("retry_type", Text),
        # When the state is due for the service's attention, if nobody changes it before.
        Column("deadline", BigInteger),
    ]


def _deadline_index() -> Index:
    # By type, since each type has a patience of its own, and a loop that looks for it.
    present = text("deadline IS NOT NULL")
    return Index(None, "state_type", "deadline", sqlite_where=present, postgresql_where=present)


def _event_columns() -> list[Column[object] | Index]:
    """Where a row stands among what was committed: see `docs/decisions/0009`."""
    return [
        Column("position", BigInteger),
        Column("ordinal", Integer),
        Index(None, "position", "ordinal"),
    ]


flow_run = Table(
    "flow_run",
    metadata,
    Column("id", IdType, primary_key=True),
    Column("flow_id", IdType, ForeignKey("flow.id", ondelete="CASCADE"), nullable=False),
    _text("name"),
    _text("parameters"),
    _text("tags"),
    _text("labels"),
    _text("flow_version"),
    Column("idempotency_key", Text),
    # No foreign key: it would close a circle with task_run, and a subflow outlives its tracker.
    Column("parent_task_run_id", IdType),
    _text("infrastructure_pid"),
    _text("created_by"),
    # No foreign key: runs outlive their deployment, and show which it was.
    Column("deployment_id", IdType),
    *_run_columns(),
    UniqueConstraint("flow_id", "idempotency_key"),
    Index(None, "flow_id", "id"),
    Index(None, "deployment_id", "id"),
    _deadline_index(),
    Index(None, "expected_start_time", "id"),
    Index(None, "state_type", "id"),
    Index(None, "parent_task_run_id"),
    info={"retention": AsLongAsAsked()},
)

task_run = Table(
    "task_run",
    metadata,
    Column("id", IdType, primary_key=True),
    Column("flow_run_id", IdType, ForeignKey("flow_run.id", ondelete="CASCADE")),
    _text("task_key"),
    _text("dynamic_key"),
    _text("name"),
    _text("inputs"),
    _text("tags"),
    _text("labels"),
    _text("task_version"),
    *_run_columns(),
    UniqueConstraint("flow_run_id", "task_key", "dynamic_key"),
    # The same for those that are part of no flow run: NULLs are distinct in a unique constraint.
    Index(
        "uq_task_run__alone",
        "task_key",
        "dynamic_key",
        unique=True,
        sqlite_where=text("flow_run_id IS NULL"),
        postgresql_where=text("flow_run_id IS NULL"),
    ),
    Index(None, "flow_run_id", "id"),
    Index(None, "expected_start_time", "id"),
    Index(None, "state_type", "id"),
    info={"retention": AsLongAsAsked()},
)


def _tag_table(owner: Table, key: str, retention: Retention) -> Table:
    """What finds things by a tag; what shows them keeps all tags of one in its `tags`."""
    return Table(
        f"{owner.name}_tag",
        metadata,
        Column(key, IdType, ForeignKey(owner.c.id, ondelete="CASCADE"), primary_key=True),
        Column("tag", Text, primary_key=True),
        Index(None, "tag", key),
        info={"retention": retention},
    )


flow_tag = _tag_table(flow, "flow_id", Kept("They are part of their flow."))
deployment_tag = _tag_table(deployment, "deployment_id", Kept("They are part of their deployment."))
flow_run_tag = _tag_table(flow_run, "run_id", WithItsRun())
task_run_tag = _tag_table(task_run, "run_id", WithItsRun())


def _name_table(run: Table) -> Table:
    """What finds runs by their name, and sorts them by it.

    It stands beside the runs, since each transition of a run would write to all of its indexes.
    """
    return Table(
        f"{run.name}_name",
        metadata,
        Column("run_id", IdType, ForeignKey(run.c.id, ondelete="CASCADE"), primary_key=True),
        Column("name", _Name, nullable=False),
        Column(_FOLDED, Text, nullable=False),
        Index(None, "name", "run_id"),
        _substring_index(_FOLDED),
        info={"retention": WithItsRun()},
    )


flow_run_name = _name_table(flow_run)
task_run_name = _name_table(task_run)


def _transition_table(run: Table) -> Table:
    """The history of the runs of one kind, which also is the memory for proposals sent again."""
    return Table(
        f"{run.name}_transition",
        metadata,
        Column("id", IdType, primary_key=True),
        Column("run_id", IdType, ForeignKey(run.c.id, ondelete="CASCADE"), nullable=False),
        _time("decided"),
        _text("verdict"),
        _text("rule"),
        _text("reason"),
        _text("explanation"),
        _text("proposed_type"),
        _text("proposed_name"),
        _text("proposed_by"),
        Column("force", Boolean, nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("run_count", Integer, nullable=False),
        Column("state_type", Text),
        Column("state_name", Text),
        Column("message", Text),
        Column("details", Text),
        Column("result", Text),
        Column("answered_state_id", IdType),
        Column("version", BigInteger),
        *_event_columns(),
        Index(None, "run_id", "decided", "id"),
        info={"retention": WithItsRun()},
    )


flow_run_transition = _transition_table(flow_run)
task_run_transition = _transition_table(task_run)

deleted_run = Table(
    "deleted_run",
    metadata,
    Column("id", IdType, primary_key=True),
    Column("deleted", BigInteger, nullable=False, index=True),
    Column("kind", Text),
    # A flow run's flow; a task run's flow run.
    Column("parent_id", IdType),
    *_event_columns(),
    # As long as a worker that was away may still speak of the run.
    info={"retention": ForDays(7, "deleted")},
)

watch_epoch = Table(
    "watch_epoch",
    metadata,
    Column("number", Integer, primary_key=True),
    # What the database cluster was when the epoch began: positions of another are no order here.
    _text("identity"),
    _time("began"),
    info={"retention": Kept("Tokens of earlier epochs are told from those of this one.")},
)


def _heartbeat_table(run: Table) -> Table:
    """Which runs of one kind are watched by heartbeats, and until when they count as alive."""
    return Table(
        f"{run.name}_heartbeat",
        metadata,
        Column("run_id", IdType, ForeignKey(run.c.id, ondelete="CASCADE"), primary_key=True),
        # The run count of the attempt that the heartbeats are of.
        Column("attempt", Integer, nullable=False),
        _time("timeout"),
        # When the last one came. An outage moves the deadline, not this.
        _time("heard"),
        Column("deadline", BigInteger, nullable=False, index=True),
        info={"retention": WithItsRun()},
    )


flow_run_heartbeat = _heartbeat_table(flow_run)
task_run_heartbeat = _heartbeat_table(task_run)

term = Table(
    "term",
    metadata,
    Column("name", Text, primary_key=True),
    # The server session that does what the term is about, until others see that it is gone.
    Column("holder", IdType, nullable=False),
    _time("renewed"),
    info={"retention": Kept("One row for each thing that one of several servers does.")},
)

flow_run_input = Table(
    "flow_run_input",
    metadata,
    Column("run_id", IdType, ForeignKey("flow_run.id", ondelete="CASCADE"), primary_key=True),
    Column("pause_key", Text, primary_key=True),
    _text("value"),
    _text("proposed_by"),
    _time("created"),
    info={"retention": WithItsRun()},
)

task_run_cache = Table(
    "task_run_cache",
    metadata,
    # The id of the COMPLETED state that the key stands for.
    Column("state_id", IdType, primary_key=True),
    Column("run_id", IdType, ForeignKey("task_run.id", ondelete="CASCADE"), nullable=False),
    _text("cache_key"),
    _time("created"),
    Column("expiration", BigInteger),
    Index(None, "cache_key", "created"),
    Index(None, "run_id"),
    info={"retention": WithItsRun()},
)

log_head = Table(
    "log_head",
    metadata,
    Column("run_id", IdType, primary_key=True),
    Column("next_ordinal", BigInteger, nullable=False),
    _time("appended"),
    # That of the oldest record that was not deleted.
    Column("first_ordinal", BigInteger, nullable=False, server_default="0"),
    # How many chunks came since the last merge that are smaller than one should be.
    Column("small_chunks", Integer, nullable=False, server_default="0"),
    # What is before it is in chunks that stay as they are.
    Column("sealed_ordinal", BigInteger, nullable=False, server_default="0"),
    info={"retention": WithItsRun()},
)

log_merge = Table(
    "log_merge",
    metadata,
    Column("run_id", IdType, primary_key=True),
    # When the log's small chunks are to be looked at: soon when there are many, else when it rests.
    Column("due", BigInteger, nullable=False, index=True),
    info={"retention": WithItsRun()},
)

log_producer = Table(
    "log_producer",
    metadata,
    Column("producer_id", IdType, primary_key=True),
    Column("run_id", IdType, primary_key=True),
    Column("last_number", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),
    _time("updated"),
    # Of the records of a single call, so that its id is not taken for another's.
    Column("digest", LargeBinary),
    Index(None, "run_id"),
    # Those of whom more may come: few, however many have written.
    Index(
        "ix_log_producer__open_run_id",
        "run_id",
        sqlite_where=text("NOT closed"),
        postgresql_where=text("NOT closed"),
    ),
    info={"retention": WithItsRun()},
)

log_chunk = Table(
    "log_chunk",
    metadata,
    Column("run_id", IdType, primary_key=True),
    Column("first_ordinal", BigInteger, primary_key=True),
    Column("last_ordinal", BigInteger, nullable=False),
    _time("first_time"),
    _time("last_time"),
    Column("trace_count", Integer, nullable=False),
    Column("debug_count", Integer, nullable=False),
    Column("info_count", Integer, nullable=False),
    Column("warning_count", Integer, nullable=False),
    Column("error_count", Integer, nullable=False),
    Column("critical_count", Integer, nullable=False),
    Column("raw_bytes", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    # 0: as it came; above: how often its records were merged.
    Column("level", SmallInteger, nullable=False, server_default="0"),
    # When the last of its records came; null: not known, which is long ago.
    Column("stored", BigInteger),
    Index(None, "last_time", "first_time", "run_id"),
    # Each may have a mebibyte.
    info={"retention": WithItsRun(at_once=100)},
)

log_chunk_task_run = Table(
    "log_chunk_task_run",
    metadata,
    Column("task_run_id", IdType, primary_key=True),
    Column("run_id", IdType, primary_key=True),
    Column("first_ordinal", BigInteger, primary_key=True),
    Index(None, "run_id", "first_ordinal"),
    info={"retention": WithItsRun()},
)
