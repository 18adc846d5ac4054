"""What clients do: each command is sent to the service, and done to the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message
from interlock.v1 import flow_run_pb2, state_pb2, task_run_pb2

from tests.model import wire
from tests.model.rules import Run, State
from tests.model.service import Answer, Refused, Service
from tests.model.wire import Seen
from tests.support.refusals import refusal_of
from tests.support.runs import FlowRuns, TaskRuns
from tests.support.stubs import Stubs

_Steering = (
    flow_run_pb2.FlowRunServicePauseRequest
    | flow_run_pb2.FlowRunServiceResumeRequest
    | flow_run_pb2.FlowRunServiceCancelRequest
)


class Command(Protocol):
    """Something that a client asks for."""

    @property
    def run_ids(self) -> Sequence[str]:
        """The runs that it is about."""

    def send(self, stubs: Stubs, now: float) -> Seen:
        """Ask the service; answer what was seen. Raises grpc.RpcError where nothing was."""

    def apply(self, model: Service, now: float) -> Seen:
        """Do it to the model; answer what should be seen."""


def runs_of(stubs: Stubs, kind: str) -> Any:
    """The runs of a kind."""
    return FlowRuns(stubs) if kind == "flow_run" else TaskRuns(stubs)


@dataclass(frozen=True, slots=True)
class Create:
    """Makes a run."""

    run_id: str
    run: Run
    parent_id: str
    first: State
    request: Any

    @property
    def run_ids(self) -> Sequence[str]:
        return [self.run_id]

    def send(self, stubs: Stubs, now: float) -> Seen:
        def create() -> Seen:
            made = runs_of(stubs, self.run.kind).create(self.request)
            return {"created": made.created}

        return _unless_refused(create)

    def apply(self, model: Service, now: float) -> Seen:
        def create() -> Seen:
            content = _content(self.request)
            made = model.create(self.run_id, content, self.run, self.parent_id, self.first, now)
            return {"created": made}

        return _unless_refused(create)


@dataclass(frozen=True, slots=True, repr=False)
class Propose:
    """Proposes a state."""

    kind: str
    state: State
    message: state_pb2.Proposal

    def __repr__(self) -> str:
        force = ", by force" if self.message.force else ""
        return f"{self.kind} {self.message.run_id[-4:]} -> {self.state}{force}"

    @property
    def run_ids(self) -> Sequence[str]:
        return [self.message.run_id]

    def send(self, stubs: Stubs, now: float) -> Seen:
        runs = runs_of(stubs, self.kind)
        return _unless_refused(lambda: seen(runs.propose(self.message), now))

    def apply(self, model: Service, now: float) -> Seen:
        def propose() -> Seen:
            message = self.message
            answer = model.propose(
                self.kind,
                message.run_id,
                message.id,
                _content(message),
                self.state,
                now,
                message.force,
                message.expected_version,
            )
            return _expected(answer, now)

        return _unless_refused(propose)


@dataclass(frozen=True, slots=True)
class ProposeAll:
    """Proposes states for runs of one kind, in one call."""

    proposals: Sequence[Propose]

    @property
    def run_ids(self) -> Sequence[str]:
        return [it.message.run_id for it in self.proposals]

    def send(self, stubs: Stubs, now: float) -> Seen:
        runs = runs_of(stubs, self.proposals[0].kind)
        outcomes = runs.propose_all([it.message for it in self.proposals])
        return _numbered(
            seen(it.decision, now) if it.HasField("decision") else {"refused": it.error.reason}
            for it in outcomes
        )

    def apply(self, model: Service, now: float) -> Seen:
        return _numbered(it.apply(model, now) for it in self.proposals)


@dataclass(frozen=True, slots=True)
class Steer:
    """Pauses, resumes or cancels a flow run; it is resumed where there is no state to propose."""

    state: State | None
    request: _Steering

    @property
    def run_ids(self) -> Sequence[str]:
        return [self.request.flow_run_id]

    def send(self, stubs: Stubs, now: float) -> Seen:
        def steer() -> Seen:
            match self.request:
                case flow_run_pb2.FlowRunServicePauseRequest():
                    return seen(stubs.flow_runs.Pause(self.request).decision, now)
                case flow_run_pb2.FlowRunServiceResumeRequest():
                    return seen(stubs.flow_runs.Resume(self.request).decision, now)
                case flow_run_pb2.FlowRunServiceCancelRequest():
                    return seen(stubs.flow_runs.Cancel(self.request).decision, now)

        return _unless_refused(steer)

    def apply(self, model: Service, now: float) -> Seen:
        def steer() -> Seen:
            request = self.request
            answer = model.propose(
                "flow_run",
                request.flow_run_id,
                request.proposal_id,
                _content(request),
                self.state,
                now,
                expected_version=request.expected_version,
            )
            return _expected(answer, now)

        return _unless_refused(steer)


@dataclass(frozen=True, slots=True)
class Update:
    """Renames a run, if it has the version that the etag stands for; 0: whatever the version."""

    kind: str
    run_id: str
    name: str
    version: int

    @property
    def run_ids(self) -> Sequence[str]:
        return [self.run_id]

    def send(self, stubs: Stubs, now: float) -> Seen:
        make = flow_run_pb2.FlowRun if self.kind == "flow_run" else task_run_pb2.TaskRun
        run = make(id=self.run_id, name=self.name, etag=_etag(self.version))

        def update() -> Seen:
            return {"version": runs_of(stubs, self.kind).update(run, "name").version}

        return _unless_refused(update)

    def apply(self, model: Service, now: float) -> Seen:
        def update() -> Seen:
            model.update(self.kind, self.run_id, self.version)
            return {"version": model.runs[self.run_id].version}

        return _unless_refused(update)


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes a run, if it has the version that the etag stands for; 0: whatever the version."""

    kind: str
    run_id: str
    version: int

    @property
    def run_ids(self) -> Sequence[str]:
        return [self.run_id]

    def send(self, stubs: Stubs, now: float) -> Seen:
        def delete() -> Seen:
            runs_of(stubs, self.kind).delete(self.run_id, _etag(self.version))
            return {}

        return _unless_refused(delete)

    def apply(self, model: Service, now: float) -> Seen:
        def delete() -> Seen:
            model.delete(self.kind, self.run_id, self.version)
            return {}

        return _unless_refused(delete)


