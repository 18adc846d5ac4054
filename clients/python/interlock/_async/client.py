"""The client: all services, and the blocks and calls that report a run's states by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from interlock import values
from interlock._async import transport
from interlock._async.calls import Calls, Connection
from interlock._async.heartbeats import Heart
from interlock._async.runs import AsyncFlowRunContext, AsyncTaskRunContext, OnStop
from interlock._async.services import Services
from interlock.channel import target_or_default
from interlock.ids import uuid7
from interlock.retry import RetryPolicy
from interlock.v1.deployment_pb2 import Deployment
from interlock.v1.flow_pb2 import Flow
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.task_run_pb2 import TaskRun
from interlock.values import Seconds, id_of

T = TypeVar("T")


class AsyncClient(Services):
    """Reports and reads runs, over one channel that connects with the first call.

    Every method raises a subclass of `interlock.InterlockError`; which reasons there are stands
    with each RPC in `protos/`. A call that fails for a moment is sent again until `timeout` is used
    up, where that can do no harm: reads, and creations and proposals, for which the client makes
    the ids. Updates and deletions are sent again only if the server says that it did nothing.

    NULs and lone surrogates in texts are escaped (see `interlock.text`).
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: Seconds = 60.0,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        proposed_by: str = "",
    ) -> None:
        """Make a client; nothing is sent yet.

        Args:
            target: where the server is, such as `127.0.0.1:4200`; unless given, what the
                environment variable `INTERLOCK_TARGET` says, else the local server.
            timeout: the time budget of a call in seconds, its retries included.
            retry: how retries are spaced.
            credentials: for TLS; none: a plain connection.
            proposed_by: who proposes states, for the history of the runs.
        """
        connection = Connection(target_or_default(target), credentials)
        self._calls = Calls(connection, values.total_seconds(timeout), retry or RetryPolicy())
        self._proposed_by = proposed_by
        self.heart = Heart(self._calls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel. The client may not be used after it; closing again does nothing."""
        await self.heart.close()
        await self._calls.close()

    def flow_run(
        self,
        flow: Flow | str,
        *,
        name: str = "",
        parameters: Mapping[str, Any] | None = None,
        retries: int = 0,
        retry_delay: Seconds = 0,
        retry_crashes: bool = False,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        flow_version: str = "",
        idempotency_key: str = "",
        parent_task_run: TaskRun | str = "",
        infrastructure_pid: str = "",
        deployment: Deployment | str = "",
        heartbeat: Seconds | None = None,
        on_stop: OnStop | None = None,
    ) -> AsyncFlowRunContext:
        """Run a flow in a `with` block: create its run, and report what becomes of the block.

        The flow is given itself or by its **name**. Entering proposes RUNNING, and waits as long as
        the service says WAIT; leaving proposes COMPLETED, FAILED for an Exception, CRASHED for
        what ends the process (KeyboardInterrupt, SystemExit, a cancelled task). An exception goes
        on outward. Log records made inside belong to the run.

        A block can not be run again. If the run has retries left, its failure leaves it
        AwaitingRetry; `run_flow` and `enter_flow_run` go on from there.

        With `heartbeat=30` the run counts as dead when nothing is heard of this process for 30
        seconds; it then crashes, or is scheduled again where its retry policy says so. Heartbeats
        are sent three times as often, those of all runs of this client together. Their answers may
        tell the run to stop: `on_stop` is called with the reason then, from a thread of its own
        (AsyncClient: in the loop); `run.told_to_stop` has it, and `run.check()` raises RunStopped.

        Entering raises TransitionAborted or TransitionRejected where the run may not run.
        """
        return AsyncFlowRunContext(
            self,
            flow=flow,
            heartbeat=heartbeat,
            on_stop=on_stop,
            options={
                "name": name,
                "parameters": parameters,
                "retries": retries,
                "retry_delay": retry_delay,
                "retry_crashes": retry_crashes,
                "tags": tags,
                "labels": labels,
                "flow_version": flow_version,
                "idempotency_key": idempotency_key,
                "parent_task_run": parent_task_run,
                "infrastructure_pid": infrastructure_pid,
                "deployment": deployment,
            },
        )

    def enter_flow_run(
        self,
        run: FlowRun | str,
        *,
        heartbeat: Seconds | None = None,
        on_stop: OnStop | None = None,
    ) -> AsyncFlowRunContext:
        """Run a flow run that exists already in a `with` block; see `flow_run`."""
        return AsyncFlowRunContext(self, run_id=id_of(run), heartbeat=heartbeat, on_stop=on_stop)

    def task_run(
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
        heartbeat: Seconds | None = None,
        on_stop: OnStop | None = None,
    ) -> AsyncTaskRunContext:
        """Run a task that is part of no flow run in a `with` block; see `flow_run`.

        A task without a dynamic key of its own gets a new run each time.
        """
        return AsyncTaskRunContext(
            self,
            flow_run_id="",
            task_key=task_key,
            heartbeat=heartbeat,
            on_stop=on_stop,
            options={
                "dynamic_key": dynamic_key or uuid7(),
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

    async def run_flow(
        self,
        function: transport.Body[T],
        *arguments: Any,
        flow: Flow | str = "",
        name: str = "",
        parameters: Mapping[str, Any] | None = None,
        retries: int = 0,
        retry_delay: Seconds = 0,
        retry_crashes: bool = False,
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        flow_version: str = "",
        idempotency_key: str = "",
        parent_task_run: TaskRun | str = "",
        deployment: Deployment | str = "",
        heartbeat: Seconds | None = None,
        on_stop: OnStop | None = None,
    ) -> T:
        """Run a function as a flow, again as often as its retries allow, and answer its result.

        The function is called with the run (for `run.run_task`) and the arguments. The flow's name
        is the function's unless given. Raises what the function raised the last time, and what
        entering `flow_run` raises.
        """
        run = self.flow_run(
            flow or function.__name__,
            name=name,
            parameters=parameters,
            retries=retries,
            retry_delay=retry_delay,
            retry_crashes=retry_crashes,
            tags=tags,
            labels=labels,
            flow_version=flow_version,
            idempotency_key=idempotency_key,
            parent_task_run=parent_task_run,
            deployment=deployment,
            heartbeat=heartbeat,
            on_stop=on_stop,
        )
        return await run.repeat(function, run, *arguments)
