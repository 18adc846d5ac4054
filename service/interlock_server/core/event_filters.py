"""Which events a watcher wants: decided in memory, since one reader reads for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from interlock_server.rules.states import Id, StateType
from interlock_server.storage.event_queries import RunEvent
from interlock_server.storage.records import RunKind


class EventType(Enum):
    """What can happen to a run."""

    STATE = "state"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class TagCondition:
    """Which tags a run has; what is empty or None asks for nothing."""

    all: frozenset[str] = frozenset()
    any: frozenset[str] = frozenset()
    none: frozenset[str] = frozenset()
    has_any: bool | None = None

    def meets(self, tags: tuple[str, ...]) -> bool:
        """Tell whether a run with these tags meets the condition."""
        if self.has_any is not None and bool(tags) is not self.has_any:
            return False
        return (
            self.all.issubset(tags)
            and not (self.any and self.any.isdisjoint(tags))
            and self.none.isdisjoint(tags)
        )


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The conditions of a watcher: each that is not empty has to be met.

    Of a deleted run no more is known than its kind, id and parent, and the parent's flow while the
    parent is there. What is not known excludes nothing: a watcher that has seen the run is told of
    its end.
    """

    types: frozenset[EventType] = frozenset()
    kinds: frozenset[RunKind] = frozenset()
    run_ids: frozenset[Id] = frozenset()
    flow_ids: frozenset[Id] = frozenset()
    flow_run_ids: frozenset[Id] = frozenset()
    """These flow runs, and the task runs in them."""
    state_types: frozenset[StateType] = frozenset()
    state_names: frozenset[str] = frozenset()
    tags: TagCondition | None = None

    def meets(self, event: RunEvent) -> bool:
        """Tell whether a watcher with this filter is told of an event."""
        if self.kinds and event.kind not in self.kinds:
            return False
        if self.run_ids and event.run_id not in self.run_ids:
            return False
        if self.flow_run_ids and not (
            event.flow_run_id in self.flow_run_ids or event.run_id in self.flow_run_ids
        ):
            return False
        state = event.state
        if state is None:
            return (not self.types or EventType.DELETED in self.types) and (
                not self.flow_ids or event.flow_id is None or event.flow_id in self.flow_ids
            )
        if self.types and EventType.STATE not in self.types:
            return False
        if self.flow_ids and event.flow_id not in self.flow_ids:
            return False
        if self.state_types and state.type not in self.state_types:
            return False
        if self.state_names and state.name not in self.state_names:
            return False
        return self.tags is None or self.tags.meets(event.tags)
