"""Every real trace, against the counts that the data folder's README states."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from interlock_server.replay import (
    Outcome,
    Trace,
    TraceError,
    load,
    topological_order,
    with_synthetic_starts,
)
from interlock_server.replay.pegasus_events import read_events

_ALL = (
    "wfinstances/fetchngs-dirt02-001.json",
    "wfinstances/rnaseq-dirt02-001.json",
    "wfinstances/soykb-chameleon-30fastq-20ch-001.json",
    "wfinstances/1000genome-chameleon-22ch-250k-001.json",
    "wfinstances/montage-chameleon-2mass-05d-001.json",
    "pegasus/montage-1.0.bp",
    "pegasus/process_wf_failure/jobstate.log",
    "pegasus/hierarchical_wf_success/jobstate.log",
    "nextflow-trace/execution_trace.txt",
)


def outcomes(trace: Trace) -> Counter[Outcome | None]:
    return Counter(task.outcome for task in trace.tasks)


def depth(trace: Trace) -> int:
    levels: dict[str, int] = {}
    for task in topological_order(trace):
        levels[task.id] = 1 + max((levels[parent] for parent in task.parents), default=0)
    return max(levels.values())


@pytest.mark.parametrize(
    ("file", "tasks", "edges", "levels", "makespan", "hosts"),
    [
        ("fetchngs-dirt02-001", 43, 28, 3, 246, 0),
        ("rnaseq-dirt02-001", 197, 451, 10, 3131, 0),
        ("soykb-chameleon-30fastq-20ch-001", 416, 1014, 11, 35300, 5),
        ("1000genome-chameleon-22ch-250k-001", 902, 1166, 3, 10417, 4),
        ("montage-chameleon-2mass-05d-001", 1738, 4698, 8, 2554, 5),
    ],
)
def test_wfinstances(
    workflows: Path, file: str, tasks: int, edges: int, levels: int, makespan: float, hosts: int
) -> None:
    trace = load(workflows / "wfinstances" / f"{file}.json")
    assert trace.source_format == "WfFormat 1.5"
    assert (len(trace.tasks), trace.edge_count, depth(trace)) == (tasks, edges, levels)
    assert trace.makespan == makespan
    assert outcomes(trace) == {Outcome.COMPLETED: tasks}
    assert trace.attempt_count == tasks
    attempts = [attempt for task in trace.tasks for attempt in task.attempts]
    assert not any(attempt.has_times for attempt in attempts)
    assert len({attempt.host for attempt in attempts} - {None}) == hosts


@pytest.mark.parametrize(
    ("file", "zero_runtimes", "repeated_names", "isolated"),
    [("fetchngs-dirt02-001", 9, 33, 7), ("rnaseq-dirt02-001", 56, 135, 1)],
)
def test_wfinstances_of_nextflow(
    workflows: Path, file: str, zero_runtimes: int, repeated_names: int, isolated: int
) -> None:
    trace = load(workflows / "wfinstances" / f"{file}.json")
    assert sum(task.attempts[0].duration == 0 for task in trace.tasks) == zero_runtimes
    assert len(trace.tasks) - len({task.name for task in trace.tasks}) == repeated_names
    parents = {parent for task in trace.tasks for parent in task.parents}
    alone = [task for task in trace.tasks if not task.parents and task.id not in parents]
    assert len(alone) == isolated


def test_monitord_event_lines(workflows: Path) -> None:
    path = workflows / "pegasus/montage-1.0.bp"
    events = list(read_events(path.read_text(), str(path)))
    names = Counter(event.name for event in events)
    assert len(events) == 3588
    assert (names["task.info"], names["task.edge"]) == (387, 979)
    assert (names["job.info"], names["job.edge"], names["inv.end"]) == (39, 202, 436)
    steps = [event.time() for event in events]
    assert sum(b < a for a, b in pairwise(steps)) == 435


def test_monitord_trace(workflows: Path) -> None:
    trace = load(workflows / "pegasus/montage-1.0.bp")
    assert (trace.name, trace.source_format) == ("montage", "Pegasus monitord events")
    assert (len(trace.tasks), trace.edge_count, trace.attempt_count) == (39, 202, 39)
    assert outcomes(trace) == {Outcome.COMPLETED: 39}
    assert trace.makespan == 1065
    assert trace.notes == ()
    tasks = {task.id: task for task in trace.tasks}
    assert len({name for task in trace.tasks for name in task.abstract_tasks}) == 387
    assert sum(len(task.attempts[0].invocations) for task in trace.tasks) == 436

    merged = tasks["merge_mBackground-3.3_PID5_ID5"]
    attempt = merged.attempts[0]
    assert (merged.kind, len(merged.abstract_tasks)) == ("compute", 4)
    assert (attempt.submitted, attempt.started, attempt.ended) == (536, 572, 612)
    assert (attempt.duration, attempt.exit_code) == (40, 0)
    assert attempt.logs[1] == '[struct stat="OK"]'
    assert tasks["merge_mProjectPP-3.3_PID1_ID4"].attempts[0].host == "w2.novalocal"


def test_jobstate_of_a_failed_run(workflows: Path) -> None:
    trace = load(workflows / "pegasus/process_wf_failure/jobstate.log")
    assert (trace.name, trace.source_format) == ("process", "Pegasus jobstate.log")
    assert (len(trace.tasks), trace.edge_count, trace.attempt_count) == (5, 4, 3)
    assert outcomes(trace) == {Outcome.COMPLETED: 1, Outcome.FAILED: 1, None: 3}
    assert trace.makespan == 96
    assert [task.id for task in trace.tasks if task.retries] == ["ls_ID0000001"]

    retried = next(task for task in trace.tasks if task.retries)
    assert retried.parents == ("create_dir_process_0_local",)
    first, second = retried.attempts
    assert (first.submitted, first.started, first.ended, first.duration) == (21, 71, 72, 1)
    assert (second.submitted, second.started, second.ended, second.duration) == (86, 86, 87, 1)
    for attempt in retried.attempts:
        assert (attempt.outcome, attempt.exit_code) == (Outcome.FAILED, 2)
        assert attempt.message == "the POST script returned 1"
    assert trace.notes == (
        "3 jobs never ran: stage_out_local_local_0_0, cleanup_process_0_local, register_local_0_0",
    )


def test_jobstate_of_a_hierarchical_run(workflows: Path) -> None:
    trace = load(workflows / "pegasus/hierarchical_wf_success/jobstate.log")
    assert (len(trace.tasks), trace.edge_count, trace.attempt_count) == (13, 17, 11)
    assert outcomes(trace) == {Outcome.COMPLETED: 11, None: 2}
    tasks = {task.id: task for task in trace.tasks}
    cut_short = tasks["stage_out_local_local_2_0"].attempts[0]
    assert cut_short.message == "the trace ends before its POST script does"
    assert tasks["pegasus-plan_diamond_subworkflow"].attempts[0].duration == 186
    assert len(trace.notes) == 2


def test_nextflow_trace_file(workflows: Path) -> None:
    trace = load(workflows / "nextflow-trace/execution_trace.txt")
    assert trace.source_format == "Nextflow trace file"
    assert (len(trace.tasks), trace.edge_count, trace.attempt_count) == (275, 0, 275)
    assert outcomes(trace) == {Outcome.COMPLETED: 258, Outcome.FAILED: 17}
    codes = Counter(task.attempts[0].exit_code for task in trace.tasks)
    assert codes == {0: 258, 127: 12, 1: 5}
    names = Counter(task.name for task in trace.tasks)
    assert [name for name, n in names.items() if n > 1] == ["CHIPSEQ:JO_CHECKSUMS (null)"]
    submitted = [task.attempts[0].submitted or 0.0 for task in trace.tasks]
    assert (min(submitted), max(submitted)) == (0, 1985.32)
    slowest = next(t for t in trace.tasks if t.name == "CHIPSEQ:OUTPUT_DOCUMENTATION")
    assert slowest.attempts[0].ended == 80
    assert slowest.attempts[0].started == pytest.approx(79.759)


@pytest.mark.parametrize("file", _ALL)
def test_no_task_starts_before_its_parents_end(workflows: Path, file: str) -> None:
    loaded = load(workflows / file)
    trace = with_synthetic_starts(loaded)
    assert trace.starts_are_synthetic is file.startswith("wfinstances/")
    assert not loaded.starts_are_synthetic
    ends = {
        task.id: max((a.ended for a in task.attempts if a.ended is not None), default=0.0)
        for task in trace.tasks
    }
    for task in trace.tasks:
        for attempt in task.attempts:
            assert attempt.submitted is not None
            assert attempt.started is not None
            assert attempt.ended is not None
            assert 0 <= attempt.submitted <= attempt.started <= attempt.ended
            assert attempt.ended <= trace.makespan
            assert all(ends[parent] <= attempt.started for parent in task.parents)


@pytest.mark.parametrize("file", _ALL)
def test_every_truncation_is_read_or_refused_with_a_place(
    workflows: Path, tmp_path: Path, file: str
) -> None:
    content = (workflows / file).read_bytes()
    cut = tmp_path / Path(file).name
    refusals = []
    for part in range(1, 20):
        cut.write_bytes(content[: len(content) * part // 20])
        try:
            load(cut)
        except TraceError as error:
            refusals.append(error)
    assert all(error.where.startswith(str(cut)) for error in refusals)
    assert all("\n" not in str(error) for error in refusals)
    if cut.suffix == ".json":
        assert len(refusals) == 19
