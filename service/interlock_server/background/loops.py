"""The loops of one server: dead runs, late runs, pauses that are over, what is being cancelled,
small chunks and old parts of logs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from interlock_server.background.loop import Look, Loop, LoopReport
from interlock_server.background.term import TermKeeper
from interlock_server.core.engine import Engine
from interlock_server.core.heartbeats import ReapRuns
from interlock_server.core.logs.merging import LOGS_AT_ONCE, Join, merge_logs
from interlock_server.core.logs.retention import LogWalk
from interlock_server.core.overdue import CancelWithFlowRuns, ForgetCancelled, MoveOverdue
from interlock_server.rules.overdue import PATIENCE, Patience, overdue_since
from interlock_server.rules.states import Id, Micros, State, StateType
from interlock_server.storage import log_merge_queries, loop_queries
from interlock_server.storage.facts import Facts
from interlock_server.storage.loop_queries import Due
from interlock_server.storage.records import RunKind

_PAUSE: Micros = 200_000
"""After how long what could not be done is looked at again."""

_LOG_REST: Micros = 60 * 60 * 1_000_000
"""How long all logs are left alone, at the most, once what was old in them is deleted."""

_LOG_TRANSACTIONS = 20
"""In how many transactions, at the most, one look deletes parts of logs."""

_AT_ONCE = 200
"""How many runs one command moves: some ten milliseconds, in which others wait."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How the loops of a server run."""

    enabled: bool = True
    period: float = 5.0
    """Seconds between two ticks, and after which each loop looks in any case."""
    patience: Patience = PATIENCE
    log_retention: Micros = 0
    """After how long what came to a log is deleted; 0: it stays as long as its run."""


