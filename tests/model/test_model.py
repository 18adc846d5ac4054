"""The service does what its model does, whoever asks for what, and whenever its servers die.

Hypothesis invents what clients do: they make runs, propose states, repeat themselves, contradict
each other, and servers are killed between commands, within them, and between a commit and its
reply. Each answer has to be the model's, and so has each run that is read back.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, permutations
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from interlock.ids import uuid7
from interlock.v1 import flow_run_pb2, state_pb2, task_run_pb2
from interlock_server.storage import failpoints

from tests.model import wire
from tests.model.cluster import CLIENTS, WHERE, Cluster
from tests.model.commands import (
    Command,
    Create,
    Delete,
    Propose,
    ProposeAll,
    Steer,
    Update,
    read_run,
    runs_of,
)
from tests.model.rules import Line, Run, State
from tests.model.service import Service
from tests.support.runs import make_deployment, make_flow, unique

_SLACK = 10.0
"""Seconds that times may be off: a command that a server died of is decided when it is back."""

_HOUR = 3600.0

_RUNS = 6
"""Runs of an example, at the most: few enough that much happens to each of them."""

_WITH_TIME_TO_SHRINK = pytest.mark.timeout(600)
"""What fails is played again and again until it is short, which takes a few minutes."""

_STATES = (
    State("SCHEDULED"),
    State("SCHEDULED", scheduled=-_HOUR),
    State("SCHEDULED", scheduled=_HOUR),
    State("SCHEDULED", "Late", scheduled=-_HOUR),
    State("SCHEDULED", "AwaitingRetry", scheduled=-_HOUR),
    State("SCHEDULED", "Resuming"),
    State("PENDING"),
    State("PENDING", "Submitting"),
    State("PENDING", "InfrastructurePending"),
    State("RUNNING"),
    State("PAUSED", pause_key="a", pause_timeout=_HOUR),
    State("PAUSED", pause_key="b", pause_timeout=-_HOUR),
    State("PAUSED", "Suspended", pause_key="c", pause_timeout=_HOUR, pause_reschedule=True),
    State("CANCELLING"),
    State("CANCELLED"),
    State("COMPLETED"),
    State("COMPLETED", result=True),
    State("FAILED"),
    State("FAILED", retriable=False),
    State("CRASHED"),
    # Of task runs, with the cache:
    State("RUNNING", cache_key="key"),
    State("RUNNING", cache_key="key", refresh_cache=True),
    State("COMPLETED", cache_key="key"),
    State("COMPLETED", cache_key="key", cache_expiration=-_HOUR, result=True),
)

_OFTEN = (
    State("RUNNING"),
    State("RUNNING"),
    State("FAILED"),
    State("PAUSED", pause_key="a", pause_timeout=_HOUR),
    State("COMPLETED"),
)
"""Without these little happens."""

states = st.sampled_from(_STATES + 4 * _OFTEN)


def _walk(seed: int, length: int) -> list[tuple[State, bool]]:
    """Answer states to propose, by chance, and whether by force, which frees what is stuck."""
    chance = Random(seed)
    chosen = chance.choices(_STATES + 4 * _OFTEN, k=length)
    return [(state, chance.random() < 0.15) for state in chosen]


walks = st.builds(_walk, st.integers(0, 2**32), st.integers(1, 30))
"""Hypothesis likes to repeat what it has seen; here every number leads elsewhere."""

clients = st.integers(0, CLIENTS - 1)
retries = st.sampled_from([0, 0, 1, 2])
often_false = st.sampled_from([False, False, False, True])

ANY, CURRENT, STALE = "any", "current", "stale"
versions = st.sampled_from([ANY, ANY, ANY, CURRENT, STALE])
"""Which version of the run a client says that it has seen."""


PAUSE, SUSPEND, RESUME, CANCEL = "pause", "suspend", "resume", "cancel"
MAKE_AGAIN, MAKE_OTHERWISE, RENAME, DELETE = "make again", "make otherwise", "rename", "delete"


class Clients(RuleBasedStateMachine):
    """Clients of a cluster, and the model of what they should be answered."""

    cluster: Cluster
    deaths = 0
    """How often servers die in an example, at the most: each time costs a second or two."""

    flow_runs: Bundle[str] = Bundle("flow_runs")
    task_runs: Bundle[str] = Bundle("task_runs")
    sent: Bundle[Propose] = Bundle("sent")

    same_kind = st.lists(flow_runs, min_size=1, max_size=3) | st.lists(
        task_runs, min_size=1, max_size=3
    )

    def __init__(self) -> None:
        super().__init__()
        self.model = Service()
        self.creations: dict[str, Create] = {}
        self.flow = self.cluster.ask(0, make_flow).id
        self.deployment = self.cluster.ask(0, lambda stubs: make_deployment(stubs, self.flow)).id
        self.cache_key = unique("key")
        self.first = self._create(0, "flow_run", State("RUNNING"), 1, "", deployment=True)

    # --- what clients do ---

    @initialize(
        target=flow_runs,
        client=clients,
        where=st.sampled_from(failpoints.POINTS),
        visit=st.integers(1, 8),
        proposed=walks,
    )
    def see_first_flow_run(
        self, client: int, where: str, visit: int, proposed: list[tuple[State, bool]]
    ) -> str:
        if self.deaths:
            self.cluster.die(client, where, visit)
        self.propose_in_one_call(client, [self.first], proposed)
        return self.first

    @initialize(target=task_runs, retries=retries, proposed=walks)
    def make_first_task_run(self, retries: int, proposed: list[tuple[State, bool]]) -> str:
        run_id = self._create(0, "task_run", State("PENDING"), retries, self.first)
        self.propose_in_one_call(0, [run_id], proposed)
        return run_id

    @precondition(lambda self: len(self.creations) < _RUNS)
    @rule(
        target=flow_runs,
        client=clients,
        first=states,
        retries=retries,
        tracker=st.none() | task_runs,
        deployment=st.booleans(),
    )
    def make_flow_run(
        self, client: int, first: State, retries: int, tracker: str | None, deployment: bool
    ) -> str:
        return self._create(client, "flow_run", first, retries, tracker or "", deployment)

    @precondition(lambda self: len(self.creations) < _RUNS)
    @rule(
        target=task_runs,
        client=clients,
        first=states,
        retries=retries,
        flow_run=st.none() | flow_runs,
    )
    def make_task_run(self, client: int, first: State, retries: int, flow_run: str | None) -> str:
        return self._create(client, "task_run", first, retries, flow_run or "")

    @rule(
        target=sent,
        client=clients,
        run_id=flow_runs | task_runs,
        proposed=st.lists(st.tuples(states, often_false, versions), min_size=1, max_size=5),
    )
    def propose(
        self, client: int, run_id: str, proposed: list[tuple[State, bool, str]]
    ) -> MultipleResults[Propose]:
        commands = []
        for state, force, version in proposed:
            commands.append(self._proposal(run_id, state, force, self._version(run_id, version)))
            self._do(client, commands[-1])
        return multiple(*commands)

    @rule(client=clients, before=sent, otherwise=often_false)
    def propose_again(self, client: int, before: Propose, otherwise: bool) -> None:
        message = state_pb2.Proposal()
        message.CopyFrom(before.message)
        if otherwise:
            message.state.message += "changed"
        self._do(client, replace(before, message=message))

    @rule(client=clients, run_ids=same_kind, proposed=walks)
    def propose_in_one_call(
        self, client: int, run_ids: list[str], proposed: list[tuple[State, bool]]
    ) -> None:
        turns = zip(cycle(run_ids), proposed, strict=False)
        self._do(client, ProposeAll([self._proposal(run_id, *it) for run_id, it in turns]))

    @rule(
        target=sent,
        client=clients,
        run_id=flow_runs | task_runs,
        proposed=st.lists(states, min_size=2, max_size=3),
        twice=often_false,
    )
    def propose_at_the_same_time(
        self, client: int, run_id: str, proposed: list[State], twice: bool
    ) -> MultipleResults[Propose]:
        commands = [self._proposal(run_id, state) for state in proposed]
        self._do(client, *(commands[:1] * 2 if twice else commands))
        return multiple(*commands)

    @rule(
        client=clients,
        run_id=flow_runs,
        what=st.sampled_from([PAUSE, SUSPEND, RESUME, RESUME, CANCEL]),
        version=versions,
        twice=often_false,
    )
    def steer(self, client: int, run_id: str, what: str, version: str, twice: bool) -> None:
        id_, seen = uuid7(), self._version(run_id, version)
        about: dict[str, Any] = {
            "flow_run_id": run_id,
            "proposal_id": id_,
            "expected_version": seen,
        }
        match what:
            case "pause" | "suspend":
                later = what == SUSPEND
                name = "Suspended" if later else "Paused"
                state = State("PAUSED", name, None, time.time() + 300, id_, pause_reschedule=later)
                pause = flow_run_pb2.FlowRunServicePauseRequest(**about, reschedule=later)
                command = Steer(state, pause)
            case "resume":
                command = Steer(None, flow_run_pb2.FlowRunServiceResumeRequest(**about))
            case _:
                cancel = flow_run_pb2.FlowRunServiceCancelRequest(**about)
                command = Steer(State("CANCELLING"), cancel)
        self._do(client, *([command] * (2 if twice else 1)))

    @rule(
        client=clients,
        run_id=flow_runs | task_runs,
        what=st.sampled_from([MAKE_AGAIN, MAKE_OTHERWISE, RENAME, DELETE]),
        version=versions,
    )
    def look_after(self, client: int, run_id: str, what: str, version: str) -> None:
        made, seen = self.creations[run_id], self._version(run_id, version)
        match what:
            case "rename":
                self._do(client, Update(made.run.kind, run_id, unique("name"), seen))
            case "delete":
                self._do(client, Delete(made.run.kind, run_id, seen))
            case _:
                request = type(made.request)()
                request.CopyFrom(made.request)
                if what == MAKE_OTHERWISE:
                    request.name += "-changed"
                self._do(client, replace(made, request=request))

    @precondition(lambda self: self.deaths > 1)
    @rule(client=clients, where=st.sampled_from(WHERE))
    def let_a_server_die(self, client: int, where: str) -> None:
        self.deaths -= 1
        self.cluster.die(client, where)

    def teardown(self) -> None:
        """Read everything back, histories included."""
        wrong: list[str] = []
        for client, (run_id, command) in enumerate(self.creations.items()):
            read = self._read(client, run_id, history=True)
            wrong += _problems(self.model, command.run.kind, run_id, read)
        assert not wrong, "\n".join(wrong)

    # --- how it is done, and checked ---

    def _create(
        self,
        client: int,
        kind: str,
        first: State,
        retries: int,
        parent_id: str,
        deployment: bool = False,
    ) -> str:
        run_id, first = uuid7(), self._now(first)
        request: Any
        if kind == "flow_run":
            request = flow_run_pb2.CreateFlowRunRequest(
                flow_id=self.flow,
                parent_task_run_id=parent_id,
                deployment_id=self.deployment if deployment else "",
            )
        else:
            request = task_run_pb2.CreateTaskRunRequest(
                flow_run_id=parent_id, task_key=unique("task")
            )
        request.id = run_id
        request.state.CopyFrom(wire.draft(first))
        request.retry_policy.max_retries = retries
        command = Create(run_id, Run(kind, retries, 0, deployment), parent_id, first, request)
        self.creations[run_id] = command
        self._do(client, command)
        return run_id

    def _proposal(
        self, run_id: str, state: State, force: bool = False, version: int = 0
    ) -> Propose:
        state = self._now(state)
        message = state_pb2.Proposal(
            id=uuid7(),
            run_id=run_id,
            state=wire.draft(state),
            force=force,
            expected_version=version,
        )
        return Propose(self.creations[run_id].run.kind, state, message)

    def _now(self, state: State) -> State:
        """Answer a state with its times from now on, and with this example's cache key."""
        key = self.cache_key if state.cache_key else None
        named = replace(state, name=state.name or state.type.capitalize(), cache_key=key)
        return named.at(time.time())

    def _version(self, run_id: str, which: str) -> int:
        """Answer the version that a client says it has seen; 0 where it says nothing."""
        run = self.model.runs.get(run_id)
        if run is None or which == ANY:
            return 0
        return run.version if which == CURRENT else run.version + 1

    def _do(self, client: int, *commands: Command) -> None:
        """Send commands at the same time: what they are answered is right in some order of them."""
        now = time.time()
        sent = self.cluster.send(client, commands, now)
        within = _SLACK + time.time() - now
        touched = {run_id for command in commands for run_id in command.run_ids}
        read = {run_id: self._read(client + 1, run_id, len(commands) > 1) for run_id in touched}
        complaints = []
        for order in _orders(len(commands), sent.again):
            model = copy.deepcopy(self.model)
            right = {i: commands[i].apply(model, now) for i in order}
            wrong = [
                f"{commands[i]}: {key} should be {right[i][key]!r}, is {sent.answers[i].get(key)!r}"
                for i in right
                for key in wire.differing(right[i], sent.answers[i], within)
            ]
            for run_id in touched:
                wrong += _problems(model, self.creations[run_id].run.kind, run_id, read[run_id])
            if not wrong:
                self.model = model
                return
            complaints.append("\n".join(wrong))
        raise AssertionError("\nor\n".join(complaints))

    def _read(self, client: int, run_id: str, history: bool) -> Read:
        kind, now = self.creations[run_id].run.kind, time.time()
        run = self.cluster.ask(client, lambda stubs: read_run(stubs, kind, run_id, now))
        if not history or "refused" in run:
            return Read(now, run)
        lines = self.cluster.ask(client, lambda stubs: runs_of(stubs, kind).history(run_id))
        return Read(now, run, lines)


