"""RunEventService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from interlock.v1 import filter_pb2
from interlock.v1 import run_event_pb2 as pb

from interlock_server.core.engine import Engine
from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.event_filters import EventFilter, EventType, TagCondition
from interlock_server.core.watching import Part, Start, Token
from interlock_server.rpc import fields, states
from interlock_server.rpc.calls import Context
from interlock_server.rpc.limits import MAX_FILTER_VALUES
from interlock_server.rpc.watch_tokens import WatchTokens
from interlock_server.storage.event_queries import RunEvent
from interlock_server.storage.records import RunKind

_DEFAULT_EVENTS, _MAX_EVENTS = 500, 1000
"""Of a message."""

_DEFAULT_INTERVAL = 5.0
_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 0.1, 3600.0
"""Seconds."""

_KINDS: dict[int, RunKind] = {
    pb.RUN_KIND_FLOW_RUN: RunKind.FLOW_RUN,
    pb.RUN_KIND_TASK_RUN: RunKind.TASK_RUN,
}
_KIND_NUMBERS: dict[RunKind, Any] = {kind: number for number, kind in _KINDS.items()}
_TYPES: dict[int, EventType] = {
    pb.RUN_EVENT_TYPE_STATE: EventType.STATE,
    pb.RUN_EVENT_TYPE_DELETED: EventType.DELETED,
}

E = TypeVar("E")


class RunEventService:
    """Tells what happens to runs; see `protos/interlock/v1/run_event.proto`."""

    def __init__(self, engine: Engine) -> None:
        self._watches = engine.watches

    async def WatchRuns(  # noqa: N802
        self, request: pb.WatchRunsRequest, context: Context
    ) -> AsyncIterator[pb.WatchRunsResponse]:
        """Stream what is committed."""
        wanted = _filter(request.filter)
        tokens = WatchTokens(request.filter)
        start = Start(
            tokens.read(request.resume_token),
            fields.timestamp("since", request.since) if request.HasField("since") else None,
        )
        if start.token is not None and start.since is not None:
            raise InvalidArgumentError("since", "A token says where to begin: give only one.")
        most = fields.number("max_events", request.max_events, _MAX_EVENTS) or _DEFAULT_EVENTS
        watching = self._watches.watch(start, wanted, most, _interval(request))
        async with aclosing(watching):
            async for part in watching:
                yield _to_response(part, tokens)


def _interval(request: pb.WatchRunsRequest) -> float:
    if not request.HasField("progress_interval"):
        return _DEFAULT_INTERVAL
    field = "progress_interval"
    seconds = fields.duration(field, request.progress_interval) / 1_000_000
    if not _SHORTEST_INTERVAL <= seconds <= _LONGEST_INTERVAL:
        raise InvalidArgumentError(
            field,
            f"{seconds:g} seconds are out of range: {_SHORTEST_INTERVAL:g} to "
            f"{_LONGEST_INTERVAL:,g}.",
        )
    return seconds


def _filter(given: pb.RunEventFilter) -> EventFilter:
    tags = given.tags
    lists = [
        *(getattr(given, name) for name in _LISTS),
        *(getattr(tags, name) for name in ("all", "any", "none")),
    ]
    if (count := sum(map(len, lists))) > MAX_FILTER_VALUES:
        raise InvalidArgumentError(
            "filter",
            f"{count:,} values are given in all; at most {MAX_FILTER_VALUES:,} are taken.",
        )
    return EventFilter(
        frozenset(_enums("filter.types", "type of events", given.types, _TYPES)),
        frozenset(_enums("filter.kinds", "kind of runs", given.kinds, _KINDS)),
        frozenset(fields.ids("filter.run_ids", given.run_ids)),
        frozenset(fields.ids("filter.flow_ids", given.flow_ids)),
        frozenset(fields.ids("filter.flow_run_ids", given.flow_run_ids)),
        frozenset(states.state_types("filter.state_types", given.state_types)),
        frozenset(fields.texts("filter.state_names", given.state_names)),
        _tags(tags) if given.HasField("tags") else None,
    )


_LISTS = ("types", "kinds", "run_ids", "flow_ids", "flow_run_ids", "state_types", "state_names")


def _enums(field: str, word: str, numbers: Iterable[int], known: Mapping[int, E]) -> list[E]:
    for place, number in enumerate(numbers):
        if number not in known:
            raise InvalidArgumentError(f"{field}[{place}]", f"There is no {word} {number}.")
    return [known[number] for number in numbers]


def _tags(given: filter_pb2.TagFilter) -> TagCondition:
    all_, any_, none = (
        frozenset(fields.texts(f"filter.tags.{name}", getattr(given, name)))
        for name in ("all", "any", "none")
    )
    if contrary := sorted(all_ & none):
        raise InvalidArgumentError(
            "filter.tags",
            f"The tag {contrary[0]!r} is asked for and excluded: no run meets that.",
        )
    return TagCondition(all_, any_, none, given.has_any if given.HasField("has_any") else None)


# --- the other way --------------------------------------------------------------------------------


def _to_response(part: Part, tokens: WatchTokens) -> pb.WatchRunsResponse:
    epoch, since = part.token.epoch, part.token.since
    return pb.WatchRunsResponse(
        events=[
            _to_event(event, tokens.write(Token(epoch, event.place, event.time, since)))
            for event in part.events
        ],
        resume_token=tokens.write(part.token),
        stalled=fields.to_duration(part.stalled) if part.stalled else None,
    )


def _to_event(event: RunEvent, token: str) -> pb.RunEvent:
    return pb.RunEvent(
        type=pb.RUN_EVENT_TYPE_DELETED if event.state is None else pb.RUN_EVENT_TYPE_STATE,
        kind=_KIND_NUMBERS[event.kind],
        run_id=event.run_id,
        flow_id=event.flow_id or "",
        flow_run_id=event.flow_run_id or "",
        name=event.name,
        time=fields.to_timestamp(event.time),
        state=states.to_state_or_none(event.state),
        abridged=event.abridged,
        run_count=event.run_count,
        version=event.version,
        rule=event.rule,
        reason=event.reason,
        explanation=event.explanation,
        proposed_by=event.proposed_by,
        resume_token=token,
    )