class Loops:
    """All loops of one server. They run while it serves; of several servers, one runs them."""

    def __init__(self, engine: Engine, options: LoopOptions, join_logs: Join) -> None:
        self._engine = engine
        self._join_logs = join_logs
        self._options = options
        self.term = TermKeeper(engine.pipeline, options.period, self._wake_all)
        self._reapers = {
            RunKind.FLOW_RUN: self._loop("dead flow runs", self._reap(RunKind.FLOW_RUN)),
            RunKind.TASK_RUN: self._loop("dead task runs", self._reap(RunKind.TASK_RUN)),
        }
        self._movers = {
            StateType.SCHEDULED: self._loop("late runs", self._move(StateType.SCHEDULED)),
            StateType.PAUSED: self._loop("pauses", self._move(StateType.PAUSED)),
            StateType.CANCELLING: self._loop("cancelling", self._move(StateType.CANCELLING)),
            StateType.CANCELLED: self._loop("parts of cancelled runs", self._cancel_parts),
        }
        self._merger = self._loop("small log chunks", self._merge_logs, routine=True)
        self._old_logs: list[Loop] = []
        if options.log_retention:
            self._old_logs = [self._loop("old logs", self._delete_logs(options.log_retention))]
        engine.on_commit(self._heard)

    def reports(self) -> list[LoopReport]:
        """Tell what each loop has done."""
        return [loop.report for loop in self._all()]

    def start(self) -> None:
        """Run the loops from now on, if they are to. May be called twice."""
        if self._options.enabled:
            self.term.start()
            for loop in self._all():
                loop.start()

    async def stop(self) -> None:
        """Stop all loops. May be called twice, and before `start`."""
        await asyncio.gather(*(loop.stop() for loop in self._all()))
        await self.term.stop()

    def _all(self) -> Iterator[Loop]:
        yield from self._reapers.values()
        yield from self._movers.values()
        yield self._merger
        yield from self._old_logs

    def _loop(
        self, name: str, work: Callable[[Micros], Awaitable[Look]], *, routine: bool = False
    ) -> Loop:
        return Loop(name, self._options.period, work, self.term, routine=routine)

    def _wake_all(self) -> None:
        for loop in self._all():
            loop.wake()

    # --- what commits tell ---

    def _heard(self, facts: Facts) -> None:
        """Let the loops know what a batch has made due."""
        for kind, beats in facts.moved_heartbeats.items():
            if beats:
                self._reapers[kind].expect(min(beat.deadline for beat in beats.values()))
        for moved in facts.moved_runs[RunKind.FLOW_RUN].values():
            self._expect(moved.state)
        for made in facts.new_runs[RunKind.FLOW_RUN]:
            self._expect(made.state)
        for due in facts.moved_log_merges.values():
            if due is not None:
                self._merger.expect(due)

    def _expect(self, state: State | None) -> None:
        due = overdue_since(state, self._options.patience)
        if due is not None and state is not None:
            self._movers[state.type].expect(due)

    # --- what loops do ---

    def _reap(self, kind: RunKind) -> Callable[[Micros], Awaitable[Look]]:
        async def work(now: Micros) -> Look:
            found = await loop_queries.next_heartbeats(self._engine.database, kind, _AT_ONCE + 1)
            due, next_due = _split(found, now)
            done = 0
            if due:
                command = ReapRuns(kind, due, self.term.session)
                done = await self._engine.pipeline.submit(command)
            return Look(done, _again(now, next_due) if done < len(due) else next_due)

        return work

    def _move(self, type_: StateType) -> Callable[[Micros], Awaitable[Look]]:
        patience = self._options.patience.beyond(type_)

        async def work(now: Micros) -> Look:
            found = await loop_queries.next_deadlines(self._engine.database, type_, _AT_ONCE + 1)
            due, next_due = _split(found, now - patience)
            done = 0
            if due:
                command = MoveOverdue(type_, due, self._options.patience)
                done = await self._engine.pipeline.submit(command)
            next_due = None if next_due is None else next_due + patience
            return Look(done, _again(now, next_due) if done < len(due) else next_due)

        return work

    def _delete_logs(self, older_than: Micros) -> Callable[[Micros], Awaitable[Look]]:
        walk = LogWalk(self._engine.database, self._engine.pipeline, older_than)
        rest = min(_LOG_REST, older_than // 12)
        next_walk: Micros = 0

        async def work(now: Micros) -> Look:
            nonlocal next_walk
            if now < next_walk:
                return Look(0, next_walk)
            bite = await walk.go_on(now, _LOG_TRANSACTIONS)
            next_walk = now + (rest if bite.done else _PAUSE)
            return Look(bite.chunks, next_walk)

        return work

    async def _cancel_parts(self, now: Micros) -> Look:
        engine = self._engine
        cancelled = StateType.CANCELLED
        found = await loop_queries.next_deadlines(engine.database, cancelled, _AT_ONCE + 1)
        flow_run_ids, next_due = _split(found, now)
        if not flow_run_ids:
            return Look(0, next_due)
        done = 0
        # Subflows first: the task runs that track them follow.
        for kind, live in (
            (RunKind.FLOW_RUN, loop_queries.live_subflows),
            (RunKind.TASK_RUN, loop_queries.live_task_runs),
        ):
            while run_ids := await live(engine.database, flow_run_ids, _AT_ONCE):
                moved = await engine.pipeline.submit(CancelWithFlowRuns(kind, run_ids))
                done += moved
                if moved == 0:
                    # Their flow runs are not cancelled any more: what is read next leaves them out.
                    return Look(done, None)
        await engine.pipeline.submit(ForgetCancelled(flow_run_ids))
        return Look(done, next_due)

    async def _merge_logs(self, now: Micros) -> Look:
        engine = self._engine
        found = await log_merge_queries.next_log_merges(engine.database, LOGS_AT_ONCE + 1)
        due = [each.run_id for each in found[:LOGS_AT_ONCE] if each.due <= now]
        done = 0
        if due:
            done = await merge_logs(engine.database, engine.pipeline, self._join_logs, due, now)
        # What was merged has said already when it is due again.
        next_due = found[len(due)].due if len(found) > len(due) else None
        return Look(done, _again(now, next_due) if done < len(due) else next_due)


def _again(now: Micros, next_due: Micros | None) -> Micros:
    """Answer when to look again where not all that was due could be done.

    It was not due after all by the clock that counts, or someone else had done it.
    """
    soon = now + _PAUSE
    return soon if next_due is None else min(soon, next_due)


def _split(found: Sequence[Due], now: Micros) -> tuple[list[Id], Micros | None]:
    """Answer what is due, of one more than can be done at once, and when there is more to do."""
    due = [each.run_id for each in found[:_AT_ONCE] if each.deadline <= now]
    rest = found[len(due) :]
    return due, rest[0].deadline if rest else None
