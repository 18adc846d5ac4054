"""How a batch of log records is best laid out: the comparison behind `LogColumns`.

    python -m benchmarks.log_layout

Three layouts of the same lines:

- **rows**: a message for each record, with a Timestamp in it, as most services have it;
- **compact rows**: a message for each record, whose time is a number, and whose logger and task run
  are indexes into tables of the batch;
- **columns**: an array for each field (`LogColumns`).

For each it measures, on the lines of `log_lines`: the client's work to pack a batch; the server's
to decode it and to check it (each text's length, each level and index, the range of times); and its
bytes on the wire and compressed, which is what is stored. The two layouts that lost have no .proto:
their messages are made here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import zstandard
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from interlock import log_columns
from interlock.v1 import log_pb2
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.log_lines import Line, LogLines
from benchmarks.spread import Spread

_LINES = 1000
_ROUNDS = 15
_PASSES = 5
"""Of each round, in turns with the other layouts."""

_MAX_MESSAGE = 1024 * 1024
_MAX_LEVEL = 100
_SPAN = 366 * 86_400 * 1_000_000
"""Microseconds around the first record in which all others must lie."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to lay out a batch."""

    name: str
    pack: Callable[[Sequence[Line]], bytes]
    read: Callable[[bytes], object]
    """Decodes a batch and checks it."""


# --- messages -------------------------------------------------------------------------------------


def _messages() -> tuple[Any, Any]:
    """Make the message classes of the two layouts of rows."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="benchmarks/log_layout.proto",
        package="benchmarks",
        syntax="proto3",
        dependency=["google/protobuf/timestamp.proto"],
    )

    def message(name: str, *fields: tuple[str, str]) -> None:
        made = file.message_type.add(name=name)
        for number, (field_name, kind) in enumerate(fields, 1):
            word, _, type_name = kind.rpartition(" ")
            added = made.field.add(name=field_name, number=number, label=field.LABEL_OPTIONAL)
            if word == "repeated":
                added.label = field.LABEL_REPEATED
            if type_name in plain:
                added.type = plain[type_name]
            else:
                added.type, added.type_name = field.TYPE_MESSAGE, type_name

    plain = {
        "string": field.TYPE_STRING,
        "sint64": field.TYPE_SINT64,
        "uint32": field.TYPE_UINT32,
    }
    message(
        "Row",
        ("time", ".google.protobuf.Timestamp"),
        ("level", "uint32"),
        ("logger", "string"),
        ("message", "string"),
        ("task_run_id", "string"),
    )
    message("Rows", ("rows", "repeated .benchmarks.Row"))
    message(
        "CompactRow",
        ("time", "sint64"),
        ("level", "uint32"),
        ("logger", "uint32"),
        ("message", "string"),
        ("task_run", "uint32"),
    )
    message(
        "CompactRows",
        ("base_time", ".google.protobuf.Timestamp"),
        ("loggers", "repeated string"),
        ("task_run_ids", "repeated string"),
        ("rows", "repeated .benchmarks.CompactRow"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())

    def class_of(name: str) -> Any:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"benchmarks.{name}"))

    return class_of("Rows"), class_of("CompactRows")


_Rows, _CompactRows = _messages()


# --- rows -----------------------------------------------------------------------------------------


def _pack_rows(lines: Sequence[Line]) -> bytes:
    batch = _Rows()
    add = batch.rows.add
    for micros, level, logger, message, task_run_id, _ in lines:
        row = add(level=level, logger=logger, message=message, task_run_id=task_run_id)
        row.time.seconds, rest = divmod(micros, 1_000_000)
        row.time.nanos = rest * 1000
    packed: bytes = batch.SerializeToString()
    return packed


def _read_rows(data: bytes) -> object:
    batch = _Rows.FromString(data)
    first = batch.rows[0].time.seconds * 1_000_000
    for row in batch.rows:
        at = row.time.seconds * 1_000_000 + row.time.nanos // 1000
        _check(len(row.message) <= _MAX_MESSAGE and row.level <= _MAX_LEVEL)
        _check(-_SPAN < at - first < _SPAN and len(row.task_run_id) in (0, 36))
    return batch


# --- compact rows ---------------------------------------------------------------------------------


def _pack_compact_rows(lines: Sequence[Line]) -> bytes:
    loggers = {name: i for i, name in enumerate(dict.fromkeys(line[2] for line in lines))}
    task_runs = {id_: i for i, id_ in enumerate(dict.fromkeys(line[4] for line in lines), 1)}
    batch = _CompactRows(loggers=loggers, task_run_ids=task_runs)
    base = lines[0][0]
    batch.base_time.seconds, rest = divmod(base, 1_000_000)
    batch.base_time.nanos = rest * 1000
    add = batch.rows.add
    for micros, level, logger, message, task_run_id, _ in lines:
        add(
            time=micros - base,
            level=level,
            logger=loggers[logger],
            message=message,
            task_run=task_runs[task_run_id],
        )
    packed: bytes = batch.SerializeToString()
    return packed


def _read_compact_rows(data: bytes) -> object:
    batch = _CompactRows.FromString(data)
    loggers, task_runs = len(batch.loggers), len(batch.task_run_ids)
    _check(all(len(id_) == 36 for id_ in batch.task_run_ids))
    for row in batch.rows:
        _check(len(row.message) <= _MAX_MESSAGE and row.level <= _MAX_LEVEL)
        _check(row.logger < loggers and row.task_run <= task_runs and -_SPAN < row.time < _SPAN)
    return batch


# --- columns --------------------------------------------------------------------------------------


def _pack_columns(lines: Sequence[Line]) -> bytes:
    return log_columns.pack(lines).SerializeToString()


def _read_columns(data: bytes) -> object:
    batch = log_pb2.LogColumns.FromString(data)
    log_columns.validate(batch)
    _check(max(map(len, batch.messages)) <= _MAX_MESSAGE)
    _check(min(batch.time_offsets_us) > -_SPAN and max(batch.time_offsets_us) < _SPAN)
    _check(all(len(id_) == 36 for id_ in batch.task_run_ids))
    return batch


def _check(holds: bool) -> None:
    if not holds:
        raise ValueError("A record is malformed.")


LAYOUTS = (
    Layout("rows", _pack_rows, _read_rows),
    Layout("compact rows", _pack_compact_rows, _read_compact_rows),
    Layout("columns", _pack_columns, _read_columns),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a layout costs for each line: microseconds and bytes."""

    pack_us: Spread
    read_us: Spread
    wire_bytes: float
    stored_bytes: float


