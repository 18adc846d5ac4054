"""Filters of logs: which records of a chunk are wanted, found column by column.

Messages to be sent are made for these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from interlock import log_columns
from interlock.v1 import log_pb2 as pb

from interlock_server.core.errors import DamagedLogError, InvalidArgumentError
from interlock_server.core.logs.text import BadPattern, Pattern, Substring, Text
from interlock_server.rpc import fields
from interlock_server.rpc.limits import MAX_PATTERN_BYTES
from interlock_server.storage.log_queries import RecordConditions
from interlock_server.storage.records import LogChunk

_FEW = 4
"""So many loggers are looked for in a chunk's bytes before it is opened."""


class OpenChunk:
    """A chunk's records, still as columns. Raises DamagedLogError."""

    def __init__(self, chunk: LogChunk, data: bytes) -> None:
        try:
            columns = pb.LogColumns.FromString(data)
            log_columns.validate(columns)
        except (DecodeError, log_columns.MalformedColumns) as error:
            raise DamagedLogError(chunk) from error
        self._first_ordinal = chunk.first_ordinal
        self.messages = list(columns.messages)
        self._base = columns.base_time.seconds * 1_000_000 + columns.base_time.nanos // 1000
        self._offsets = list(columns.time_offsets_us)
        self._levels = list(columns.levels)
        self._loggers = list(columns.loggers) or [""]
        self._logger_indexes = list(columns.logger_indexes)
        self._task_runs = ["", *columns.task_run_ids]
        self._task_run_indexes = list(columns.task_run_indexes)
        self._only_task_run = min(1, len(columns.task_run_ids))
        self._continued = frozenset(columns.continued)

    def record(self, place: int) -> pb.LogRecord:
        """Make the message of the record at a place, from 0 on."""
        task_run = self._task_run_indexes[place] if self._task_run_indexes else self._only_task_run
        record = pb.LogRecord(
            ordinal=self._first_ordinal + place,
            level=self._levels[place] if self._levels else log_columns.DEFAULT_LEVEL,
            logger=self._loggers[self._logger_indexes[place] if self._logger_indexes else 0],
            message=self.messages[place],
            task_run_id=self._task_runs[task_run],
            continued=place in self._continued,
        )
        offset = self._offsets[place] if self._offsets else 0
        fields.fill_timestamp(record.time, self._base + offset)
        return record

    # Each of these answers which places, of some that ascend, meet a condition.

    def of_level(self, least: int, among: Sequence[int]) -> Sequence[int]:
        """Keep the records of at least a level."""
        if not self._levels:
            return among if least <= log_columns.DEFAULT_LEVEL else ()
        levels = self._levels
        return [place for place in among if levels[place] >= least]

    def of_time(self, since: int | None, until: int | None, among: Sequence[int]) -> Sequence[int]:
        """Keep the records that were made at `since` or later, and before `until`."""
        first = since - self._base if since is not None else -(2**63)
        beyond = until - self._base if until is not None else 2**63
        if not self._offsets:
            return among if first <= 0 < beyond else ()
        offsets = self._offsets
        return [place for place in among if first <= offsets[place] < beyond]

    def of_task_runs(self, wanted: frozenset[str], among: Sequence[int]) -> Sequence[int]:
        """Keep the records of some task runs."""
        return self._named(
            self._task_runs, self._task_run_indexes or [self._only_task_run], wanted, among
        )

    def of_loggers(self, is_wanted: Callable[[str], bool], among: Sequence[int]) -> Sequence[int]:
        """Keep the records of some loggers."""
        wanted = frozenset(filter(is_wanted, self._loggers))
        return self._named(self._loggers, self._logger_indexes or [0], wanted, among)

    def _named(
        self,
        names: Sequence[str],
        indexes: Sequence[int],
        wanted: frozenset[str],
        among: Sequence[int],
    ) -> Sequence[int]:
        met = [name in wanted for name in names]
        if len(indexes) < len(self.messages):
            return among if met[indexes[0]] else ()
        if all(met):
            return among
        return [place for place in among if met[indexes[place]]]


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records are wanted."""

    conditions: RecordConditions
    loggers: tuple[str, ...] = ()
    text: Text | None = None

    def may_be_in(self, data: bytes) -> bool:
        """Tell by a chunk's bytes whether it may have such records."""
        if self.text is not None and not self.text.may_be_in(data):
            return False
        if 0 < len(self.loggers) <= _FEW:
            return any(logger.encode() in data for logger in self.loggers)
        return True

    def places(self, chunk: LogChunk, opened: OpenChunk, from_ordinal: int) -> Sequence[int]:
        """Answer where in a chunk such records are, from an ordinal on."""
        conditions = self.conditions
        since, until = conditions.since, conditions.until
        among: Sequence[int] = range(
            max(0, from_ordinal - chunk.first_ordinal), len(opened.messages)
        )
        if conditions.min_level > 0:
            among = opened.of_level(conditions.min_level, among)
        if (since is not None and chunk.first_time < since) or (
            until is not None and chunk.last_time >= until
        ):
            among = opened.of_time(since, until, among)
        if conditions.task_run_ids:
            among = opened.of_task_runs(frozenset(conditions.task_run_ids), among)
        if self.loggers:
            among = opened.of_loggers(self._is_wanted, among)
        if self.text is not None and among:
            among = self.text.matching(opened.messages, among)
        return among

    def _is_wanted(self, logger: str) -> bool:
        return any(logger == wanted or logger.startswith(f"{wanted}.") for wanted in self.loggers)

    @property
    def is_slow(self) -> bool:
        """Whether to look through a chunk may take seconds."""
        return self.text is not None and self.text.is_slow

    def unpack(
        self, chunk: LogChunk, data: bytes, from_ordinal: int = 0
    ) -> list[tuple[int, pb.LogRecord]]:
        """Read a chunk's records that are wanted, each behind its ordinal."""
        if not self.may_be_in(data):
            return []
        opened = OpenChunk(chunk, data)
        return [
            (chunk.first_ordinal + place, opened.record(place))
            for place in self.places(chunk, opened, from_ordinal)
        ]


