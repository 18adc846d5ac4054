"""Which task may be submitted when."""

from interlock_server.replay import Attempt, Outcome, TraceTask
from interlock_server.replay.schedule import Schedule


def task(task_id: str, *parents: str, at: float | None = None, never: bool = False) -> TraceTask:
    attempt = Attempt(outcome=Outcome.COMPLETED, duration=1, submitted=at, started=at)
    attempts = () if never else (attempt,)
    return TraceTask(id=task_id, name=task_id, parents=parents, attempts=attempts)


def due(schedule: Schedule, now: float = 0.0) -> str:
    return " ".join(task.id for task in schedule.take_due(now))


def test_a_task_waits_for_all_its_parents() -> None:
    schedule = Schedule([task("c", "a", "b"), task("a"), task("b")], 0)
    assert due(schedule) == "a b"
    schedule.end("a")
    assert due(schedule) == ""
    assert schedule.seconds_to_next(0) is None
    schedule.end("b")
    assert due(schedule) == "c"
    assert not schedule.is_over
    schedule.end("c")
    assert schedule.is_over


def test_a_task_is_submitted_once() -> None:
    schedule = Schedule([task("a")], 0)
    assert (due(schedule), due(schedule)) == ("a", "")


def test_recorded_times_are_honoured_scaled() -> None:
    schedule = Schedule([task("late", at=20), task("early", at=10)], 0.1)
    assert due(schedule) == ""
    assert schedule.seconds_to_next(0.25) == 0.75
    assert due(schedule, 1.0) == "early"
    assert due(schedule, 2.5) == "late"


def test_a_parent_that_ends_late_is_waited_for_beyond_the_recorded_time() -> None:
    schedule = Schedule([task("a", at=0), task("b", "a", at=1)], 1)
    assert due(schedule, 5) == "a"
    schedule.end("a")
    assert schedule.seconds_to_next(5) == 0
    assert due(schedule, 5) == "b"


def test_nobody_waits_for_tasks_that_never_ran() -> None:
    tasks = [
        task("a"),
        task("b", "a", never=True),
        task("c", "b", never=True),
        task("d", "c"),
        task("e", never=True),
        task("f", "e"),
    ]
    schedule = Schedule(tasks, 0)
    assert due(schedule) == "a f"
    schedule.end("a")
    assert due(schedule) == "d"
    schedule.end("d")
    schedule.end("f")
    assert schedule.is_over


def test_a_trace_of_which_nothing_ran_is_over_at_once() -> None:
    assert Schedule([task("a", never=True), task("b", "a", never=True)], 0).is_over