def read_run(stubs: Stubs, kind: str, run_id: str, now: float) -> Seen:
    """Read a run; answer what is compared of it."""
    return _unless_refused(lambda: wire.run_of_service(runs_of(stubs, kind).get(run_id), now))


def seen(decision: state_pb2.Decision, now: float) -> Seen:
    """What is compared of the service's answer to a proposal."""
    state = decision.state
    return {
        "status": wire.status(decision.verdict),
        "reason": decision.reason,
        "delay_seconds": decision.retry_after.seconds,
        "state": wire.type_and_name(state),
        "state_id": state.id,
        "scheduled_in": wire.seconds(state.details, "scheduled_time", now),
        "pause_timeout_in": wire.seconds(state.details, "pause_timeout", now),
        "result": state.HasField("result"),
        "run_count": decision.run_count,
        "version": decision.version,
    }


def _expected(answer: Answer, now: float) -> Seen:
    verdict, state = answer.verdict, answer.state
    expected = {
        "status": verdict.status,
        "reason": verdict.reason,
        "delay_seconds": verdict.delay or 0,
        "state": [state.type, state.name],
        "scheduled_in": None if state.scheduled is None else state.scheduled - now,
        "pause_timeout_in": None if state.pause_timeout is None else state.pause_timeout - now,
        "result": state.result,
        "run_count": answer.run_count,
        "version": answer.version,
    }
    return expected | ({"state_id": answer.state_id} if answer.state_id else {})


def _unless_refused(ask: Callable[[], Seen]) -> Seen:
    try:
        return ask()
    except Refused as refused:
        return {"refused": str(refused)}
    except grpc.RpcError as error:
        if reason := refusal_of(error).reason:
            return {"refused": reason}
        raise


def _numbered(answers: Any) -> Seen:
    return {
        f"{i}.{key}": value for i, answer in enumerate(answers) for key, value in answer.items()
    }


def _content(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _etag(version: int) -> str:
    return str(version) if version else ""
