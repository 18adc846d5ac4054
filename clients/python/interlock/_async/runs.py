"""Runs whose states are reported by a `with` block, or by a call that can run its body again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from interlock import context, states, values
from interlock._async import transport
from interlock._async.heartbeats import Watched
from interlock._async.pausing import until_resumed
from interlock._async.services import Services
from interlock.errors import (
    InterlockError,
    RunStopped,
    RunSuspended,
    TransitionAborted,
    TransitionRejected,
)
from interlock.ids import uuid7
from interlock.inputs import Schema, read_value
from interlock.v1.flow_pb2 import Flow
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.run_heartbeat_pb2 import (
    HEARTBEAT_ADVICE_CANCEL,
    HEARTBEAT_ADVICE_FINISHED,
    HEARTBEAT_ADVICE_NOT_RUNNING,
    HEARTBEAT_ADVICE_SUPERSEDED,
    Heartbeat,
    HeartbeatAdvice,
)
from interlock.v1.state_pb2 import (
    STATE_TYPE_CANCELLED,
    STATE_TYPE_CANCELLING,
    STATE_TYPE_PAUSED,
    STATE_TYPE_RUNNING,
    STATE_TYPE_SCHEDULED,
    VERDICT_ABORT,
    VERDICT_ACCEPT,
    VERDICT_REJECT,
    VERDICT_WAIT,
    Decision,
    ResultReference,
    State,
    StateDetails,
    StateDraft,
)
from interlock.values import Seconds, StateLike

T = TypeVar("T")

_logger = logging.getLogger(context.RUN_LOGGER)

_LAST_WORDS = 5.0
"""How many seconds a process that ends may take to say so."""

_SHORTEST_WAIT = 0.05
"""A WAIT is never shorter, so that a due time that has just passed is not asked for in a loop."""

_LOGGED = "_interlock_logged_by"
"""The attribute of an exception that tells whose log has its traceback."""

OnStop: TypeAlias = Callable[[str], None]
"""Called with the reason when a run is told to stop."""

_CANCEL, _SUPERSEDED = "CANCEL", "SUPERSEDED"
_STOPS: dict[int, str] = {
    HEARTBEAT_ADVICE_CANCEL: _CANCEL,
    HEARTBEAT_ADVICE_SUPERSEDED: _SUPERSEDED,
    HEARTBEAT_ADVICE_FINISHED: "FINISHED",
    HEARTBEAT_ADVICE_NOT_RUNNING: "NOT_RUNNING",
}
"""What a run is told to stop by, and why."""

_AWAITING_RETRY = "AwaitingRetry"
_FLOW_PAUSED = "FLOW_PAUSED"
_PAUSE_FIRED = "PAUSE_FIRED"


class AsyncRunContext:
    """What flow runs and task runs have in common: see `AsyncClient.flow_run`."""

    id: str
    """The run's id; empty before the block is entered for the first time."""
    decision: Decision | None
    """The last answer to a proposal, once there is one."""
    retry_in: float | None
    """In how many seconds the run is to be tried again, once its failure was answered so."""

    told_to_stop: str
    """Why the run is to stop, as the last heartbeat was answered: `CANCEL`, `SUPERSEDED` (another
    attempt runs), `FINISHED`, `NOT_RUNNING` (it counts as dead, and waits for its next attempt);
    empty: it is not."""

    def __init__(
        self,
        services: Services,
        run_id: str,
        heartbeat: Seconds | None = None,
        on_stop: OnStop | None = None,
    ) -> None:
        self._services = services
        self.id = run_id
        self.decision = None
        self.retry_in = None
        self.told_to_stop = ""
        self._heartbeat = heartbeat
        self._on_stop = on_stop
        self._watched: Watched | None = None
        self._outer = ("", "")

    @property
    def state(self) -> State:
        """The run's state, as of the last answer."""
        return self.decision.state if self.decision is not None else State()

    @property
    def run_count(self) -> int:
        """How often the run has entered RUNNING: 1 in the first attempt."""
        return self.decision.run_count if self.decision is not None else 0

    def check(self) -> None:
        """Raise RunStopped where the run is to stop: for loops that can end between two rounds.

        Leaving the block by that exception reports that the run was cancelled, where that is why.
        """
        if self.told_to_stop:
            raise RunStopped(self.id, self.told_to_stop)

    async def set_state(
        self,
        state: StateLike,
        *,
        name: str = "",
        message: str = "",
        details: StateDetails | None = None,
        result: ResultReference | None = None,
    ) -> Decision:
        """Propose a state for this run; waits as long as the answer is WAIT.

        After a terminal state the end of the block proposes nothing more.
        """
        draft = values.draft(state, name=name, message=message, details=details, result=result)
        proposal_id = uuid7()
        while True:
            decision = await self._propose(draft, proposal_id)
            if decision.verdict != VERDICT_WAIT:
                self.decision = decision
                return decision
            wait = values.seconds(decision.retry_after)
            await transport.sleep(max(wait, _SHORTEST_WAIT))

    async def __aenter__(self) -> Self:
        await self._create()
        self.retry_in = None
        decision = await self.set_state(states.running())
        while await self._is_to_wait(decision):
            decision = await self.set_state(states.running())
        if decision.verdict == VERDICT_ABORT:
            raise TransitionAborted(decision)
        if decision.state.type != STATE_TYPE_RUNNING:
            await self._stop_if_told(decision)
            raise TransitionRejected(decision)
        self._outer = (context.flow_run_id.get(), context.task_run_id.get())
        self._enter()
        self.told_to_stop = ""
        if self._heartbeat is not None:
            self._watched = Watched(self._heartbeat, self._beat, self._told)
            self._services.heart.watch(self._watched)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                await self._finish()
            elif isinstance(error, Exception):
                await self._fail(error)
            elif not isinstance(error, RunSuspended):
                await self._crash(error)
        finally:
            if self._watched is not None:
                self._services.heart.forget(self._watched)
            self._leave()
            context.flow_run_id.set(self._outer[0])
            context.task_run_id.set(self._outer[1])

    async def repeat(self, function: transport.Body[T], *arguments: Any) -> T:
        """Run a function in this run's block, again as often as its retries allow.

        Answers the function's result, or raises what it raised the last time.
        """
        while True:
            try:
                async with self:
                    return await function(*arguments)
            except Exception:
                if self.retry_in is None:
                    raise
                await transport.sleep(self.retry_in)

    async def _finish(self) -> None:
        if self._ended:
            return
        if self.told_to_stop == _SUPERSEDED:
            # What this attempt has to say counts for nothing, and would be taken for the other's.
            self.check()
        decision = await self.set_state(states.completed())
        if decision.verdict == VERDICT_ACCEPT:
            return
        if decision.verdict == VERDICT_REJECT:
            if decision.state.type == states.completed().type:
                return
            await self._stop_if_told(decision)
            raise TransitionRejected(decision)
        raise TransitionAborted(decision)

    async def _fail(self, error: Exception) -> None:
        if self.told_to_stop and not self._ended:
            _logger.info("%s stops: %s", self._title, describe(error)[:1000])
            if self.told_to_stop == _CANCEL:
                await self._report_stop(error)
            return
        # Once is enough: a failure of a task is most often the failure of its flow run, too.
        if vars(error).setdefault(_LOGGED, self.id) == self.id:
            _logger.error("%s failed", self._title, exc_info=error)
        else:
            _logger.error("%s failed: %s", self._title, describe(error)[:1000])
        if self._ended:
            return
        try:
            decision = await self.set_state(states.failed(describe(error)))
            await self._stop_if_told(decision)
        except InterlockError as failure:
            error.add_note(f"interlock: {self._title} could not report this failure: {failure}")
            return
        if decision.state.type == STATE_TYPE_SCHEDULED and decision.state.name == _AWAITING_RETRY:
            # Both times are the server's, so that clocks that differ do no harm.
            due, now = decision.state.details.scheduled_time, decision.state.timestamp
            self.retry_in = max(0.0, values.seconds_between(now, due))
            error.add_note(f"interlock: {self._title} is to be tried again in {self.retry_in:g} s")
        elif decision.verdict != VERDICT_ACCEPT:
            error.add_note(
                f"interlock: {self._title} stays {decision.state.name}: {decision.explanation}"
            )

    async def _report_stop(self, error: Exception) -> None:
        try:
            await self.set_state(STATE_TYPE_CANCELLED, message="Stopped on request")
        except InterlockError as failure:
            error.add_note(f"interlock: {self._title} could not report its stop: {failure}")

    async def _crash(self, error: BaseException) -> None:
        _logger.error("%s crashed: %s", self._title, describe(error))
        if self._ended or self.told_to_stop == _SUPERSEDED:
            return
        services = self._services
        try:
            self._services = services.with_timeout(_LAST_WORDS)
            decision = await self._propose(states.crashed(describe(error)), uuid7())
            self.decision = decision
            await self._stop_if_told(decision)
        except InterlockError as failure:
            error.add_note(f"interlock: {self._title} could not report this crash: {failure}")
        finally:
            self._services = services

    async def _stop_if_told(self, decision: Decision) -> None:
        # CANCELLING says that someone wants the run to stop; that it has stopped is ours to say.
        if decision.verdict == VERDICT_REJECT and decision.state.type == STATE_TYPE_CANCELLING:
            await self.set_state(STATE_TYPE_CANCELLED, message="Stopped on request")

    def _beat(self) -> Heartbeat:
        """Make the next heartbeat, without its timeout."""
        raise NotImplementedError

    def _told(self, advice: HeartbeatAdvice.ValueType) -> None:
        """Hear what a heartbeat was answered: from a thread of its own, where the client is the
        synchronous one."""
        stop = _STOPS.get(advice, "")
        if self._ended or stop == self.told_to_stop:
            return
        self.told_to_stop = stop
        if stop:
            _logger.warning("%s is to stop: %s", self._title, stop)
            if self._on_stop is not None:
                self._on_stop(stop)

    @property
    def _ended(self) -> bool:
        return self.state.type in states.TERMINAL

    @property
    def _title(self) -> str:
        return f"{type(self).__name__.removesuffix('Context')} {self.id}"

    async def _create(self) -> None:
        raise NotImplementedError

    async def _propose(self, draft: StateDraft, proposal_id: str) -> Decision:
        raise NotImplementedError

    async def _is_to_wait(self, decision: Decision) -> bool:
        """Wait for what holds the run, and tell whether it is to be proposed to run again."""
        return False

    def _enter(self) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        raise NotImplementedError


