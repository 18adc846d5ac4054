"""Pausing, resuming with input, and cancelling flow runs, on each dialect."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import flow_run_pb2 as pb
from interlock.v1.state_pb2 import Decision

from tests.support.postgresql import Postgresql
from tests.support.refusals import refusal_of, refused
from tests.support.runs import (
    ABORT,
    ACCEPT,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    FAILED,
    PAUSED,
    REJECT,
    RUNNING,
    SCHEDULED,
    FlowRuns,
    make_deployment,
    proposal,
)
from tests.support.servers import ServerProcess
from tests.support.stubs import Stubs, connected

APPROVAL = json.dumps(
    {
        "type": "object",
        "properties": {
            "approved": {"type": "boolean"},
            "by": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["approved"],
        "additionalProperties": False,
    }
)


class Steered:
    """One flow run that runs, and the calls that steer it."""

    def __init__(self, stubs: Stubs, id_: str = "", **content: Any) -> None:
        self._service = stubs.flow_runs
        self.runs = FlowRuns(stubs)
        self.id = id_ or self.runs.make(**{"state": {"type": RUNNING}, **content}).id

    @property
    def now(self) -> pb.FlowRun:
        return self.runs.get(self.id)

    def pause(self, **content: Any) -> Decision:
        request = pb.FlowRunServicePauseRequest(flow_run_id=self.id, **content)
        return self._service.Pause(request).decision

    def resume(self, given: Any = None, **content: Any) -> Decision:
        text = "" if given is None else json.dumps(given)
        content = {"input_json": text, **content}
        request = pb.FlowRunServiceResumeRequest(flow_run_id=self.id, **content)
        return self._service.Resume(request).decision

    def cancel(self, **content: Any) -> Decision:
        request = pb.FlowRunServiceCancelRequest(flow_run_id=self.id, **content)
        return self._service.Cancel(request).decision

    def input_of(self, pause_key: str) -> pb.FlowRunInput:
        request = pb.GetFlowRunInputRequest(flow_run_id=self.id, pause_key=pause_key)
        return self._service.GetFlowRunInput(request).input


@pytest.fixture
def run(stubs: Stubs) -> Steered:
    return Steered(stubs)


@pytest.fixture
def deployed(stubs: Stubs) -> Steered:
    """One that can be scheduled again."""
    deployment = make_deployment(stubs)
    return Steered(stubs, flow_id=deployment.flow_id, deployment_id=deployment.id)


# --- pausing --------------------------------------------------------------------------------------


def test_a_pause_lasts_five_minutes_and_has_its_proposals_id_for_a_key(run: Steered) -> None:
    paused = run.pause()
    state = paused.state
    assert (paused.verdict, state.type, state.name) == (ACCEPT, PAUSED, "Paused")
    lasts = state.details.pause_timeout.ToMicroseconds() - state.timestamp.ToMicroseconds()
    assert lasts == 5 * 60 * 1_000_000
    assert state.details.pause_key == paused.proposal_id
    assert not state.details.pause_reschedule
    assert run.now.state == state


def test_a_pause_is_what_it_was_asked_to_be(deployed: Steered) -> None:
    paused = deployed.pause(
        timeout={"seconds": 7},
        reschedule=True,
        pause_key="approval",
        input_schema_json=APPROVAL,
        message="May I?",
        proposed_by="etl",
    )
    state = paused.state
    assert (paused.verdict, state.name, state.message) == (ACCEPT, "Suspended", "May I?")
    assert state.details.pause_reschedule
    assert (state.details.pause_key, state.details.input_schema_json) == ("approval", APPROVAL)
    assert deployed.runs.history(deployed.id)[-1].proposed_by == "etl"


def test_the_rules_decide_about_a_pause(run: Steered) -> None:
    assert run.pause(pause_key="once").verdict == ACCEPT
    again = run.pause()
    assert (again.verdict, again.reason) == (REJECT, "NOT_RUNNING")
    run.resume()
    fired = run.pause(pause_key="once")
    assert (fired.verdict, fired.reason) == (REJECT, "PAUSE_FIRED")
    homeless = run.pause(reschedule=True)
    assert (homeless.verdict, homeless.reason) == (ABORT, "NO_DEPLOYMENT")
    assert run.now.state.type == RUNNING


def test_a_pause_sent_again_answers_as_it_did_the_first_time(run: Steered) -> None:
    id_ = uuid7()
    first = run.pause(proposal_id=id_, message="wait")
    assert first.proposal_id == id_
    run.resume()
    assert run.pause(proposal_id=id_, message="wait") == first
    assert run.now.state.type == RUNNING
    with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
        run.pause(proposal_id=id_, message="wait!")


# --- resuming -------------------------------------------------------------------------------------


def test_a_paused_run_goes_on_and_that_counts_as_no_new_run(run: Steered) -> None:
    run.pause()
    resumed = run.resume(proposed_by="ada")
    assert (resumed.verdict, resumed.state.type, resumed.run_count) == (ACCEPT, RUNNING, 1)
    assert resumed.state.name == "Running"
    assert run.runs.history(run.id)[-1].proposed_by == "ada"


def test_a_suspended_run_is_scheduled_to_resume_at_once(deployed: Steered) -> None:
    deployed.pause(reschedule=True)
    resumed = deployed.resume()
    assert (resumed.verdict, resumed.state.type) == (ACCEPT, SCHEDULED)
    assert resumed.state.name == "Resuming"
    due = resumed.state.details.scheduled_time.ToMicroseconds()
    assert 0 <= resumed.state.timestamp.ToMicroseconds() - due < 1_000_000
    started = deployed.runs.propose(proposal(deployed.id, RUNNING))
    assert (started.verdict, started.run_count) == (ACCEPT, 1)


def test_only_a_paused_run_can_be_resumed(run: Steered) -> None:
    id_ = uuid7()
    refusal = run.resume(proposal_id=id_)
    assert (refusal.verdict, refusal.reason) == (ABORT, "NOT_PAUSED")
    assert (refusal.rule, refusal.state.type) == ("only_what_is_paused_resumes", RUNNING)
    run.pause()
    assert run.resume(proposal_id=id_) == refusal
    assert run.now.state.type == PAUSED
    line = run.runs.history(run.id)[-2]
    assert (line.id, line.verdict, line.reason) == (id_, ABORT, "NOT_PAUSED")


def test_a_resume_that_comes_too_late_fails_the_run(run: Steered) -> None:
    run.pause(timeout={"nanos": 1000}, input_schema_json=APPROVAL)
    late = run.resume({"approved": True})
    assert (late.verdict, late.reason) == (REJECT, "PAUSE_EXPIRED")
    assert late.state.type == FAILED
    with refused(StatusCode.NOT_FOUND, "FLOW_RUN_INPUT_NOT_FOUND"):
        run.input_of(late.proposal_id)


def test_of_those_who_resume_at_once_one_wins_and_the_others_are_told_the_state(
    run: Steered,
) -> None:
    run.pause(pause_key="race", input_schema_json="{}")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(run.resume, range(1, 7)))
    won = [answer for answer in answers if answer.verdict == ACCEPT]
    assert len(won) == 1
    for answer in answers:
        if answer.verdict != ACCEPT:
            assert (answer.verdict, answer.reason) == (ABORT, "NOT_PAUSED")
            assert answer.state == won[0].state
    assert json.loads(run.input_of("race").input_json) == answers.index(won[0]) + 1
    assert run.now.run_count == 1


def test_who_resumes_or_pauses_may_say_which_version_that_is_about(run: Steered) -> None:
    seen = run.now.version
    paused = run.pause(expected_version=seen)
    assert (paused.verdict, paused.version) == (ACCEPT, seen + 1)
    for steer in (run.pause, run.resume, run.cancel):
        stale = steer(expected_version=seen)
        assert (stale.verdict, stale.reason) == (ABORT, "VERSION_MISMATCH")
        assert stale.state == paused.state
    assert run.resume(expected_version=paused.version).verdict == ACCEPT


# --- input ----------------------------------------------------------------------------------------


def test_input_is_kept_under_the_key_of_its_pause(run: Steered) -> None:
    run.pause(pause_key="approval", input_schema_json=APPROVAL)
    text = '{"by": ["ada", "\\u0000"],  "approved": true}'
    resumed = run.resume(input_json=text, proposed_by="ada")
    kept = run.input_of("approval")
    assert (kept.flow_run_id, kept.pause_key) == (run.id, "approval")
    assert (kept.input_json, kept.proposed_by) == (text, "ada")
    assert kept.create_time.ToSeconds() == pytest.approx(resumed.state.timestamp.ToSeconds(), abs=2)

    other = run.pause(input_schema_json="true")
    run.resume([1, 2])
    assert run.input_of(other.proposal_id).input_json == "[1, 2]"
    assert run.input_of("approval") == kept


def test_a_later_attempt_that_pauses_at_the_same_place_has_its_own_input(stubs: Stubs) -> None:
    run = Steered(stubs, retry_policy={"max_retries": 1})
    for attempt in (1, 2):
        run.pause(pause_key="approval", input_schema_json="{}")
        assert run.resume(attempt).verdict == ACCEPT
        assert run.input_of("approval").input_json == str(attempt)
        run.runs.propose(proposal(run.id, FAILED))
        run.runs.propose(proposal(run.id, RUNNING))


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({}, "input_json", '"approved" is a required property'),
        ({"approved": "yes"}, "input_json.approved", '"yes" is not of type'),
        ({"approved": True, "by": ["ada", 3]}, "input_json.by[1]", "3 is not of type"),
        ({"approved": True, "who": 1}, "input_json", 'There is no property "who"'),
        (None, "input_json", "The run waits for input"),
    ],
)
def test_input_that_does_not_meet_the_schema_changes_nothing(
    run: Steered, given: Any, field: str, words: str
) -> None:
    paused = run.pause(pause_key="approval", input_schema_json=APPROVAL)
    id_ = uuid7()
    with pytest.raises(grpc.RpcError) as caught:
        run.resume(given, proposal_id=id_)
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "INPUT_INVALID")
    assert refusal.fields == (field,)
    assert words in refusal.message
    assert run.now.state == paused.state
    assert len(run.runs.history(run.id)) == 2
    with refused(StatusCode.NOT_FOUND, "FLOW_RUN_INPUT_NOT_FOUND"):
        run.input_of("approval")
    assert run.resume({"approved": True}, proposal_id=id_).verdict == ACCEPT


def test_input_that_nobody_waits_for_is_refused(run: Steered) -> None:
    run.pause()
    with refused(StatusCode.INVALID_ARGUMENT, "INPUT_INVALID", "input_json"):
        run.resume({"approved": True})
    assert run.resume().verdict == ACCEPT


def test_input_that_is_no_json_is_refused(run: Steered) -> None:
    run.pause(input_schema_json="{}")
    for text in ('{"a": 1', '{"a": 1, "a": 2}', "NaN"):
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "input_json"):
            run.resume(input_json=text)


def test_a_resume_sent_again_answers_as_it_did_the_first_time_and_keeps_no_other_input(
    run: Steered,
) -> None:
    id_ = uuid7()
    run.pause(pause_key="first", input_schema_json='{"type": "integer"}')
    first = run.resume(1, proposal_id=id_)
    run.pause(pause_key="second", input_schema_json='{"type": "string"}')
    assert run.resume(1, proposal_id=id_) == first
    assert run.now.state.type == PAUSED
    with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
        run.resume(2, proposal_id=id_)
    assert run.input_of("first").input_json == "1"


def test_a_schema_that_is_none_is_refused_wherever_it_comes(run: Steered) -> None:
    bad = '{"properties": {"a": {"type": "strin"}}}'
    with refused(
        StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "input_schema_json.properties.a.type"
    ):
        run.pause(input_schema_json=bad)
    details = {"input_schema_json": bad}
    sent = proposal(run.id, PAUSED, details=details)
    path = "state.details.input_schema_json.properties.a.type"
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", f"proposal.{path}"):
        run.runs.propose(sent)
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", f"proposals[1].{path}"):
        run.runs.propose_all([proposal(run.id, RUNNING), sent])
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", path):
        run.runs.make(state={"type": PAUSED, "details": details})
    assert run.now.state.type == RUNNING


def test_a_pause_that_was_proposed_as_a_state_takes_input_too(run: Steered) -> None:
    details = {"input_schema_json": '{"type": "integer"}'}
    paused = run.runs.propose(proposal(run.id, PAUSED, details=details))
    run.resume(3)
    assert run.input_of(paused.state.id).input_json == "3"


def test_what_is_not_there_is_said_to_be_missing(run: Steered) -> None:
    with refused(StatusCode.NOT_FOUND, "FLOW_RUN_INPUT_NOT_FOUND"):
        run.input_of("nothing")
    run.runs.delete(run.id)
    with refused(StatusCode.NOT_FOUND, "FLOW_RUN_NOT_FOUND"):
        run.input_of("nothing")
    for steer in (run.pause, run.resume, run.cancel):
        with refused(StatusCode.NOT_FOUND, "DELETED"):
            steer()


# --- cancelling -----------------------------------------------------------------------------------


def test_a_run_that_runs_is_told_to_stop(run: Steered) -> None:
    id_ = uuid7()
    answer = run.cancel(message="too slow", proposed_by="ada", proposal_id=id_)
    assert (answer.verdict, answer.state.type, answer.state.name) == (
        ACCEPT,
        CANCELLING,
        "Cancelling",
    )
    assert answer.state.message == "too slow"
    run.runs.propose(proposal(run.id, CANCELLED))
    assert run.cancel(message="too slow", proposed_by="ada", proposal_id=id_) == answer


def test_a_run_that_nothing_runs_is_cancelled_at_once(stubs: Stubs, deployed: Steered) -> None:
    waiting = Steered(stubs, state={"type": SCHEDULED})
    deployed.pause(reschedule=True)
    for run in (waiting, deployed):
        answer = run.cancel(message="no need")
        assert (answer.verdict, answer.reason) == (REJECT, "NOTHING_RUNNING")
        assert (answer.state.type, answer.state.message) == (CANCELLED, "no need")


def test_a_run_that_has_ended_can_not_be_cancelled(stubs: Stubs) -> None:
    ended = Steered(stubs, state={"type": COMPLETED})
    assert (ended.cancel().verdict, ended.cancel().reason) == (ABORT, "RUN_FINISHED")


# --- what outlives the server ---------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that outlives its servers."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'interlock.db'}"
        return
    postgresql: Postgresql = request.getfixturevalue("postgresql_18")
    with postgresql.database() as url:
        yield url


def test_a_pause_and_its_input_outlive_the_server(database_url: str) -> None:
    id_ = uuid7()
    with ServerProcess(database_url) as server, connected(server.target) as stubs:
        run, other = Steered(stubs), Steered(stubs)
        for each in (run, other):
            each.pause(pause_key="approval", input_schema_json=APPROVAL)
        first = run.resume({"approved": True}, proposal_id=id_)
    with ServerProcess(database_url) as server, connected(server.target) as stubs:
        run, other = (Steered(stubs, id_=each.id) for each in (run, other))
        assert run.input_of("approval").input_json == '{"approved": true}'
        assert run.resume({"approved": True}, proposal_id=id_) == first
        assert other.resume({"approved": False}).verdict == ACCEPT
