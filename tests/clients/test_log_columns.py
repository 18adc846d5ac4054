from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interlock import v1
from interlock.log_columns import Line, MalformedColumns, join, lines, pack, unpack

EARLIEST = -62_135_596_800 * 1_000_000
LATEST = 253_402_300_800 * 1_000_000 - 1
WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
LINES = st.lists(
    st.builds(
        Line,
        st.one_of(
            st.integers(min_value=EARLIEST, max_value=LATEST), st.sampled_from([0, -1, 1_700_000])
        ),
        st.one_of(st.just(20), st.integers(min_value=0, max_value=100)),
        st.one_of(st.sampled_from(["", "app", "app.db"]), WORDS),
        WORDS,
        st.sampled_from(["", "", "task-1", "task-2", "task-3"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@given(LINES)
def test_lines_come_back_as_they_were(given_lines: list[Line]) -> None:
    columns = v1.LogColumns.FromString(pack(given_lines).SerializeToString())
    assert lines(columns) == given_lines
    records = unpack(columns, 7)
    assert [record.ordinal for record in records] == list(range(7, 7 + len(given_lines)))
    assert [
        Line(
            record.time.seconds * 1_000_000 + record.time.nanos // 1000,
            record.level,
            record.logger,
            record.message,
            record.task_run_id,
            record.continued,
        )
        for record in records
    ] == given_lines


@given(st.lists(LINES, min_size=1, max_size=5))
def test_joined_columns_have_the_lines_of_their_parts(parts: list[list[Line]]) -> None:
    whole = [line for part in parts for line in part]
    joined = join([pack(part) for part in parts])
    assert lines(v1.LogColumns.FromString(joined.SerializeToString())) == whole
    used = {line.task_run_id for line in whole} - {""}
    assert len(joined.task_run_ids) == len(used)
    said = {descriptor.name for descriptor, _ in joined.ListFields()}
    packed = {descriptor.name for descriptor, _ in pack(whole).ListFields()}
    # What is said of some parts is said of all, also where it goes without saying.
    assert said >= packed


def test_joining_says_of_each_part_what_it_left_out() -> None:
    one = v1.LogColumns(messages=["a", "b"], task_run_ids=["task", "other"], loggers=["x", "y"])
    two = v1.LogColumns(messages=["c"], levels=[50], continued=[0])
    one.base_time.seconds, two.base_time.seconds = 1, 2
    assert lines(join([one, two])) == [*lines(one), *lines(two)]
    assert join([one, two]).task_run_ids == ["task"]


def test_columns_that_say_nothing_are_left_out() -> None:
    columns = pack([Line(5, message="a"), Line(5, message="b")])
    said = {descriptor.name for descriptor, _ in columns.ListFields()}
    assert said == {"messages", "base_time"}
    columns = pack([Line(5, 20, "app", "a", "task"), Line(5, 20, "app", "b", "task")])
    said = {descriptor.name for descriptor, _ in columns.ListFields()}
    assert said == {"messages", "base_time", "loggers", "task_run_ids"}


def test_what_others_leave_out_is_understood() -> None:
    columns = v1.LogColumns(messages=["a", "b"], task_run_ids=["task", "other"], loggers=["x", "y"])
    columns.base_time.seconds = 1
    assert lines(columns) == [
        Line(1_000_000, 20, "x", "a", "task"),
        Line(1_000_000, 20, "x", "b", "task"),
    ]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("messages", []),
        ("time_offsets_us", [1]),
        ("levels", [20, 101]),
        ("levels", [20]),
        ("logger_indexes", [0, 2]),
        ("logger_indexes", [0]),
        ("task_run_indexes", [0, 2]),
        ("continued", [2]),
        ("continued", [1, 0]),
        ("continued", [1, 1]),
    ],
)
def test_columns_that_do_not_fit_are_refused(column: str, values: list[int]) -> None:
    columns = v1.LogColumns(messages=["a", "b"], loggers=["x", "y"], task_run_ids=["t"])
    columns.base_time.seconds = 1
    columns.ClearField(column)  # type: ignore[arg-type]
    getattr(columns, column).extend(values)
    with pytest.raises(MalformedColumns) as caught:
        unpack(columns, 0)
    assert caught.value.column == column


def test_columns_without_a_time_are_refused() -> None:
    with pytest.raises(MalformedColumns, match="base_time"):
        lines(v1.LogColumns(messages=["a"]))


def test_nothing_can_not_be_packed() -> None:
    with pytest.raises(ValueError, match="nothing"):
        pack([])