@dataclass(frozen=True, slots=True)
class Read:
    """A run as it was read back at a time, and its history, if that was read."""

    now: float
    run: wire.Seen
    history: Sequence[state_pb2.Transition] | None = None


def _problems(model: Service, kind: str, run_id: str, read: Read) -> list[str]:
    """Answer what should not be in a run that was read back, in words."""
    expected: wire.Seen = {"refused": f"{kind.upper()}_NOT_FOUND"}
    if (run := model.runs.get(run_id)) is not None:
        expected = wire.run_of_model(run, read.now)
    wrong = [
        f"{kind} {run_id}: {key} should be {expected[key]!r}: {read.run}"
        for key in wire.differing(expected, read.run, _SLACK)
    ]
    if run is None or read.history is None:
        return wrong
    lines = [_line(line) for line in read.history]
    made_by_service = {it.proposal for it in lines} - {it.proposal for it in run.history}
    lines = [it._replace(proposal="") if it.proposal in made_by_service else it for it in lines]
    if lines != run.history:
        wrong.append(f"{kind} {run_id}: its history should be {run.history}: {lines}")
    times = [line.decide_time.ToNanoseconds() for line in read.history]
    if times != sorted(set(times)):
        wrong.append(f"{kind} {run_id}: the times of its history do not grow: {times}")
    return wrong


def _orders(count: int, again: bool) -> Iterable[Sequence[int]]:
    """Answer in which orders commands may have been done that were sent at the same time.

    What a server died of may have been done before, and then was asked for a second time.
    """
    yield from permutations(range(count))
    if again and count == 1:
        yield (0, 0)


def _line(line: state_pb2.Transition) -> Line:
    state = wire.type_and_name(line.state)[0] if line.HasField("state") else ""
    return Line(line.id, wire.status(line.verdict), line.reason, state)


def _run(servers: Cluster, examples: int, steps: int, deaths: int) -> None:
    machine = type("Clients", (Clients,), {"cluster": servers, "deaths": deaths})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@_WITH_TIME_TO_SHRINK
def test_the_service_does_what_its_model_does(servers: Cluster) -> None:
    _run(servers, examples=10, steps=25, deaths=0)


@_WITH_TIME_TO_SHRINK
def test_it_does_so_while_servers_die(servers: Cluster) -> None:
    _run(servers, examples=3, steps=20, deaths=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_it_does_so_for_long(servers: Cluster) -> None:
    _run(servers, examples=400, steps=60, deaths=0)
    _run(servers, examples=60, steps=60, deaths=3)