class AsyncFlowRunContext(AsyncRunContext):
    """A flow run that is reported by its block: see `AsyncClient.flow_run`."""

    def __init__(
        self,
        services: Services,
        *,
        flow: Flow | str = "",
        run_id: str = "",
        options: Mapping[str, Any] | None = None,
        heartbeat: Seconds | None = None,
        on_stop: OnStop | None = None,
    ) -> None:
        super().__init__(services, run_id, heartbeat, on_stop)
        self._flow = flow
        self._options = options or {}
        self._numbers: dict[str, int] = {}
        self._pauses = 0

    async def pause(
        self,
        *,
        timeout: Seconds | None = None,
        schema: Schema | None = None,
        key: str = "",
        message: str = "",
    ) -> Any:
        """Wait here until someone resumes this run, and answer what they gave; None without schema.

        Args:
            timeout: how long that may take before the run fails; 5 minutes unless given.
            schema: what is to be given, a JSON Schema or a class that knows its own (see
                `interlock.inputs`); an object of that class is answered.
            key: names this place in the code. Without one pauses are numbered in the order of these
                calls, in each attempt from 0 on. A pause fires once an attempt: where a process
                that runs the same attempt again comes by, it is given the same answer at once.
            message: words for people: what is being waited for.

        Raises TransitionRejected where the run does not go on (it was cancelled, or nobody resumed
        it in time); TransitionAborted.
        """
        return await self._pause(timeout, schema, key, message, reschedule=False)

    async def suspend(
        self,
        *,
        timeout: Seconds | None = None,
        schema: Schema | None = None,
        key: str = "",
        message: str = "",
    ) -> Any:
        """End here for now, and go on in another process once someone has resumed this run.

        That process begins with the run's code from its start; where it comes to this place it is
        answered what was given. See `pause` for the arguments. It takes a deployment, which says
        how the run is run again.

        Raises RunSuspended, which ends the block without a failure; TransitionRejected and
        TransitionAborted where the run can not be suspended.
        """
        return await self._pause(timeout, schema, key, message, reschedule=True)

    async def _pause(
        self,
        timeout: Seconds | None,
        schema: Schema | None,
        key: str,
        message: str,
        *,
        reschedule: bool,
    ) -> Any:
        if not key:
            key = f"pause-{self._pauses}"
            self._pauses += 1
        while True:
            decision = await self._services.pause_flow_run(
                self.id,
                timeout=timeout,
                reschedule=reschedule,
                key=key,
                schema=schema,
                message=message,
            )
            self.decision = decision
            if decision.verdict == VERDICT_ABORT:
                raise TransitionAborted(decision)
            if decision.reason == _PAUSE_FIRED:
                break
            if decision.state.type != STATE_TYPE_PAUSED:
                await self._stop_if_told(decision)
                raise TransitionRejected(decision)
            if decision.state.details.pause_reschedule:
                raise RunSuspended(self.id)
            run = await until_resumed(self._services, self.id, decision.state)
            if run.state.type != STATE_TYPE_RUNNING:
                self.decision = ended = _not_resumed(run)
                await self._stop_if_told(ended)
                raise TransitionRejected(ended)
            if decision.verdict == VERDICT_ACCEPT:
                self.decision = Decision(
                    verdict=VERDICT_ACCEPT,
                    state=run.state,
                    run_count=run.run_count,
                    version=run.version,
                )
                break
            # It was someone else's pause that has ended; now for this one.
        if schema is None:
            return None
        given = await self._services.get_flow_run_input(self.id, key)
        return read_value(schema, given.input_json)

    def task(
        self,
        task_key: str,
        *,
        dynamic_key: str = "",
        name: str = "",
        inputs: Mapping[str, Any] | None = None,
        retries: int = 0,
        retry_delay: Seconds | Sequence[Seconds] = 0,
        retry_jitter_factor: float = 0.0,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        task_version: str = "",
    ) -> AsyncTaskRunContext:
        """Run a task of this flow run in a `with` block, reported as the flow run's block is.

        Without a dynamic key the runs of a task are numbered in the order of these calls, in each
        attempt of the flow run from 0 on, so that a later attempt finds the task runs of an earlier
        one. Where that order may differ (tasks that start concurrently) give a key.

        A block can not be run again: `run_task` uses the retries.
        """
        number = self._numbers.get(task_key, 0)
        if not dynamic_key:
            self._numbers[task_key] = number + 1
        return AsyncTaskRunContext(
            self._services,
            flow_run_id=self.id,
            task_key=task_key,
            options={
                "dynamic_key": dynamic_key or str(number),
                "name": name,
                "inputs": inputs,
                "retries": retries,
                "retry_delay": retry_delay,
                "retry_jitter_factor": retry_jitter_factor,
                "tags": tags,
                "labels": labels,
                "task_version": task_version,
            },
        )

    async def run_task(
        self,
        function: transport.Body[T],
        *arguments: Any,
        key: str = "",
        dynamic_key: str = "",
        name: str = "",
        inputs: Mapping[str, Any] | None = None,
        retries: int = 0,
        retry_delay: Seconds | Sequence[Seconds] = 0,
        retry_jitter_factor: float = 0.0,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        task_version: str = "",
    ) -> T:
        """Call a function as a task, again as often as its retries allow, and answer its result.

        The function is called with the arguments alone; the task key is its name unless given.
        Raises what the function raised the last time; TransitionAborted or TransitionRejected where
        the task may not run.
        """
        task = self.task(
            key or function.__name__,
            dynamic_key=dynamic_key,
            name=name,
            inputs=inputs,
            retries=retries,
            retry_delay=retry_delay,
            retry_jitter_factor=retry_jitter_factor,
            tags=tags,
            labels=labels,
            task_version=task_version,
        )
        return await task.repeat(function, *arguments)

    async def _create(self) -> None:
        self._numbers.clear()
        self._pauses = 0
        if self.id:
            return
        flow = self._flow
        if isinstance(flow, str):
            flow = await self._services.create_flow(flow)
        self.id = (await self._services.create_flow_run(flow, **self._options)).id

    async def _propose(self, draft: StateDraft, proposal_id: str) -> Decision:
        return await self._services.set_flow_run_state(self.id, draft, proposal_id=proposal_id)

    def _beat(self) -> Heartbeat:
        return Heartbeat(flow_run_id=self.id, attempt=self.run_count)

    def _enter(self) -> None:
        context.flow_run_id.set(self.id)
        context.task_run_id.set("")

    def _leave(self) -> None:
        if self._ended:
            context.run_ended(self.id)


