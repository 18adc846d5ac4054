"""Clients that ask for the same at the same time: one of them gets it, the others are told who."""

import time
from collections.abc import Sequence

import pytest
from interlock_server.storage import failpoints

from tests.model.cluster import CLIENTS, Cluster
from tests.model.commands import Propose, runs_of
from tests.model.rules import State
from tests.model.wire import Seen
from tests.support.runs import PENDING, RUNNING, SCHEDULED, FlowRuns, TaskRuns, proposal

_ROUNDS = 10


def _proposals(kind: str, run_id: str, type_: int, version: int = 0) -> list[Propose]:
    """Each client's proposal of the same state."""
    state = State("")  # for a model, which is not asked here
    made = [proposal(run_id, type_) for _ in range(CLIENTS)]
    for message in made:
        message.expected_version = version
    return [Propose(kind, state, message) for message in made]


def _send(servers: Cluster, commands: Sequence[Propose]) -> Sequence[Seen]:
    return servers.send(0, commands, time.time()).answers


def _only_winner(answers: Sequence[Seen], reason: str) -> Seen:
    """Answer the answer of the one that got it; the others were told why not, and who did."""
    (winner,) = [answer for answer in answers if answer["status"] == "ACCEPT"]
    others = [answer for answer in answers if answer is not winner]
    assert [(it["status"], it["reason"]) for it in others] == [("ABORT", reason)] * len(others)
    assert {it["state_id"] for it in others} == {winner["state_id"]}
    return winner


def test_exactly_one_worker_takes_a_run(servers: Cluster) -> None:
    for _ in range(_ROUNDS):
        run = servers.ask(0, lambda stubs: FlowRuns(stubs).make(state={"type": SCHEDULED}))
        claims = _proposals("flow_run", run.id, PENDING)
        answers = _send(servers, claims)
        winner = _only_winner(answers, "ALREADY_TAKEN")
        assert winner["state_id"] in {claim.message.id for claim in claims}


def test_the_same_claims_are_answered_the_same_when_they_are_sent_again(servers: Cluster) -> None:
    run = servers.ask(0, lambda stubs: FlowRuns(stubs).make(state={"type": SCHEDULED}))
    claims, now = _proposals("flow_run", run.id, PENDING), time.time()
    answers = servers.send(0, claims, now).answers
    begun = proposal(run.id, RUNNING)
    servers.ask(0, lambda stubs: FlowRuns(stubs).propose(begun))
    for client in range(CLIENTS):  # each of them on each of the servers
        assert servers.send(client, claims, now).answers == answers


def test_one_worker_takes_a_run_while_the_server_dies_of_it(servers: Cluster) -> None:
    run = servers.ask(0, lambda stubs: FlowRuns(stubs).make(state={"type": SCHEDULED}))
    claims = _proposals("flow_run", run.id, PENDING)
    servers.die(0, failpoints.AFTER_COMMIT)
    sent = servers.send(0, claims, time.time())
    assert sent.again
    _only_winner(sent.answers, "ALREADY_TAKEN")
    history = servers.ask(1, lambda stubs: FlowRuns(stubs).history(run.id))
    assert len(history) == 1 + CLIENTS


@pytest.mark.parametrize("kind", ["flow_run", "task_run"])
def test_of_those_that_have_seen_one_version_one_changes_it(servers: Cluster, kind: str) -> None:
    for _ in range(_ROUNDS):
        run = servers.ask(0, lambda stubs: runs_of(stubs, kind).make())
        answers = _send(servers, _proposals(kind, run.id, RUNNING, run.version))
        winner = _only_winner(answers, "VERSION_MISMATCH")
        assert {answer["version"] for answer in answers} == {winner["version"]}


def test_no_run_is_lost_in_the_count(servers: Cluster) -> None:
    run = servers.ask(0, lambda stubs: TaskRuns(stubs).make())
    counts = []
    for _ in range(_ROUNDS):
        answers = _send(servers, _proposals("task_run", run.id, RUNNING))
        counts += [answer["run_count"] for answer in answers]
    assert sorted(counts) == list(range(1, _ROUNDS * CLIENTS + 1))
