"""The result of one task run is found by others that have the same cache key."""

import time
from typing import Any

import pytest
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import task_run_pb2

from tests.support.refusals import refused
from tests.support.runs import (
    ACCEPT,
    COMPLETED,
    FAILED,
    REJECT,
    RUNNING,
    TaskRuns,
    proposal,
    unique,
)
from tests.support.stubs import Stubs


@pytest.fixture
def tasks(stubs: Stubs) -> TaskRuns:
    return TaskRuns(stubs)


def at(seconds_from_now: float) -> dict[str, int]:
    return {"seconds": int(time.time() + seconds_from_now)}


def compute(tasks: TaskRuns, key: str, message: str, **details: Any) -> Any:
    run = tasks.make()
    begin = proposal(run.id, RUNNING, details={"cache_key": key, "refresh_cache": True})
    assert tasks.propose(begin).verdict == ACCEPT
    details = {"cache_key": key, **details}
    result = {"storage_key": f"results/{message}"}
    return tasks.propose(
        proposal(run.id, COMPLETED, message=message, details=details, result=result)
    )


def test_a_result_under_the_same_key_is_not_computed_again(tasks: TaskRuns) -> None:
    key = unique("key")
    kept = compute(tasks, key, "first")
    run = tasks.make()
    answer = tasks.propose(proposal(run.id, RUNNING, details={"cache_key": key}))
    assert (answer.verdict, answer.rule, answer.reason) == (REJECT, "cached", "CACHED")
    state = answer.state
    assert (state.type, state.name, state.message) == (COMPLETED, "Cached", "first")
    assert state.result == kept.state.result
    assert tasks.get(run.id).state == state
    assert tasks.get(run.id).run_count == 0


def test_the_newest_result_that_has_not_expired_counts(tasks: TaskRuns) -> None:
    key = unique("key")
    compute(tasks, key, "for ever")
    compute(tasks, key, "for an hour", cache_expiration=at(3600))
    compute(tasks, key, "expired", cache_expiration=at(-1))
    run = tasks.make()
    answer = tasks.propose(proposal(run.id, RUNNING, details={"cache_key": key}))
    assert answer.state.message == "for an hour"


def test_what_asks_to_be_computed_is_computed(tasks: TaskRuns) -> None:
    key = unique("key")
    compute(tasks, key, "old")
    for asked in (
        {"details": {"cache_key": key, "refresh_cache": True}},
        {"details": {"cache_key": key}, "force": True},
        {"details": {"cache_key": unique("other")}},
        {},
    ):
        run = tasks.make()
        answer = tasks.propose(proposal(run.id, RUNNING, **asked))
        assert (answer.verdict, answer.state.type) == (ACCEPT, RUNNING)


def test_only_a_completion_that_was_written_is_found(tasks: TaskRuns) -> None:
    key = unique("key")
    for end, force in ((FAILED, False), (COMPLETED, True)):
        run = tasks.make()
        tasks.propose(proposal(run.id, RUNNING))
        tasks.propose(proposal(run.id, end, details={"cache_key": key}, force=force))
    run = tasks.make()
    answer = tasks.propose(proposal(run.id, RUNNING, details={"cache_key": key}))
    assert answer.verdict == ACCEPT


def test_a_result_goes_with_the_run_that_computed_it(tasks: TaskRuns) -> None:
    key = unique("key")
    run = tasks.make()
    tasks.propose(proposal(run.id, COMPLETED, details={"cache_key": key}))
    tasks.delete(run.id)
    again = tasks.make()
    answer = tasks.propose(proposal(again.id, RUNNING, details={"cache_key": key}))
    assert answer.verdict == ACCEPT


def test_runs_of_one_batch_find_what_the_ones_before_them_computed(tasks: TaskRuns) -> None:
    key = unique("key")
    first, second = tasks.make(), tasks.make()
    keyed = {"cache_key": key}
    outcomes = tasks.propose_all(
        [
            proposal(first.id, RUNNING, details=keyed),
            proposal(first.id, COMPLETED, details=keyed, message="computed"),
            proposal(second.id, RUNNING, details=keyed),
        ]
    )
    answers = [outcome.decision for outcome in outcomes]
    assert [answer.verdict for answer in answers] == [ACCEPT, ACCEPT, REJECT]
    assert (answers[2].state.name, answers[2].state.message) == ("Cached", "computed")


def test_a_cached_answer_is_answered_again_as_it_was(tasks: TaskRuns) -> None:
    key = unique("key")
    compute(tasks, key, "first")
    run = tasks.make()
    sent = proposal(run.id, RUNNING, uuid7(), details={"cache_key": key})
    answer = tasks.propose(sent)
    compute(tasks, key, "second")
    assert tasks.propose(sent) == answer


def test_what_a_key_stands_for_can_be_asked(tasks: TaskRuns, stubs: Stubs) -> None:
    key = unique("key")
    request = task_run_pb2.GetCachedStateRequest(cache_key=key)
    with refused(StatusCode.NOT_FOUND, "CACHE_ENTRY_NOT_FOUND"):
        stubs.task_runs.GetCachedState(request)
    kept = compute(tasks, key, "first")
    found = stubs.task_runs.GetCachedState(request)
    assert found.state == kept.state
    compute(tasks, key, "second", cache_expiration=at(-1))
    assert stubs.task_runs.GetCachedState(request) == found
    tasks.delete(found.task_run_id)
    with refused(StatusCode.NOT_FOUND, "CACHE_ENTRY_NOT_FOUND"):
        stubs.task_runs.GetCachedState(request)


def test_a_key_does_not_gather_what_has_long_expired(tasks: TaskRuns, stubs: Stubs) -> None:
    key = unique("key")
    old = [compute(tasks, key, str(i), cache_expiration=at(-7200)) for i in range(3)]
    kept = compute(tasks, key, "kept")
    request = task_run_pb2.GetCachedStateRequest(cache_key=key)
    assert stubs.task_runs.GetCachedState(request).state == kept.state
    for answer in old:  # Their runs are not touched.
        assert answer.verdict == ACCEPT
