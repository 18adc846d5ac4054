"""Whatever is done to a trace: it is read, or refused with a TraceError of one line."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock_server.replay import (
    Trace,
    TraceError,
    nextflow,
    pegasus_events,
    pegasus_jobstate,
    validate,
    wfformat,
    with_synthetic_starts,
)
from interlock_server.replay.dagman import Dag

WFFORMAT = """{"name": "w", "schemaVersion": "1.4", "workflow": {"makespan": 1, "tasks": [
{"name": "a", "id": "1", "children": ["b"], "runtime": 1.5, "machine": "m"},
{"name": "b", "id": "2", "parents": ["a"], "runtimeInSeconds": 2}]}}
"""
JOBSTATE = """100 INTERNAL *** DAGMAN_STARTED 1.0 ***
101 a SUBMIT 2.0 local - 1
102 a EXECUTE 2.0 local - 1
103 a JOB_EVICTED 2.0 local - 1
104 a EXECUTE 2.0 local - 1
105 a JOB_TERMINATED 2.0 local - 1
105 a JOB_FAILURE 1 local - 1
106 a POST_SCRIPT_FAILURE 1 local - 1
107 a SUBMIT 3.0 local - 2
109 INTERNAL *** DAGMAN_FINISHED 1 ***
"""
EVENTS = """ts=1.5 event=stampede.xwf.start
ts=2012-03-14T22:05:10Z event=stampede.job.info job.id=a
ts=1 event=stampede.job.info job.id=b
ts=1 event=stampede.job.edge parent.job.id=a child.job.id=b
ts=2 event=stampede.job_inst.main.start job.id=a job_inst.id=1
ts=3 event=stampede.inv.end job.id=a job_inst.id=1 dur=1.5 exitcode=0 argv="-x \\"y\\""
ts=4 event=stampede.job_inst.main.end job.id=a job_inst.id=1 exitcode=0 stdout.text="a%0Ab"
"""
NEXTFLOW = """task_id\tname\tstatus\texit\tsubmit\tduration\trealtime\tattempt
1\tp\tFAILED\t1\t2021-02-17 17:03:21.800\t1m 19s\t250ms\t1
2\tp\tCOMPLETED\t0\t2021-02-17 17:04:41.000\t7.3s\t-\t2
3\tq\tCACHED\t0\t1613581402000\t1500\t1000\t1
4\tr\tRUNNING\t-\t2021-02-17T17:04:41+14:00\t-\t-\t1
"""
PARSERS: dict[str, tuple[str, Callable[[str], Trace]]] = {
    "wfformat": (WFFORMAT, lambda text: wfformat.parse(text, "f")),
    "jobstate": (
        JOBSTATE,
        lambda text: pegasus_jobstate.parse(text, "f", Dag("f-0.dag", {"b": (), "a": ("b",)})),
    ),
    "events": (EVENTS, lambda text: pegasus_events.parse(text, "f")),
    "nextflow": (NEXTFLOW, lambda text: nextflow.parse(text, "f")),
}

words = st.sampled_from(
    [
        "nan", "-inf", "1e400", "1e308", "-1", "0", "9" * 400, "9" * 5000, "-", '"', "\\", "\t",
        "\n", "\r", "null", "[]", "{", "a", "b", "\x85", "0001-01-01T00:00:00+14:00",
        "9999-12-31 23:59:59", "٣", " ", "=", "%", "true",
    ]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        kind = draw(st.sampled_from(["insert", "delete", "replace word", "repeat line"]))
        if kind == "insert":
            text = text[:start] + draw(words | st.text(max_size=5)) + text[start:]
        elif kind == "delete":
            text = text[:start] + text[start + draw(st.integers(1, 40)) :]
        elif kind == "replace word":
            before, _, rest = text[start:].partition(draw(st.sampled_from(" =\t:")))
            after = rest.lstrip("0123456789.abcdefghijklmnopqrstuvwxyz-")
            text = text[:start] + before + draw(words) + after
        else:
            lines = text.split("\n")
            lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
            text = "\n".join(lines)
    return text


@pytest.mark.parametrize("name", PARSERS)
def test_the_seeds_are_sound(name: str) -> None:
    text, parse = PARSERS[name]
    assert parse(text).tasks


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_whatever_is_done_to_a_trace(name: str, data: st.DataObject) -> None:
    text, parse = PARSERS[name]
    error = None
    try:
        trace = parse(data.draw(mutated(text)))
    except TraceError as refused:
        error = refused
    if error is None:
        assert validate(trace, "f") is trace
        with_synthetic_starts(trace)
    else:
        assert error.where.startswith("f")
        assert "\n" not in str(error)