def read(given: pb.LogFilter) -> RecordFilter:
    """Read a request's `filter`. Raises InvalidArgumentError."""
    fields.check_filter(given)
    conditions = RecordConditions(
        fields.number("filter.min_level", given.min_level, log_columns.MAX_LEVEL),
        fields.ids("filter.task_run_ids", given.task_run_ids),
        fields.timestamp_or_none("filter", given, "since"),
        fields.timestamp_or_none("filter", given, "until"),
    )
    return RecordFilter(
        conditions,
        _loggers("filter.loggers", given.loggers),
        _text("filter.text", given.text) if given.HasField("text") else None,
    )


def _loggers(field: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        [fields.name(f"{field}[{i}]", name) for i, name in enumerate(names)],
    )


def _text(field: str, given: pb.TextPattern) -> Text:
    kind = given.WhichOneof("pattern")
    if kind is None:
        raise InvalidArgumentError(field, "Say what to look for: a substring, or a regex.")
    field = f"{field}.{kind}"
    pattern: str = getattr(given, kind)
    if not pattern:
        raise InvalidArgumentError(field, "It is empty: say what to look for.")
    if (size := len(pattern.encode())) > MAX_PATTERN_BYTES:
        raise InvalidArgumentError(
            field, f"The text has {size:,} bytes of UTF-8; at most {MAX_PATTERN_BYTES:,} are taken."
        )
    try:
        if kind == "regex":
            return Pattern(pattern, ignore_case=given.ignore_case)
        if given.ignore_case:
            return Pattern(pattern, ignore_case=True, literal=True)
    except BadPattern as error:
        raise InvalidArgumentError(field, f"RE2 can not take this pattern: {error}.") from None
    return Substring(pattern)