def compare(rounds: int = _ROUNDS) -> tuple[dict[str, Measured], str]:
    """Measure each layout, in turns; answer also where the lines came from."""
    source = LogLines(seed=1)
    times: dict[tuple[str, str], list[float]] = {}
    sizes: dict[str, list[tuple[int, int]]] = {layout.name: [] for layout in LAYOUTS}
    compress = zstandard.ZstdCompressor(level=3, write_checksum=True).compress
    for _ in range(rounds):
        lines = source.take(_LINES)
        for layout in LAYOUTS:
            packed, pack = _timed(layout.pack, lines)
            _, read = _timed(layout.read, packed)
            times.setdefault((layout.name, "pack"), []).append(pack)
            times.setdefault((layout.name, "read"), []).append(read)
            sizes[layout.name].append((len(packed), len(compress(packed))))
    count = rounds * _LINES
    return {
        name: Measured(
            Spread.of(times[name, "pack"]),
            Spread.of(times[name, "read"]),
            sum(wire for wire, _ in measured) / count,
            sum(stored for _, stored in measured) / count,
        )
        for name, measured in sizes.items()
    }, source.source


def _timed(work: Callable[[Any], Any], argument: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    for _ in range(_PASSES):
        result = work(argument)
    return result, (time.perf_counter() - began) / _PASSES / _LINES * 1e6


def main() -> None:
    """Print the comparison."""
    measured, source = compare()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layout")
    for column in ("pack, us", "decode and check, us", "wire, bytes", "stored, bytes"):
        table.add_column(column, justify="right")
    for name, costs in measured.items():
        table.add_row(
            name,
            _shown(costs.pack_us),
            _shown(costs.read_us),
            f"{costs.wire_bytes:.1f}",
            f"{costs.stored_bytes:.1f}",
        )
    console = Console()
    console.print(table)
    console.print(f"For each line, in batches of {_LINES:,}; {source}.")


def _shown(spread: Spread) -> str:
    return f"{spread.median:.3f} ({spread.low:.3f}-{spread.high:.3f})"


if __name__ == "__main__":
    main()
