"""Proposing states: each dialect decides, writes and remembers alike."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from grpc import StatusCode
from interlock.ids import uuid7

from tests.support.refusals import refused
from tests.support.runs import (
    ABORT,
    ACCEPT,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CRASHED,
    FAILED,
    PAUSED,
    PENDING,
    REJECT,
    RUNNING,
    SCHEDULED,
    WAIT,
    FlowRuns,
    Runs,
    TaskRuns,
    make_flow_run,
    make_task_run,
    proposal,
)
from tests.support.stubs import Stubs


def soon(seconds: float) -> dict[str, int]:
    moment = time.time_ns() + int(seconds * 1e9)
    return {"seconds": moment // 10**9, "nanos": moment % 10**9 // 1000 * 1000}


def test_a_run_goes_its_way_and_its_times_are_kept(runs: Runs) -> None:
    run = runs.make()
    started = runs.propose(proposal(run.id, RUNNING, message="go"))
    ended = runs.propose(proposal(run.id, COMPLETED))

    assert (started.verdict, ended.verdict) == (ACCEPT, ACCEPT)
    assert (started.run_count, started.state.name, started.state.message) == (1, "Running", "go")
    assert (started.rule, started.reason) == ("", "")
    now = runs.get(run.id)
    assert now.state == ended.state
    assert now.start_time == started.state.timestamp
    assert now.end_time == ended.state.timestamp
    taken = now.end_time.ToNanoseconds() - now.start_time.ToNanoseconds()
    assert now.total_run_time.ToNanoseconds() == now.estimated_run_time.ToNanoseconds() == taken


def test_all_that_a_state_carries_comes_back(runs: Runs) -> None:
    run = runs.make()
    far = {"seconds": 253_402_300_799, "nanos": 999_999_000}
    details = {
        "cache_key": "key",
        "cache_expiration": far,
        "pause_timeout": {"seconds": -62_135_596_800},
        "pause_key": "here",
        "pause_reschedule": True,
        "run_input_keyset_json": '{"a": 1}',
        "child_flow_run_id": uuid7(),
        "trace_parent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "retriable": False,
    }
    result = {"storage_key": "k", "storage_block_id": uuid7(), "metadata_json": '{"size": 1}'}
    sent = proposal(run.id, RUNNING, name="Run", message="m", details=details, result=result)
    answer = runs.propose(sent)
    assert answer.state.id == answer.proposal_id == sent.id
    assert answer.state.details == sent.state.details
    assert answer.state.result == sent.state.result
    assert runs.get(run.id).state == answer.state
    assert runs.history(run.id)[-1].state == answer.state


def test_a_run_that_fails_waits_for_its_next_attempt_while_it_has_retries(runs: Runs) -> None:
    run = runs.make(retry_policy={"max_retries": 1}, state={"type": RUNNING})
    failed = runs.propose(proposal(run.id, FAILED, message="boom"))
    assert (failed.verdict, failed.reason) == (REJECT, "RETRYING")
    assert (failed.state.type, failed.state.name) == (SCHEDULED, "AwaitingRetry")
    assert failed.state.message == "boom"
    assert runs.get(run.id).next_scheduled_start_time == failed.state.details.scheduled_time

    again = runs.propose(proposal(run.id, RUNNING))
    assert (again.verdict, again.run_count) == (ACCEPT, 2)
    last = runs.propose(proposal(run.id, FAILED))
    assert (last.verdict, last.state.type) == (ACCEPT, FAILED)


def test_a_retrys_delay_is_waited_for(stubs: Stubs) -> None:
    minute = {"seconds": 60}
    policies: list[tuple[Runs, dict[str, Any]]] = [
        (FlowRuns(stubs), {"max_retries": 1, "delay": minute}),
        (TaskRuns(stubs), {"max_retries": 1, "delays": [minute]}),
    ]
    for runs, policy in policies:
        run = runs.make(retry_policy=policy, state={"type": RUNNING})
        failed = runs.propose(proposal(run.id, FAILED))
        due = failed.state.details.scheduled_time.ToNanoseconds()
        assert due - failed.state.timestamp.ToNanoseconds() == 60 * 10**9
        assert runs.propose(proposal(run.id, RUNNING)).verdict == WAIT


def test_a_run_does_not_start_before_its_time_and_the_answer_is_not_remembered(runs: Runs) -> None:
    run = runs.make(state={"type": SCHEDULED, "details": {"scheduled_time": soon(0.9)}})
    sent = proposal(run.id, RUNNING)
    early = runs.propose(sent)
    assert (early.verdict, early.reason) == (WAIT, "NOT_DUE")
    assert early.retry_after.ToMilliseconds() == 1000
    assert early.state == run.state
    assert len(runs.history(run.id)) == 1

    while runs.propose(sent).verdict == WAIT:
        time.sleep(early.retry_after.ToSeconds() / 10)
    assert runs.get(run.id).state.id == sent.id
    assert len(runs.history(run.id)) == 2


def test_a_scheduled_time_goes_along_with_the_run_that_is_taken_early(runs: Runs) -> None:
    due = soon(3600)
    run = runs.make(state={"type": SCHEDULED, "details": {"scheduled_time": due}})
    taken = runs.propose(proposal(run.id, PENDING))
    assert taken.state.details.scheduled_time == run.state.details.scheduled_time
    assert runs.propose(proposal(run.id, RUNNING)).verdict == WAIT


def test_what_has_ended_stays_ended(runs: Runs) -> None:
    run = runs.make(state={"type": COMPLETED})
    for type_ in (PAUSED, CANCELLING, CRASHED):
        answer = runs.propose(proposal(run.id, type_))
        assert (answer.verdict, answer.reason) == (ABORT, "RUN_FINISHED")
        assert answer.state == run.state
    assert runs.get(run.id).end_time == run.end_time
    forced = runs.propose(proposal(run.id, CRASHED, force=True))
    assert (forced.verdict, forced.state.type) == (ACCEPT, CRASHED)


def test_a_proposal_sent_again_answers_as_it_did_the_first_time(runs: Runs) -> None:
    run = runs.make(retry_policy={"max_retries": 1})
    accepted = proposal(run.id, RUNNING)
    rejected = proposal(run.id, FAILED)
    answers = [runs.propose(accepted), runs.propose(rejected)]
    runs.propose(proposal(run.id, RUNNING))
    runs.propose(proposal(run.id, COMPLETED))
    aborted = proposal(run.id, PAUSED)
    answers.append(runs.propose(aborted))
    runs.propose(proposal(run.id, RUNNING, force=True))
    before = runs.get(run.id)

    assert [answer.verdict for answer in answers] == [ACCEPT, REJECT, ABORT]
    sent = [accepted, rejected, aborted]
    assert [runs.propose(one) for one in sent] == answers
    assert [outcome.decision for outcome in runs.propose_all(sent)] == answers
    assert runs.get(run.id).etag == before.etag
    assert len(runs.history(run.id)) == 7


def test_a_proposals_id_is_not_taken_for_other_content(runs: Runs) -> None:
    run, other = runs.make(), runs.make()
    sent = proposal(run.id, RUNNING)
    runs.propose(sent)
    for changed in (
        proposal(run.id, RUNNING, sent.id, message="other"),
        proposal(other.id, RUNNING, sent.id),
        proposal(run.id, RUNNING, sent.id, force=True),
    ):
        with refused(StatusCode.ALREADY_EXISTS, "ID_REUSED"):
            runs.propose(changed)
    assert runs.get(run.id).run_count == 1
    assert runs.get(other.id).run_count == 0


def test_each_proposal_of_a_batch_is_decided_by_itself_and_in_order(runs: Runs) -> None:
    one, done = runs.make(), runs.make(state={"type": COMPLETED})
    due = {"type": SCHEDULED, "details": {"scheduled_time": soon(3600)}}
    later = runs.make(state=due)
    start, end = proposal(one.id, RUNNING), proposal(one.id, COMPLETED)
    outcomes = runs.propose_all(
        [
            start,
            proposal(uuid7(), RUNNING),
            end,
            proposal(done.id, PAUSED),
            proposal(later.id, RUNNING),
            proposal(one.id, RUNNING, start.id, message="other content"),
            start,
        ]
    )
    verdicts = [outcome.decision.verdict for outcome in outcomes]
    assert verdicts == [ACCEPT, 0, ACCEPT, ABORT, WAIT, 0, ACCEPT]
    assert [outcomes[i].error.reason.removeprefix("TASK_") for i in (1, 5)] in (
        ["RUN_NOT_FOUND", "ID_REUSED"],
        ["FLOW_RUN_NOT_FOUND", "ID_REUSED"],
    )
    assert outcomes[1].error.field == "proposals[1]"
    assert outcomes[6] == outcomes[0]
    assert outcomes[2].decision.run_count == 1
    now = runs.get(one.id)
    assert (now.state.id, now.run_count) == (end.id, 1)
    assert [line.id for line in runs.history(one.id)][1:] == [start.id, end.id]


def test_the_history_of_a_batch_reads_in_the_order_of_decision(runs: Runs) -> None:
    run = runs.make(state={"type": COMPLETED})
    # Ids that sort against the order: it must not come from them.
    ids = sorted((uuid7() for _ in range(6)), reverse=True)
    wanted = (CRASHED, FAILED, CRASHED, PAUSED, CANCELLED, CRASHED)
    runs.propose_all([proposal(run.id, state, id_) for state, id_ in zip(wanted, ids, strict=True)])
    lines = runs.history(run.id)[1:]
    assert [line.id for line in lines] == ids
    assert [line.verdict for line in lines] == [ABORT, ACCEPT, ABORT, ABORT, ACCEPT, ABORT]


def test_the_history_tells_each_proposal_and_what_became_of_it(runs: Runs) -> None:
    run = runs.make(retry_policy={"max_retries": 1})
    runs.propose(proposal(run.id, RUNNING, proposed_by="worker-1"))
    runs.propose(proposal(run.id, FAILED, name="Broken", message="boom"))
    runs.propose(proposal(run.id, COMPLETED, force=True))
    runs.propose(proposal(run.id, CRASHED))

    created, started, failed, completed, aborted = runs.history(run.id)
    assert (created.proposed_type, created.state) == (PENDING, run.state)
    assert (started.verdict, started.proposed_by) == (ACCEPT, "worker-1")
    assert (failed.verdict, failed.rule, failed.reason) == (REJECT, "retry", "RETRYING")
    assert (failed.proposed_type, failed.proposed_name) == (FAILED, "Broken")
    assert failed.state.name == "AwaitingRetry"
    assert completed.force
    assert (aborted.verdict, aborted.HasField("state")) == (ABORT, False)
    assert aborted.explanation


def test_sixty_four_proposals_at_once_on_one_run_all_count(runs: Runs) -> None:
    run = runs.make()
    sent = [proposal(run.id, RUNNING) for _ in range(64)]
    barrier = threading.Barrier(32)

    def propose(i: int) -> int:
        if i < 32:
            barrier.wait(30)
        return runs.propose(sent[i]).run_count

    with ThreadPoolExecutor(32) as pool:
        counts = list(pool.map(propose, range(64)))

    assert sorted(counts) == list(range(1, 65))
    assert runs.get(run.id).run_count == 64
    times = [line.state.timestamp.ToNanoseconds() for line in runs.history(run.id)]
    assert len(times) == 65
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


def test_a_task_run_that_runs_again_says_so_and_counts_anew(stubs: Stubs) -> None:
    runs = TaskRuns(stubs)
    run = runs.make(state={"type": RUNNING})
    assert runs.propose(proposal(run.id, RUNNING)).state.name == "Rerunning"
    runs.propose(proposal(run.id, COMPLETED))
    anew = runs.propose(proposal(run.id, RUNNING))
    assert (anew.run_count, anew.state.name) == (1, "Running")


def test_a_task_run_notes_the_attempt_of_its_flow_run(stubs: Stubs) -> None:
    flow_run = make_flow_run(stubs, state={"type": RUNNING})
    FlowRuns(stubs).propose(proposal(flow_run.id, RUNNING))
    task = make_task_run(stubs, flow_run_id=flow_run.id)
    assert task.flow_run_run_count == 0
    TaskRuns(stubs).propose(proposal(task.id, RUNNING))
    assert TaskRuns(stubs).get(task.id).flow_run_run_count == 2


def test_a_failure_that_is_not_to_be_retried_is_final(stubs: Stubs) -> None:
    runs = TaskRuns(stubs)
    run = runs.make(retry_policy={"max_retries": 5}, state={"type": RUNNING})
    failed = runs.propose(proposal(run.id, FAILED, details={"retriable": False}))
    assert (failed.verdict, failed.state.type) == (ACCEPT, FAILED)


def test_a_kept_result_is_not_thrown_away(runs: Runs) -> None:
    run = runs.make(state={"type": RUNNING})
    runs.propose(proposal(run.id, COMPLETED, result={"storage_key": "there"}))
    again = runs.propose(proposal(run.id, RUNNING))
    assert (again.verdict, again.reason) == (REJECT, "RESULT_PERSISTED")
    assert again.state.result.storage_key == "there"


def test_a_proposal_may_say_which_version_it_has_seen(runs: Runs) -> None:
    run = runs.make()
    started = runs.propose(proposal(run.id, RUNNING, expected_version=run.version))
    assert (started.verdict, started.version) == (ACCEPT, run.version + 1)
    assert runs.get(run.id).version == started.version

    stale = proposal(run.id, COMPLETED, expected_version=run.version, force=True)
    refused_ = runs.propose(stale)
    assert (refused_.verdict, refused_.reason) == (ABORT, "VERSION_MISMATCH")
    assert refused_.state == started.state
    assert refused_.version == started.version
    ended = runs.propose(proposal(run.id, COMPLETED, expected_version=started.version))
    assert ended.verdict == ACCEPT
    assert runs.propose(stale) == refused_


def test_of_two_that_have_seen_the_same_version_one_wins(runs: Runs) -> None:
    for _ in range(5):
        run = runs.make()
        rivals = [
            proposal(run.id, end, expected_version=run.version) for end in (COMPLETED, FAILED)
        ]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(runs.propose, rivals))
        assert sorted(answer.verdict for answer in answers) == [ACCEPT, ABORT]
        assert answers[0].state == answers[1].state == runs.get(run.id).state


def test_an_updated_retry_policy_and_pid_count_at_once(stubs: Stubs) -> None:
    runs = FlowRuns(stubs)
    run = runs.make(state={"type": SCHEDULED})
    run.infrastructure_pid = "4711"
    run.retry_policy.max_retries = 1
    runs.update(run, "infrastructure_pid", "retry_policy")
    assert runs.propose(proposal(run.id, CANCELLING)).state.type == CANCELLING
    other = runs.make()
    other.retry_policy.max_retries = 1
    runs.update(other, "retry_policy")
    runs.propose(proposal(other.id, RUNNING))
    assert runs.propose(proposal(other.id, FAILED)).state.name == "AwaitingRetry"


def test_the_same_id_may_name_a_proposal_of_each_kind(stubs: Stubs) -> None:
    flows, tasks = FlowRuns(stubs), TaskRuns(stubs)
    flow_run, task_run, id_ = flows.make(), tasks.make(), uuid7()
    begin = {
        flows: proposal(flow_run.id, RUNNING, id_, message="the flow"),
        tasks: proposal(task_run.id, RUNNING, id_, message="the task"),
    }
    for _ in range(2):
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda runs: runs.propose(begin[runs]), begin))
        assert [answer.state.message for answer in answers] == ["the flow", "the task"]
    assert flows.get(flow_run.id).state.message == "the flow"
    assert tasks.get(task_run.id).state.message == "the task"
