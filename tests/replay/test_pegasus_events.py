import pytest
from interlock_server.replay import Attempt, Invocation, Outcome, TraceError
from interlock_server.replay.pegasus_events import parse, read_events

PLAN = (
    "ts=0 event=stampede.wf.plan xwf.id=w dax.label=flow",
    "ts=100 event=stampede.xwf.start xwf.id=w restart_count=0",
    "ts=0 event=stampede.job.info xwf.id=w job.id=a type_desc=compute",
    "ts=0 event=stampede.job.info xwf.id=w job.id=b type_desc=stage-out-tx",
    "ts=0 event=stampede.job.edge xwf.id=w parent.job.id=a child.job.id=b",
    "ts=0 event=stampede.wf.map.task_job xwf.id=w job.id=a task.id=T1",
    "ts=0 event=stampede.wf.map.task_job xwf.id=w job.id=a task.id=T2",
)
END = "ts=150 event=stampede.xwf.end xwf.id=w status=0 restart_count=0"


def events(*lines: str) -> str:
    """The plan, and lines such as "105 main.start" about job a in its instance 1."""
    full = []
    for line in lines:
        if "event=" in line or "ts=" in line:
            full.append(line)
            continue
        time, name, *rest = line.split(" ", 2)
        more = rest[0] if rest else ""
        instance = "" if "job_inst.id" in more else "job_inst.id=1"
        prefix = "" if name.startswith("inv.") else "job_inst."
        full.append(f"ts={time} event=stampede.{prefix}{name} xwf.id=w job.id=a {instance} {more}")
    return "\n".join([*PLAN, *full, END]) + "\n"


def attempts(*lines: str) -> tuple[Attempt, ...]:
    return parse(events(*lines), "x.bp").tasks[0].attempts


def test_jobs_become_tasks_and_keep_what_was_clustered_into_them() -> None:
    trace = parse(events(), "x.bp")
    assert (trace.name, trace.makespan) == ("flow", 50)
    first, second = trace.tasks
    assert (first.id, first.kind, first.abstract_tasks) == ("a", "compute", ("T1", "T2"))
    assert (second.parents, second.attempts) == (("a",), ())
    assert trace.notes == ("2 jobs never ran: a, b",)


def test_an_attempt_has_the_submit_hosts_times_its_output_and_its_programs() -> None:
    (attempt,) = attempts(
        "101 submit.start",
        "101 submit.end status=0",
        "103 main.start",
        "110 main.term status=0",
        "9 inv.start inv.id=1",
        "9 inv.end inv.id=1 task.id=T1 transformation=m:1 dur=1.5 exitcode=0",
        '111 main.end status=0 exitcode=0 stdout.text="#@ 1%0Asays %22hi%22%0A" stderr.text="warn"',
        "111 host.info hostname=h1",
        "111 post.start",
        "112 post.end status=0 exitcode=0",
    )
    assert attempt == Attempt(
        outcome=Outcome.COMPLETED,
        submitted=1,
        started=3,
        ended=10,
        duration=7,
        exit_code=0,
        host="h1",
        logs=("#@ 1", 'says "hi"', "warn"),
        invocations=(Invocation(transformation="m:1", task_id="T1", duration=1.5, exit_code=0),),
    )


@pytest.mark.parametrize(
    ("lines", "outcome", "message"),
    [
        (("109 main.end status=-1",), Outcome.FAILED, "returned -1"),
        (("109 main.end status=-1 exitcode=5",), Outcome.FAILED, "returned 5"),
        (
            ("109 main.end exitcode=0", "110 post.start", "111 post.end exitcode=1"),
            Outcome.FAILED,
            "the POST script returned 1",
        ),
        (("109 main.term status=-1",), Outcome.CRASHED, "evicted"),
        (("109 held.start",), Outcome.CRASHED, "held"),
        (("109 abort.info",), Outcome.CANCELLED, "removed from the queue"),
        ((), Outcome.UNFINISHED, "the trace ends before this attempt does"),
    ],
)
def test_how_an_execution_ends(lines: tuple[str, ...], outcome: Outcome, message: str) -> None:
    (attempt,) = attempts("101 submit.start", "103 main.start", *lines)
    assert (attempt.outcome, attempt.message) == (outcome, message)
    assert attempt.duration == (47 if outcome is Outcome.UNFINISHED else 6)


