"""Watching runs, on every dialect: all that is committed, in order, once, also after a break."""

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import run_event_pb2 as pb
from interlock.v1 import state_pb2
from interlock_server.core.watching import GOOD_FOR, Token
from interlock_server.rpc.watch_tokens import WatchTokens
from interlock_server.storage.event_order import Epoch, Place

from tests.support.refusals import refused
from tests.support.runs import (
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    FlowRuns,
    Runs,
    TaskRuns,
    make_flow,
    make_flow_run,
    make_task_run,
    proposal,
)
from tests.support.servers import ServerProcess
from tests.support.stubs import Stubs, connected
from tests.support.watching import Watch, watching

STATE, DELETED = pb.RUN_EVENT_TYPE_STATE, pb.RUN_EVENT_TYPE_DELETED
FLOW_RUN, TASK_RUN = pb.RUN_KIND_FLOW_RUN, pb.RUN_KIND_TASK_RUN


def types(events: list[pb.RunEvent]) -> list[Any]:
    """The types of the states that were written; 0 for a deletion."""
    return [event.state.type for event in events]


@pytest.fixture
def flow_id(stubs: Stubs) -> str:
    """A flow of the test's own: other tests use the same server."""
    return make_flow(stubs).id


@pytest.fixture
def own(flow_id: str) -> pb.RunEventFilter:
    """What happens to its runs."""
    return pb.RunEventFilter(flow_ids=[flow_id])


# --- what is told ---------------------------------------------------------------------------------