class AsyncTaskRunContext(AsyncRunContext):
    """A task run that is reported by its block: see `task`."""

    def __init__(
        self,
        services: Services,
        *,
        flow_run_id: str,
        task_key: str,
        options: Mapping[str, Any],
        heartbeat: Seconds | None = None,
        on_stop: OnStop | None = None,
    ) -> None:
        super().__init__(services, "", heartbeat, on_stop)
        self._flow_run_id = flow_run_id
        self._task_key = task_key
        self._options = options

    async def _create(self) -> None:
        if not self.id:
            run = await self._services.create_task_run(
                self._task_key, flow_run=self._flow_run_id, **self._options
            )
            self.id = run.id

    async def _propose(self, draft: StateDraft, proposal_id: str) -> Decision:
        return await self._services.set_task_run_state(self.id, draft, proposal_id=proposal_id)

    async def _is_to_wait(self, decision: Decision) -> bool:
        # A paused flow run's task runs wait with it.
        state = decision.state
        if decision.reason != _FLOW_PAUSED:
            return False
        if state.details.pause_reschedule:
            raise RunSuspended(self._flow_run_id)
        await until_resumed(self._services, self._flow_run_id, state)
        return True

    def _beat(self) -> Heartbeat:
        return Heartbeat(task_run_id=self.id, attempt=self.run_count)

    def _enter(self) -> None:
        context.flow_run_id.set(self._flow_run_id)
        context.task_run_id.set(self.id)

    def _leave(self) -> None:
        if self._ended and not self._flow_run_id:
            context.run_ended(self.id)


def _not_resumed(run: FlowRun) -> Decision:
    return Decision(
        verdict=VERDICT_REJECT,
        state=run.state,
        reason="NOT_RESUMED",
        explanation="The run was not resumed",
        run_count=run.run_count,
        version=run.version,
    )


def describe(error: BaseException) -> str:
    """Say what happened in one line: the type, and the text if there is one, whatever it does."""
    try:
        words = str(error)
    except Exception as failure:
        words = f"<its text can not be had: {type(failure).__name__}>"
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    return f"{name}: {words}" if words else name