@pytest.mark.parametrize(
    ("line", "outcome", "message"),
    [
        ("101 submit.end status=-1", Outcome.CRASHED, "the scheduler did not accept it"),
        ("101 pre.end exitcode=7", Outcome.FAILED, "the PRE script returned 7"),
    ],
)
def test_what_was_never_executed(line: str, outcome: Outcome, message: str) -> None:
    (attempt,) = attempts(line)
    assert (attempt.outcome, attempt.message, attempt.started) == (outcome, message, None)


def test_each_instance_is_an_attempt() -> None:
    found = attempts(
        "120 main.start job_inst.id=10",
        "121 main.end exitcode=0 job_inst.id=10",
        "103 main.start job_inst.id=9",
        "104 main.end exitcode=1 job_inst.id=9",
    )
    assert [(a.outcome, a.started) for a in found] == [
        (Outcome.FAILED, 3),
        (Outcome.COMPLETED, 20),
    ]


def test_values_are_read_with_spaces_escapes_and_nothing_in_them() -> None:
    line = r'ts=1 event=stampede.x a="b c=d " e="" f= g="say \"hi\" \\" h=i=j'
    (event,) = read_events(line + "  \r\n", "x")
    assert event.name == "x"
    assert event.fields["a"] == "b c=d "
    assert (event.fields["e"], event.fields["f"]) == ("", "")
    assert event.fields["g"] == 'say "hi" \\'
    assert event.fields["h"] == "i=j"


@pytest.mark.parametrize(
    ("ts", "seconds"),
    [("2012-03-14T22:05:10.5Z", 1331762710.5), ("1331762710.5", 1331762710.5)],
)
def test_both_kinds_of_time_are_read(ts: str, seconds: float) -> None:
    (event,) = read_events(f"ts={ts} event=stampede.x", "x")
    assert event.time() == seconds


def test_a_repeated_description_counts_once() -> None:
    assert len(parse(events(PLAN[2].replace("ts=0", "ts=7")), "x.bp").tasks) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ts=1 oops", "column 6 does not begin a key=value pair"),
        ('ts=1 event=stampede.x a="cut short', "column 23 does not begin a key=value pair"),
        ("ts=1 level=Info", "has no event=stampede..."),
        ("ts=1 event=other.thing", "has no event=stampede..."),
        ("event=stampede.xwf.start", "xwf.start has no ts"),
        ("ts=noon event=stampede.xwf.start", "ts is 'noon'"),
        ("ts=1 event=stampede.job.info", "job.info has no job.id"),
        ("ts=1 event=stampede.job.info job.id=a", "describes the job 'a' differently again"),
        (
            "ts=1 event=stampede.job.edge parent.job.id=z child.job.id=a",
            "parent.job.id 'z' has no job.info event before",
        ),
        (
            "ts=1 event=stampede.job_inst.main.start job.id=a job_inst.id=x",
            "job_inst.id is 'x'",
        ),
        (
            "ts=1 event=stampede.job_inst.main.end job.id=a job_inst.id=1",
            "job_inst.main.end has no",
        ),
        ("ts=1 event=stampede.inv.end job.id=a job_inst.id=1 dur=-1", "dur is '-1'"),
        ("ts=1 event=stampede.inv.end job.id=a job_inst.id=1 dur=NaN", "dur is 'NaN'"),
        ("ts=1 event=stampede.job.info xwf.id=v job.id=c", "belongs to workflow 'v', the lines be"),
    ],
)
def test_a_broken_line_is_named(line: str, problem: str) -> None:
    with pytest.raises(TraceError) as raised:
        parse(events(line), "x.bp")
    assert raised.value.where == f"x.bp:{len(PLAN) + 1}"
    assert raised.value.problem.startswith(problem)


def test_events_without_jobs_are_refused() -> None:
    with pytest.raises(TraceError, match=r"x\.bp: this Pegasus monitord events trace has no tasks"):
        parse(PLAN[0], "x.bp")


def test_a_cycle_is_refused() -> None:
    back = "ts=0 event=stampede.job.edge parent.job.id=b child.job.id=a"
    with pytest.raises(TraceError, match="in a cycle: "):
        parse(events(back), "x.bp")