def test_each_state_is_told_with_what_was_decided(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    with watching(stubs, own) as watch:
        run = make_flow_run(stubs, flow_id, name="nightly", tags=["a"])
        decision = FlowRuns(stubs).propose(
            proposal(run.id, RUNNING, message="off it goes", proposed_by="me")
        )
        first, second = watch.take(2)
    assert (first.type, first.kind, first.run_id, first.flow_id) == (
        STATE,
        FLOW_RUN,
        run.id,
        flow_id,
    )
    assert (first.state, first.version, first.run_count) == (run.state, run.version, 0)
    assert second.state == decision.state
    assert (second.version, second.run_count) == (decision.version, 1)
    assert (second.name, second.proposed_by, second.flow_run_id) == ("nightly", "me", "")
    assert second.time == decision.state.timestamp


def test_what_writes_no_state_is_not_told(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    runs = FlowRuns(stubs)
    with watching(stubs, own) as watch:
        run = make_flow_run(stubs, flow_id, state={"type": RUNNING})
        aborted = runs.propose(proposal(run.id, PENDING))
        runs.propose(proposal(run.id, COMPLETED))
        assert aborted.verdict == state_pb2.VERDICT_ABORT
        assert types(watch.take(2)) == [RUNNING, COMPLETED]


def test_a_rule_that_writes_another_state_is_named(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    with watching(stubs, own) as watch:
        retries = {"max_retries": 1}
        run = make_flow_run(stubs, flow_id, state={"type": RUNNING}, retry_policy=retries)
        decision = FlowRuns(stubs).propose(proposal(run.id, FAILED))
        _, event = watch.take(2)
    assert event.state == decision.state
    assert (event.rule, event.reason) == (decision.rule, decision.reason) == ("retry", "RETRYING")


def test_large_parts_of_a_state_are_left_out(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    result = {"storage_key": "k", "metadata_json": f'"{"x" * 20_000}"'}
    with watching(stubs, own) as watch:
        make_flow_run(stubs, flow_id, state={"type": RUNNING, "message": "ä" * 16_384})
        make_flow_run(stubs, flow_id, state={"type": RUNNING, "message": "x" * 16_385})
        make_flow_run(stubs, flow_id, state={"type": COMPLETED, "message": "m", "result": result})
        whole, long, large = watch.take(3)
    assert (whole.abridged, len(whole.state.message)) == (False, 16_384)
    assert (long.abridged, long.state.message) == (True, "")
    assert (large.abridged, large.state.message, large.state.HasField("result")) == (
        True,
        "m",
        False,
    )


def test_a_deletion_is_told_of_the_run_and_of_the_task_runs_in_it(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    run = make_flow_run(stubs, flow_id)
    tasks = {make_task_run(stubs, flow_run_id=run.id).id for _ in range(3)}
    with watching(stubs, pb.RunEventFilter(flow_run_ids=[run.id])) as watch:
        FlowRuns(stubs).delete(run.id)
        events = watch.take(4)
    assert [event.type for event in events] == [DELETED] * 4
    assert not any(event.HasField("state") or event.name for event in events)
    first, *others = events
    assert (first.kind, first.run_id, first.flow_id) == (FLOW_RUN, run.id, flow_id)
    assert {event.run_id for event in others} == tasks
    assert {(event.kind, event.flow_run_id) for event in others} == {(TASK_RUN, run.id)}


def test_a_task_run_that_is_deleted_alone_names_its_flow_run(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    run = make_flow_run(stubs, flow_id)
    task = make_task_run(stubs, flow_run_id=run.id)
    with watching(stubs, own) as watch:
        TaskRuns(stubs).delete(task.id)
        (event,) = watch.take(1)
    assert (event.type, event.run_id, event.flow_run_id) == (DELETED, task.id, run.id)
    assert event.flow_id == flow_id


# --- filters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({}, ["flow", "task", "flow running", "task failed", "alone", "task gone", "flow gone"]),
        ({"kinds": [FLOW_RUN]}, ["flow", "flow running", "flow gone"]),
        ({"kinds": [TASK_RUN]}, ["task", "task failed", "alone", "task gone"]),
        ({"types": [DELETED]}, ["task gone", "flow gone"]),
        ({"types": [STATE]}, ["flow", "task", "flow running", "task failed", "alone"]),
        ({"run_ids": ["task"]}, ["task", "task failed", "task gone"]),
        (
            {"flow_run_ids": ["flow"]},
            ["flow", "task", "flow running", "task failed", "task gone", "flow gone"],
        ),
        ({"flow_run_ids": ["alone"]}, ["alone"]),
        (
            {"state_types": [FAILED, RUNNING]},
            ["flow running", "task failed", "task gone", "flow gone"],
        ),
        ({"state_names": ["Broken"], "types": [STATE]}, ["task failed"]),
        ({"tags": {"all": ["a", "b"]}, "types": [STATE]}, ["flow", "flow running"]),
        (
            {"tags": {"any": ["a", "x"]}, "types": [STATE]},
            ["flow", "task", "flow running", "task failed"],
        ),
        ({"tags": {"none": ["b"]}, "types": [STATE]}, ["task", "task failed", "alone"]),
        ({"tags": {"has_any": False}, "types": [STATE]}, ["alone"]),
        ({"kinds": [TASK_RUN], "state_types": [FAILED], "types": [STATE]}, ["task failed"]),
    ],
)
def test_a_watch_tells_what_meets_every_condition(
    stubs: Stubs, flow_id: str, conditions: dict[str, Any], told: list[str]
) -> None:
    ids = {word: uuid7() for word in ("flow", "task", "alone")}
    conditions = {
        name: [ids.get(value, value) for value in values] if isinstance(values, list) else values
        for name, values in conditions.items()
    }
    # Whatever else goes on in the server is left out at the end.
    with watching(stubs, pb.RunEventFilter(**conditions)) as watch, watching(stubs) as all_events:
        make_flow_run(stubs, flow_id, id=ids["flow"], tags=["a", "b", "c"])
        make_task_run(stubs, id=ids["task"], flow_run_id=ids["flow"], tags=["a"])
        FlowRuns(stubs).propose(proposal(ids["flow"], RUNNING))
        TaskRuns(stubs).propose(proposal(ids["task"], FAILED, name="Broken"))
        make_task_run(stubs, id=ids["alone"])
        words = {PENDING: "", RUNNING: " running", FAILED: " failed", 0: " gone"}
        names = {id_: word for word, id_ in ids.items()}

        def seen(watch: Watch, count: int) -> list[str]:
            found: list[str] = []
            while len(found) < count:
                (event,) = watch.take(1)
                if event.run_id in names:
                    found.append(names[event.run_id] + words[event.state.type])
            return found

        # A state of a run that is gone before it was told is not told.
        assert len(seen(all_events, 5)) == 5
        TaskRuns(stubs).delete(ids["task"])
        FlowRuns(stubs).delete(ids["flow"])
        assert len(seen(all_events, 2)) == 2
        assert seen(watch, len(told)) == told


# --- going on -------------------------------------------------------------------------------------


def test_a_watch_goes_on_behind_any_event(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    runs = FlowRuns(stubs)
    with watching(stubs, own) as watch:
        begin = watch.token
        made = [make_flow_run(stubs, flow_id) for _ in range(3)]
        # In one batch, so with one position.
        runs.propose_all([proposal(run.id, RUNNING) for run in made for _ in range(5)])
        events = watch.take(18)
    runs.propose(proposal(made[0].id, COMPLETED))
    for place in (0, 1, 3, 4, 10, 17, 18):
        token = events[place - 1].resume_token if place else begin
        with watching(stubs, own, resume_token=token, max_events=4) as again:
            rest = again.take(19 - place)
        assert rest[:-1] == events[place:]
        assert rest[-1].state.type == COMPLETED


def test_a_message_has_no_more_events_than_asked_for(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    with watching(stubs, own, max_events=2) as watch:
        run = make_flow_run(stubs, flow_id)
        FlowRuns(stubs).propose_all([proposal(run.id, RUNNING) for _ in range(8)])
        sizes: list[int] = []
        while sum(sizes) < 9:
            sizes.append(len(watch.message().events))
    assert max(sizes) == 2


def test_a_watch_can_begin_with_a_time(stubs: Stubs, flow_id: str, own: pb.RunEventFilter) -> None:
    runs = FlowRuns(stubs)
    run = make_flow_run(stubs, flow_id)
    decided = [runs.propose(proposal(run.id, RUNNING)).state.timestamp for _ in range(4)]
    with watching(stubs, own, since=decided[2]) as watch:
        assert [event.time for event in watch.take(2)] == decided[2:]
    with watching(stubs, own, since=run.state.timestamp) as watch:
        assert types(watch.take(5)) == [PENDING] + [RUNNING] * 4


def test_a_token_of_a_watch_that_began_with_a_time_keeps_to_it(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    runs = FlowRuns(stubs)
    run = make_flow_run(stubs, flow_id)
    decided = [runs.propose(proposal(run.id, RUNNING)).state.timestamp for _ in range(3)]
    with watching(stubs, own, since=decided[1]) as watch:
        token = watch.token
    with watching(stubs, own, resume_token=token) as watch:
        assert [event.time for event in watch.take(2)] == decided[1:]


def test_an_idle_watch_tells_how_far_it_has_come(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    with watching(stubs, own, progress_interval=0.1) as watch:
        for _ in range(2):
            assert not watch.message().events
        make_flow_run(stubs)  # of another flow
        token = watch.message().resume_token
    make_flow_run(stubs, flow_id)
    with watching(stubs, own, resume_token=token) as watch:
        assert types(watch.take(1)) == [PENDING]


# --- many at once ---------------------------------------------------------------------------------


def test_watchers_agree_while_many_write(
    stubs: Stubs, flow_id: str, own: pb.RunEventFilter
) -> None:
    flow_run = make_flow_run(stubs, flow_id, state={"type": RUNNING})
    kinds: list[Runs] = [FlowRuns(stubs), TaskRuns(stubs)]
    made = [
        (kind, kind.make(**({"flow_id": flow_id} if place == 0 else {"flow_run_id": flow_run.id})))
        for place, kind in enumerate(kinds)
        for _ in range(4)
    ]
    each, batch = 8, 4
    total = len(made) * each * batch
    started = threading.Barrier(len(made) + 2)

    def write(kind: Runs, run_id: str) -> None:
        started.wait(30)
        for _ in range(each):
            kind.propose_all([proposal(run_id, RUNNING) for _ in range(batch)])

    def see(watch: Watch) -> list[pb.RunEvent]:
        started.wait(30)
        return watch.take(total)

    with (
        watching(stubs, own) as one,
        watching(stubs, own, max_events=7) as other,
        ThreadPoolExecutor(len(made) + 2) as pool,
    ):
        watched = [pool.submit(see, watch) for watch in (one, other)]
        for writing in [pool.submit(write, kind, run.id) for kind, run in made]:
            writing.result()
        events, same = (seeing.result() for seeing in watched)
    assert events == same
    by_run: defaultdict[str, list[state_pb2.State]] = defaultdict(list)
    for event in events:
        by_run[event.run_id].append(event.state)
    for kind, run in made:
        history = [transition.state for transition in kind.history(run.id)]
        assert by_run[run.id] == history[1:]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"resume_token": "x"}, "resume_token"),
        ({"resume_token": "é"}, "resume_token"),
        ({"resume_token": "AAAA" * 14}, "resume_token"),
        ({"max_events": 1001}, "max_events"),
        ({"max_events": -1}, "max_events"),
        ({"progress_interval": {"nanos": 1}}, "progress_interval"),
        ({"progress_interval": {"seconds": 3601}}, "progress_interval"),
        ({"since": {"seconds": 2**60}}, "since"),
        ({"filter": {"kinds": [0]}}, "filter.kinds[0]"),
        ({"filter": {"types": [1, 7]}}, "filter.types[1]"),
        ({"filter": {"state_types": [99]}}, "filter.state_types[0]"),
        ({"filter": {"run_ids": ["x"]}}, "filter.run_ids[0]"),
        ({"filter": {"tags": {"all": ["a", "b"], "none": ["b"]}}}, "filter.tags"),
        ({"filter": {"state_names": ["x"] * 400, "tags": {"any": ["y"] * 101}}}, "filter"),
    ],
)
def test_what_makes_no_sense_is_refused(stubs: Stubs, request_: dict[str, Any], field: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field):
        next(stubs.run_events.WatchRuns(pb.WatchRunsRequest(**request_), timeout=30))


def test_a_token_holds_for_its_filter_only(stubs: Stubs, own: pb.RunEventFilter) -> None:
    with watching(stubs, own) as watch:
        token = watch.token
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "resume_token"):
        next(stubs.run_events.WatchRuns(pb.WatchRunsRequest(resume_token=token), timeout=30))
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    both = pb.WatchRunsRequest(filter=own, resume_token=token, since=now)
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "since"):
        next(stubs.run_events.WatchRuns(both, timeout=30))


def test_a_token_that_can_not_be_followed_is_out_of_range(stubs: Stubs) -> None:
    tokens = WatchTokens(pb.RunEventFilter())
    with watching(stubs) as watch:
        token = tokens.read(watch.token)
    assert token is not None
    epoch, place, time = token.epoch, token.place, token.time
    hour = 60 * 60 * 1_000_000
    cases = [
        ("WATCH_TOKEN_EXPIRED", Token(epoch, place, time - GOOD_FOR - hour)),
        ("WATCH_EPOCH_ENDED", Token(Epoch(epoch.number - 1, epoch.began), place, time)),
        ("WATCH_TOKEN_UNKNOWN", Token(Epoch(epoch.number + 1, epoch.began), place, time)),
        ("WATCH_TOKEN_UNKNOWN", Token(Epoch(epoch.number, epoch.began + 1), place, time)),
        ("WATCH_TOKEN_UNKNOWN", Token(epoch, Place(2**62, 0), time)),
    ]
    for reason, wrong in cases:
        text = tokens.write(wrong)
        with refused(StatusCode.OUT_OF_RANGE, reason):
            next(stubs.run_events.WatchRuns(pb.WatchRunsRequest(resume_token=text), timeout=30))
    almost = tokens.write(Token(epoch, place, time - GOOD_FOR + hour))
    next(stubs.run_events.WatchRuns(pb.WatchRunsRequest(resume_token=almost), timeout=30))


def test_a_watch_does_not_begin_before_deletions_are_remembered(stubs: Stubs) -> None:
    since = Timestamp()
    since.FromDatetime(datetime.now(UTC) - timedelta(days=7))
    with refused(StatusCode.OUT_OF_RANGE, "WATCH_START_EXPIRED"):
        next(stubs.run_events.WatchRuns(pb.WatchRunsRequest(since=since), timeout=30))


# --- servers that go ------------------------------------------------------------------------------


def test_a_server_that_stops_ends_its_watches_and_the_next_one_takes_them_up() -> None:
    with ServerProcess() as server, connected(server.target) as stubs:
        with watching(stubs) as watch:
            run = make_flow_run(stubs)
            assert types(watch.take(1)) == [PENDING]
            token = watch.token
            FlowRuns(stubs).propose(proposal(run.id, RUNNING))
            server.stop()
            with refused(StatusCode.UNAVAILABLE, "SERVER_DRAINING"):
                watch.rest()
        server.start()
        # The channel is as it was; a new one need not wait until it tries again.
        with connected(server.target) as again, watching(again, resume_token=token) as watch:
            assert types(watch.take(1)) == [RUNNING]
