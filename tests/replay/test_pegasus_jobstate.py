from pathlib import Path

import pytest
from interlock_server.replay import Attempt, Outcome, Trace, TraceError, load
from interlock_server.replay.dagman import parse as parse_dag
from interlock_server.replay.pegasus_jobstate import parse


def log(*lines: str) -> str:
    """Lines such as "5 EXECUTE", about the job j in its submission 1, with what they leave out."""
    full = []
    for line in lines:
        words = line.split()
        if len(words) < 7 and "INTERNAL" not in words:
            time, state, *rest = words
            value = rest[0] if rest else "9.0"
            line = f"{time} j {state} {value} local - {rest[1] if len(rest) > 1 else 1}"
        full.append(line)
    return "\n".join(full) + "\n"


def attempts(*lines: str) -> tuple[Attempt, ...]:
    return (
        parse(log("0 INTERNAL *** DAGMAN_STARTED 1.0 ***", *lines), "jobstate.log")
        .tasks[0]
        .attempts
    )


RUN = ("1 SUBMIT", "3 EXECUTE", "8 JOB_TERMINATED")


@pytest.mark.parametrize(
    ("lines", "outcome", "exit_code", "ended", "message"),
    [
        ((*RUN, "9 JOB_SUCCESS 0"), Outcome.COMPLETED, 0, 8, ""),
        ((*RUN, "9 JOB_FAILURE 2"), Outcome.FAILED, 2, 8, "returned 2"),
        ((*RUN, "9 JOB_FAILURE 0"), Outcome.FAILED, 0, 8, "returned 0"),
        (
            (*RUN, "9 JOB_SUCCESS 0", "9 POST_SCRIPT_STARTED", "9 POST_SCRIPT_FAILURE 3"),
            Outcome.FAILED,
            0,
            8,
            "the POST script returned 3",
        ),
        (
            (*RUN, "9 JOB_FAILURE 2", "9 POST_SCRIPT_STARTED", "9 POST_SCRIPT_SUCCESS 0"),
            Outcome.COMPLETED,
            2,
            8,
            "returned 2; the POST script accepts it",
        ),
        (
            (*RUN, "9 JOB_SUCCESS 0", "9 POST_SCRIPT_STARTED"),
            Outcome.COMPLETED,
            0,
            8,
            "the trace ends before its POST script does",
        ),
        (
            ("1 SUBMIT", "3 EXECUTE", "8 JOB_ABORTED", "8 POST_SCRIPT_FAILURE 1"),
            Outcome.CANCELLED,
            None,
            8,
            "removed from the queue",
        ),
        (("1 SUBMIT", "3 EXECUTE", "8 JOB_EVICTED"), Outcome.CRASHED, None, 8, "evicted"),
    ],
)
def test_how_an_execution_ends(
    lines: tuple[str, ...], outcome: Outcome, exit_code: int | None, ended: float, message: str
) -> None:
    (attempt,) = attempts(*lines)
    assert (attempt.outcome, attempt.exit_code, attempt.message) == (outcome, exit_code, message)
    assert (attempt.submitted, attempt.started, attempt.ended) == (1, 3, ended)
    assert attempt.duration == 5


@pytest.mark.parametrize(
    ("lines", "outcome", "message"),
    [
        (("1 SUBMIT",), Outcome.UNFINISHED, "the trace ends before this attempt does"),
        (("1 SUBMIT", "2 JOB_HELD"), Outcome.UNFINISHED, "the trace ends before this attempt does"),
        (("1 SUBMIT_FAILED",), Outcome.CRASHED, "the scheduler did not accept it"),
        (("1 PRE_SCRIPT_FAILURE 4",), Outcome.FAILED, "the PRE script returned 4"),
        (("1 PRE_SCRIPT_FAILURE -",), Outcome.FAILED, "the PRE script returned 1"),
    ],
)
def test_what_was_never_executed(lines: tuple[str, ...], outcome: Outcome, message: str) -> None:
    (attempt,) = attempts(*lines)
    assert (attempt.outcome, attempt.message) == (outcome, message)
    assert (attempt.started, attempt.duration) == (None, 0)


def test_an_execution_still_going_on_lasts_until_the_end_of_the_trace() -> None:
    (attempt,) = attempts("1 SUBMIT", "3 EXECUTE", "10 INTERNAL *** DAGMAN_FINISHED 1 ***")
    assert (attempt.outcome, attempt.ended, attempt.duration) == (Outcome.UNFINISHED, None, 7)


def test_each_submission_is_an_attempt_in_the_order_of_the_sequence() -> None:
    second = ("20 SUBMIT 9.0 12", "21 EXECUTE 9.0 12", "22 JOB_SUCCESS 0 12")
    first = ("1 SUBMIT 9.0 9", "3 EXECUTE 9.0 9", "4 JOB_FAILURE 1 9")
    found = attempts(*second, *first)
    assert [a.outcome for a in found] == [Outcome.FAILED, Outcome.COMPLETED]
    assert [a.submitted for a in found] == [1, 20]


