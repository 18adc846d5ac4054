import gzip
from pathlib import Path

import pytest
from interlock_server.replay import TraceError, load

JOBSTATE = "100 INTERNAL *** DAGMAN_STARTED 1.0 ***\n101 a SUBMIT 2.0 local - 1\n"
EVENTS = "ts=1 event=stampede.job.info job.id=a type_desc=compute\n"
NEXTFLOW = "task_id\tname\tstatus\tduration\n1\tp\tCOMPLETED\t1s\n"
WFFORMAT = (
    '{"name": "w", "schemaVersion": "1.5", "workflow": {'
    '"specification": {"tasks": [{"id": "a", "name": "a"}]}, "execution": '
    '{"makespanInSeconds": 1, "tasks": [{"id": "a", "runtimeInSeconds": 1}]}}}'
)


@pytest.mark.parametrize(
    ("text", "source_format"),
    [
        (JOBSTATE, "Pegasus jobstate.log"),
        (EVENTS, "Pegasus monitord events"),
        (NEXTFLOW, "Nextflow trace file"),
        (WFFORMAT, "WfFormat 1.5"),
        ("\n\r\n" + WFFORMAT, "WfFormat 1.5"),
        ("\ufeff" + NEXTFLOW.replace("\n", "\r\n"), "Nextflow trace file"),
    ],
)
@pytest.mark.parametrize("name", ["run", "run.json", "jobstate.log", "run.bp", "trace.txt"])
def test_the_content_decides(tmp_path: Path, text: str, source_format: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert load(path).source_format == source_format


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("run.json", "is not JSON"),
        ("jobstate.log", "begins with 'gibberish', not with a time"),
        ("run.bp", "column 1 does not begin a key=value pair"),
        ("execution_trace.txt", "there is no column 'task_id'"),
    ],
)
def test_the_name_helps_where_the_content_is_broken(
    tmp_path: Path, name: str, problem: str
) -> None:
    path = tmp_path / name
    path.write_text("gibberish")
    with pytest.raises(TraceError) as raised:
        load(path)
    assert raised.value.where == f"{path}:1"
    assert raised.value.problem.startswith(problem)


def test_an_unknown_format_lists_the_known(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("gibberish")
    with pytest.raises(TraceError) as raised:
        load(path)
    for known in ("WfFormat JSON", "jobstate.log", "(.bp)", "execution_trace.txt"):
        assert known in raised.value.remedy


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (gzip.compress(b"{}", mtime=0), "is compressed with gzip"),
        (b"\x28\xb5\x2f\xfd....", "is compressed with zstd"),
        (b"{}\x00", "a NUL byte, so this is a binary file"),
        (b"{\xff}", "is not UTF-8 text"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(TraceError) as raised:
        load(path)
    assert raised.value.problem == problem
    assert raised.value.where.startswith(str(path))


def test_the_place_in_a_binary_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc\x00")
    with pytest.raises(TraceError, match=r"x: byte 3: "):
        load(path)


def test_what_can_not_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="can not be read: No such file"):
        load(tmp_path / "absent")
    with pytest.raises(TraceError, match="can not be read: Is a directory"):
        load(tmp_path)