def test_a_lost_execution_is_an_attempt_that_crashed() -> None:
    found = attempts(
        "1 SUBMIT", "3 EXECUTE", "5 JOB_EVICTED", "9 EXECUTE", "12 EXECUTE", "14 JOB_SUCCESS 0"
    )
    assert [(a.outcome, a.submitted, a.started, a.ended) for a in found] == [
        (Outcome.CRASHED, 1, 3, 5),
        (Outcome.CRASHED, 5, 9, 12),
        (Outcome.COMPLETED, 12, 12, 14),
    ]
    assert [a.message for a in found] == ["lost: evicted", "lost: executed again", ""]
    assert [a.exit_code for a in found] == [None, None, 0]


def test_lines_repeated_in_a_recovery_count_once() -> None:
    assert len(attempts("1 SUBMIT", "3 EXECUTE", "1 SUBMIT", "3 EXECUTE", "4 JOB_SUCCESS 0")) == 1


def test_an_end_before_the_start_is_taken_as_no_time_and_noted() -> None:
    trace = parse(log("1 SUBMIT", "9 EXECUTE", "7 JOB_TERMINATED", "8 JOB_SUCCESS 0"), "x")
    (attempt,) = trace.tasks[0].attempts
    assert (attempt.started, attempt.ended, attempt.duration) == (8, 8, 0)
    assert "1 executions ended before they started: taken as 0 seconds long" in trace.notes


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("soon j SUBMIT 1.0 local - 1", "begins with 'soon', not with a time"),
        ("nan j SUBMIT 1.0 local - 1", "begins with 'nan', not with a time"),
        ("-1 j SUBMIT 1.0 local - 1", "begins with '-1', not with a time"),
        ("5 j SUBMIT 1.0 local -", "has 6 columns instead of 7"),
        ("5", "has 1 columns instead of 7"),
        ("5 j submit 1.0 local - 1", "'submit' is no job state"),
        ("5 j SUBMIT 1.0 local - one", "the submit sequence is 'one'"),
        ("5 j JOB_FAILURE x local - 1", "JOB_FAILURE with 'x' for an exit code"),
    ],
)
def test_a_broken_line_is_named(line: str, problem: str) -> None:
    with pytest.raises(TraceError) as raised:
        parse(f"1 k SUBMIT 1.0 local - 1\n\n{line}\n", "d/jobstate.log")
    assert (raised.value.where, raised.value.problem) == ("d/jobstate.log:3", problem)


def test_a_log_without_jobs_is_refused() -> None:
    with pytest.raises(TraceError, match="x: no job was submitted in this run"):
        parse("1 INTERNAL *** DAGMAN_STARTED 1.0 ***\n", "x")


DAG = """
# a comment
JOB a a.sub
job b b.sub
SUBDAG EXTERNAL c c.dag
FINAL f f.sub
RETRY a 3
PARENT a b CHILD c f
Parent a Child b
PARENT a CHILD b
"""


def test_a_dag_is_read() -> None:
    assert parse_dag(DAG, "x.dag").parents == {
        "a": (),
        "b": ("a",),
        "c": ("a", "b"),
        "f": ("a", "b"),
    }


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("JOB a", "JOB lacks a name or a file"),
        ("SUBDAG EXTERNAL x", "SUBDAG lacks a name or a file"),
        ("JOB z z.sub\nJOB z z.sub", "repeats the job 'z'"),
        ("PARENT CHILD a", "is not PARENT names CHILD names"),
        ("PARENT a CHILD", "is not PARENT names CHILD names"),
        ("PARENT a b", "is not PARENT names CHILD names"),
        ("JOB z z.sub\nPARENT z CHILD y", "there is no job 'y'"),
        ("SPLICE s s.dag", "SPLICE pulls in another file, which is not supported"),
    ],
)
def test_a_broken_dag_is_refused(line: str, problem: str) -> None:
    with pytest.raises(TraceError) as raised:
        parse_dag(line, "x.dag")
    assert raised.value.where == f"x.dag:{len(line.splitlines())}"
    assert raised.value.problem == problem


def write(folder: Path, **files: str) -> Path:
    (folder / "jobstate.log").write_text(log("1 a SUBMIT 1.0 local - 1", "2 INTERNAL *** X ***"))
    for name, text in files.items():
        (folder / f"{name}.dag").write_text(text)
    return folder / "jobstate.log"


def test_the_graph_comes_from_the_file_beside(tmp_path: Path) -> None:
    trace: Trace = load(write(tmp_path, **{"flow-0": DAG}))
    assert trace.name == "flow"
    assert (len(trace.tasks), trace.edge_count) == (4, 5)
    assert "3 jobs never ran: b, c, f" in trace.notes


def test_without_a_graph_that_is_noted(tmp_path: Path) -> None:
    trace = load(write(tmp_path))
    assert [(task.id, task.parents) for task in trace.tasks] == [("a", ())]
    assert "no .dag file lies beside the log: the dependencies are not known" in trace.notes


def test_several_graphs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"has several \.dag files \(x\.dag, y\.dag\)"):
        load(write(tmp_path, x=DAG, y=DAG))


def test_the_graph_of_another_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"jobstate\.log:1: job 'a' is not in .*x\.dag"):
        load(write(tmp_path, x="JOB other o.sub\n"))


def test_a_graph_with_a_cycle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="in a cycle: "):
        load(write(tmp_path, x="JOB a a.sub\nJOB b b.sub\nPARENT a CHILD b\nPARENT b CHILD a\n"))
